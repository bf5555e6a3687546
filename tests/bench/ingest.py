"""What ingest costs beside the embedder alone, and whether many small commits stay flat.

The first part: 1,000 chat turns from a JSONL file into a new cube, in turns with embedding the same texts and nothing
else, each time with other texts so that nothing is remembered. The bar is 0.9 of the embedder's own turns a second.
Words alone (`--embedder none`) are told beside it. The second: one memory a commit through the API, `--commits` times
(200; the bar speaks of 1,000); the cube's query time, files and bytes of its current version are told along the way,
and the last quarter's commits and queries must take at most 1.5 times what the first quarter's did, commits 100 ms.
Compaction is part of the commits it falls on, so the median tells the commit and the mean what it costs in the long
run. A commit waits for about 27 syncs, so on a disk that others use its CPU time tells more. The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from memos_cli.interface import api
from memos_cli.runtime.embed import open_embedder
from tests.bench import timing
from tests.bench.timing import Bar, Spread
from tests.bench.turns import Turn, source_name, turns

TURNS, PAIRS, COMMITS = 1000, 5, 200
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
    """Milliseconds of some calls by the clock, and of this process's own work."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self, work: Callable[[], object]) -> None:
        """Makes the call and notes what it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(1000 * (time.perf_counter() - wall))
        self.cpu.append(1000 * (time.process_time() - cpu))

    def told(self) -> dict[str, Any]:
        """Both, and the means, which hold what falls on few of the calls."""
        spreads = {"commit ms": Spread.of(self.wall, digits=1), "commit CPU ms": Spread.of(self.cpu, digits=1)}
        means = {"mean": self.wall, "mean CPU": self.cpu}
        return {**spreads, **{name: round(statistics.mean(each), 1) for name, each in means.items()}}


def small_commits(folder: Path, count: int) -> tuple[list[dict[str, Any]], list[Bar]]:
    """One memory a commit: milliseconds of commits and queries, files and bytes, by quarter."""
    home, cube = folder / "home", folder / "small.cube"
    said = turns(count + 100)
    ingest_once(folder, said[:100], 0, embedder="none")
    (folder / "none-0.cube").rename(cube)
    rows, quarter, commits, queries = [], max(1, count // 4), Laps(), []
    for number, turn in enumerate(said[100:], 1):
        source = folder / f"one-{number}.jsonl"
        source.write_text(turn.line(), encoding="utf-8")
        commits.time(partial(api.ingest, cube, [source], home=home))
        if number % 5 == 0:
            queries += [1000 * each for each in timing.measure(lambda: api.query(cube, QUESTION, home=home), times=1)]
        if number % quarter == 0:
            files = [path.stat().st_size for path in (cube / "current").resolve().rglob("*") if path.is_file()]
            size_mb = round(sum(files) / 1e6, 2)
            told = {**commits.told(), "query ms": Spread.of(queries, digits=1), "files": len(files), "MB": size_mb}
            rows.append({"commits": number, **told})
            commits, queries = Laps(), []
    first, last = rows[0], rows[-1]
    return rows, [
        *(
            Bar(f"{what}, last quarter over first", round(last[what].median / first[what].median, 2), 1.5)
            for what in ("commit ms", "commit CPU ms", "query ms")
        ),
        Bar("commit ms, median of the last quarter", last["commit ms"].median, 100),
    ]


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
