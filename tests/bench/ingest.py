"""What ingest costs beside the embedder alone, and whether many small commits stay flat.

The first part: 1,000 chat turns from a JSONL file into a new cube, in turns with embedding the same texts and nothing
else, each time with other texts so that nothing is remembered. The bar is 0.9 of the embedder's own turns a second.
Words alone (`--embedder none`) are told beside it.

The second: one memory a commit through the API, `--commits` times (200; the bar speaks of 1,000), told by quarter. A
quarter's times depend on what else the machine does meanwhile, so whether commits stay flat is asked at the end: the
cube as it was after 50 commits and as it is now get the same commits and questions in turns. The old one may take 1.5
times as long as the young one, pair by pair, and its median commit 100 ms. Compaction is part of the commits it falls
on, so the median tells the commit and the mean what it costs in the long run. A commit waits for about 27 syncs, so on
a disk that others use its CPU time tells more. The last line is JSON.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memos_cli.interface import api
from memos_cli.runtime.embed import open_embedder
from tests.bench import timing
from tests.bench.timing import Bar, Spread
from tests.bench.turns import Turn, source_name, turns

TURNS, PAIRS, COMMITS = 1000, 5, 200
FIRST, EARLY, BESIDE = 100, 50, 68  # memories at first, commits of the young cube, commits beside each other
QUESTION = "what did they say about the painting?"


def varied(said: list[Turn], lap: int) -> list[Turn]:
    """The same turns with another first word, so that no text was embedded before."""
    return [Turn(t.conversation, t.ref, t.session, t.time, t.speaker, f"Lap {lap}: {t.text}") for t in said]


def ingest_once(folder: Path, said: list[Turn], lap: int, *, embedder: str) -> float:
    """Seconds of one ingest into a new cube."""
    source = folder / f"{embedder}-{lap}.jsonl"
    source.write_text("".join(turn.line() for turn in said), encoding="utf-8")
    begin = time.perf_counter()
    api.ingest(folder / f"{embedder}-{lap}.cube", [source], embedder=embedder, home=folder / "home")
    return time.perf_counter() - begin


def throughput(folder: Path, *, number: int, pairs: int) -> tuple[dict[str, Any], Bar]:
    """Turns a second of ingest, of the embedder alone, and of ingest by words."""
    said = turns(number)
    encoder = open_embedder("minilm", home=folder / "home")
    assert encoder is not None
    ingest_once(folder, said[:50], -1, embedder="minilm")
    both, words = [], []
    for lap in range(pairs):
        fresh = varied(said, lap)

        def embed(texts: list[str]) -> float:
            begin = time.perf_counter()
            encoder.embed(texts)
            return time.perf_counter() - begin

        texts = [turn.text for turn in fresh]
        if lap % 2:
            alone = embed(texts)
            whole = ingest_once(folder, fresh, lap, embedder="minilm")
        else:
            whole = ingest_once(folder, fresh, lap, embedder="minilm")
            alone = embed(texts)
        both.append((alone, whole))
        words.append(ingest_once(folder, fresh, lap, embedder="none"))
    share = statistics.median(timing.ratios(both))
    told = {
        "embedder turns/s": Spread.of([number / alone for alone, _ in both], digits=1),
        "ingest turns/s": Spread.of([number / whole for _, whole in both], digits=1),
        "ingest by words turns/s": Spread.of([number / each for each in words], digits=0),
        "share of the embedder": round(share, 3),
    }
    return told, Bar("ingest's share of the embedder's throughput", round(share, 3), 0.9, least=True)


@dataclass(slots=True)
class Laps:
    """Milliseconds of commits and queries of one cube by the clock, of commits also of this process's own work."""

    cube: Path
    home: Path
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    query: list[float] = field(default_factory=list)

    def commit(self, source: Path) -> None:
        """Ingests one source."""
        wall, cpu = time.perf_counter(), time.process_time()
        api.ingest(self.cube, [source], home=self.home)
        self.wall.append(1000 * (time.perf_counter() - wall))
        self.cpu.append(1000 * (time.process_time() - cpu))

    def ask(self) -> None:
        """Asks the question, the second time with the clock."""
        self.query += [
            1000 * s for s in timing.measure(lambda: api.query(self.cube, QUESTION, home=self.home), times=1)
        ]

    def told(self) -> dict[str, Any]:
        """All three, the means of commits, which hold what falls on few of them, and what is on disk."""
        kinds = {"commit ms": self.wall, "commit CPU ms": self.cpu, "query ms": self.query}
        means = {"mean": self.wall, "mean CPU": self.cpu}
        files = [path.stat().st_size for path in (self.cube / "current").resolve().rglob("*") if path.is_file()]
        return {
            **{name: Spread.of(each, digits=1) for name, each in kinds.items() if each},
            **{name: round(statistics.mean(each), 1) for name, each in means.items()},
            "files": len(files),
            "MB": round(sum(files) / 1e6, 2),
        }


def small_commits(folder: Path, count: int) -> tuple[list[dict[str, Any]], list[Bar]]:
    """One memory a commit, told by quarter; then the same commits to the young cube and the old one, in turns."""
    home, cube = folder / "home", folder / "small.cube"
    said = turns(FIRST + count + BESIDE)
    ingest_once(folder, said[:FIRST], 0, embedder="none")
    (folder / "none-0.cube").rename(cube)
    young, old = Laps(folder / "young.cube", home), Laps(cube, home)
    rows, quarter, laps = [], max(1, count // 4), Laps(cube, home)
    for number, source in enumerate(single_sources(folder, said[FIRST:]), 1):
        if number > count:
            commit_beside(source, young, old, number)
            continue
        laps.commit(source)
        if number == min(EARLY, count):
            shutil.copytree(cube, young.cube, symlinks=True)
        if number % 5 == 0:
            laps.ask()
        if number % quarter == 0:
            rows.append({"commits": number, **laps.told()})
            laps = Laps(cube, home)
    rows += [{"commits": "young", **young.told()}, {"commits": "old", **old.told()}]
    return rows, compare(young, old)


def compare(young: Laps, old: Laps) -> list[Bar]:
    """What the old cube may take, beside the young one and by itself."""
    kinds = {"commit ms": "wall", "commit CPU ms": "cpu", "query ms": "query"}
    bars = []
    for told, kind in kinds.items():
        pairs = list(zip(getattr(old, kind), getattr(young, kind), strict=True))
        bars.append(Bar(f"{told}, old cube over young", round(statistics.median(timing.ratios(pairs)), 2), 1.5))
    return [*bars, Bar("commit ms, old cube", round(statistics.median(old.wall), 1), 100)]


def single_sources(folder: Path, said: list[Turn]) -> Iterator[Path]:
    """A file for each turn."""
    for number, turn in enumerate(said, 1):
        source = folder / f"one-{number}.jsonl"
        source.write_text(turn.line(), encoding="utf-8")
        yield source


def commit_beside(source: Path, young: Laps, old: Laps, number: int) -> None:
    """The same source into both cubes, every other time in the other order."""
    for laps in (young, old) if number % 2 else (old, young):
        laps.commit(source)
        if number % 4 == 0:
            laps.ask()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--commits", type=int, default=COMMITS, help="0 leaves this part out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        told, bar = throughput(folder, number=given.turns, pairs=given.pairs)
        timing.say(f"{given.turns} turns of {source_name()}, median (least..p90) of {given.pairs}")
        timing.table([{"what": name, "value": value} for name, value in told.items()])
        rows, bars = small_commits(folder, given.commits) if given.commits else ([], [])
        timing.table(rows)
    timing.finish("ingest", {**told, "small_commits": rows}, bars=[bar, *bars])


if __name__ == "__main__":
    main()
