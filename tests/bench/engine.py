"""Ingest and convert by workers of Ray against one process in the same run, and the memory of a large ingest.

Two processors and nothing else on them are needed to tell anything. Work of `--seconds` for one process (120) is made
from how fast a little of it went; then both engines do the same work into new cubes in turns, `--pairs` times (3).
One process works on one processor, as its workers do (OMP_NUM_THREADS=1, unless it is set), and both with the same
right to it: Ray's workers are nice by 15 otherwise (RAY_worker_niceness=0, unless it is set). A time is that of the
whole command in a fresh process, from its first import to its end: so Ray's start and end count, and what each worker
imports and opens as well as what the one process does; that of a command with next to nothing to do is told beside
it for both, and the ratio without these. The bar is 1.6 of the one process's pace.

`--rows N` (0; the bar speaks of 1,000,000) ingests so many rows on Ray by words alone and samples what this process
and its largest worker hold meanwhile: the last quarter may hold 1.15 times what the second held. The last line is JSON.

    python -m tests.bench.engine                                  # both verbs, about 20 minutes
    python -m tests.bench.engine --verbs ingest --pairs 1
    python -m tests.bench.engine --verbs none --rows 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")

from memos_cli.interface import api  # noqa: E402  torch reads its threads when it is imported
from tests import clusters  # noqa: E402
from tests.bench import timing  # noqa: E402
from tests.bench.timing import Bar, Spread  # noqa: E402

WORKERS, BAR, FLAT = 2, 1.6, 1.15
WORDS = (
    *("river", "stone", "lamp", "quiet", "harbour", "engine", "copper", "letter", "winter", "garden", "market"),
    *("bridge", "window", "paper", "silver", "morning", "signal", "station", "keeper", "valley", "timber", "anchor"),
    *("record", "planet", "basket", "velvet", "hammer", "island", "cotton", "mirror"),
)


def write_notes(path: Path, rows: int, *, seed: int, words: tuple[int, int] = (8, 24)) -> Path:
    """A file with a note a line, none like another."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as out:
        for number in range(rows):
            said = " ".join(draw.choices(WORDS, k=draw.randint(*words)))
            out.write(json.dumps({"text": f"Note {seed}-{number}: {said}."}) + "\n")
    return path


@dataclass(slots=True)
class Verb:
    """A verb to measure: how to make its work for a pair, and how to do it on an engine; rows a second of a trial."""

    name: str
    prepare: Callable[[Path, int, int], Path]
    words: Callable[[Path, Path], list[str]]
    trial: int
    pairs: list[tuple[float, float]] = field(default_factory=list)


def ingest(cube: Path, source: Path) -> list[str]:
    """Notes into a new cube."""
    return ["ingest", str(cube), str(source), "--embedder", "minilm"]


def convert(cube: Path, source: Path) -> list[str]:
    """Activation memory of all notes of a cube, which is made before the clock runs."""
    return ["convert", str(cube)]


def notes(folder: Path, rows: int, seed: int) -> Path:
    return write_notes(folder / f"notes-{seed}.jsonl", rows, seed=seed)


def long_notes(folder: Path, rows: int, seed: int) -> Path:
    return write_notes(folder / f"long-{seed}.jsonl", rows, seed=seed, words=(60, 100))


VERBS = {
    "ingest": Verb("ingest", notes, ingest, 1000),
    "convert": Verb("convert", long_notes, convert, 30),
}


def timed(verb: Verb, folder: Path, source: Path, name: str, engine: api.Engine) -> float:
    """Seconds of a command on a new cube."""
    cube = folder / f"{verb.name}-{name}.cube"
    if verb.name == "convert":
        api.ingest(cube, [source], embedder="none", home=folder / "home")
    where = ["--engine", engine.name, *(["--workers", str(engine.workers)] if engine.workers else [])]
    command = [sys.executable, "-m", "memos_cli", *verb.words(cube, source), *where, "--json"]
    begin = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "MEMOS_HOME": str(folder / "home")}
    )
    return time.perf_counter() - begin


def size_for(verb: Verb, folder: Path, seconds: float) -> int:
    """How many rows one process works on for so long: from two trials, so that what each begins with is not counted.

    Two trials that another program disturbed may tell any pace: above twice that of the larger one it is not believed.
    """
    few, many = verb.trial, 3 * verb.trial
    timed(verb, folder, verb.prepare(folder, few, 900), "warm", api.Engine())
    first = timed(verb, folder, verb.prepare(folder, few, 901), "few", api.Engine())
    second = timed(verb, folder, verb.prepare(folder, many, 902), "many", api.Engine())
    return max(few, round(seconds * min((many - few) / max(second - first, 0.01), 2 * many / second)))


def compare(verb: Verb, folder: Path, *, seconds: float, pairs: int, workers: int) -> tuple[dict[str, Any], Bar]:
    """One process and workers on the same rows, in turns."""
    rows = size_for(verb, folder, seconds)
    ray = api.Engine("ray", workers)
    little = verb.prepare(folder, 2 * workers, 903)
    alone = timed(verb, folder, little, "start-one", api.Engine())
    start = timed(verb, folder, little, "start", ray)
    for number in range(pairs):
        source = verb.prepare(folder, rows, number)
        order = [("one", api.Engine()), ("ray", ray)]
        found = {
            name: timed(verb, folder, source, f"{name}-{number}", engine)
            for name, engine in (order if number % 2 == 0 else reversed(order))
        }
        verb.pairs.append((found["one"], found["ray"]))
        timing.say(f"{verb.name} {rows} rows: one process {found['one']:.1f} s, {workers} workers {found['ray']:.1f} s")
    ratio = round(statistics.median(timing.ratios(verb.pairs)), 2)
    warm = round(statistics.median((one - alone) / max(ray_s - start, 0.01) for one, ray_s in verb.pairs), 2)
    told = {
        "rows": rows,
        "one process rows/s": Spread.of([rows / one for one, _ in verb.pairs], digits=1),
        f"{workers} workers rows/s": Spread.of([rows / ray_s for _, ray_s in verb.pairs], digits=1),
        "one process s": Spread.of([one for one, _ in verb.pairs], digits=1),
        f"{workers} workers s": Spread.of([ray_s for _, ray_s in verb.pairs], digits=1),
        "with next to nothing to do, one process, s": round(alone, 1),
        "with next to nothing to do, on Ray, s": round(start, 1),
        "ratio": ratio,
        "ratio without these": warm,
    }
    return told, Bar(f"{verb.name} on {workers} workers over one process", ratio, BAR, least=True)


# --- memory of a large ingest


def held_mb(pid: int | str) -> float:
    """Resident memory of a process in MB, without pages of files and of Ray's store, which it shares."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )  # fmt: skip
    return int(fields["RssAnon"].split()[0]) / 1024


@dataclass(slots=True)
class Watch:
    """Samples of what this process and its largest worker hold, with how many rows were done by then."""

    samples: list[tuple[int, float, float]] = field(default_factory=list)
    done: int = 0
    _end: threading.Event = field(default_factory=threading.Event)

    def hear(self, done: int, total: int | None, what: str) -> None:
        """A listener to progress: rows so far are the first word."""
        first = what.split(" ")[0]
        self.done = int(first) if first.isdigit() else self.done

    def run(self) -> None:
        while not self._end.wait(0.5):
            far = [0.0]
            for pid in clusters.workers():
                try:
                    far.append(held_mb(pid))
                except (OSError, KeyError):
                    continue
            self.samples.append((self.done, held_mb("self"), max(far)))

    def stop(self) -> None:
        self._end.set()

    def quarter(self, number: int, rows: int, column: int) -> float:
        """The median of a quarter of the rows, in MB."""
        part = [one[column] for one in self.samples if (number - 1) * rows / 4 <= one[0] < number * rows / 4]
        return round(statistics.median(part), 1) if part else 0.0


def large(folder: Path, rows: int, workers: int) -> tuple[dict[str, Any], list[Bar]]:
    """Memory held while so many rows are ingested on Ray."""
    source = write_notes(folder / "large.jsonl", rows, seed=7)
    watch = Watch()
    thread = threading.Thread(target=watch.run)
    thread.start()
    begin = time.perf_counter()
    try:
        done = api.ingest(
            folder / "large.cube", [source], embedder="none", home=folder / "home", engine=api.Engine("ray", workers),
            progress=watch.hear,
        )  # fmt: skip
    finally:
        watch.stop()
        thread.join()
    seconds = time.perf_counter() - begin
    quarters = {
        who: [watch.quarter(number, rows, column) for number in (1, 2, 3, 4)]
        for who, column in (("this process", 1), ("largest worker", 2))
    }
    told = {
        "rows": done.added,
        "seconds": round(seconds, 1),
        "rows/s": round(rows / seconds),
        "MB by quarter": quarters,
        "MB at most, to the end": {
            who: round(max(one[column] for one in watch.samples), 1)
            for who, column in (("this process", 1), ("largest worker", 2))
        },
    }
    bars = [
        Bar(f"{who}: memory of the last quarter over the second", round(each[3] / max(each[1], 1), 2), FLAT)
        for who, each in quarters.items()
    ]
    return told, bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", default="ingest,convert", help="which, with commas between; none leaves them out")
    parser.add_argument("--seconds", type=float, default=120.0, help="work for one process")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--rows", type=int, default=0, help="rows of the large ingest; 0 leaves it out")
    given = parser.parse_args()
    verbs = [VERBS[name] for name in given.verbs.split(",") if name != "none"]
    told: dict[str, Any] = {}
    bars: list[Bar] = []
    for verb in verbs:
        with tempfile.TemporaryDirectory() as place:
            told[verb.name], bar = compare(
                verb, Path(place), seconds=given.seconds, pairs=given.pairs, workers=given.workers
            )
            bars.append(bar)
        timing.say(f"\n{verb.name}, median (least..p90) of {given.pairs}")
        timing.table([{"what": name, "value": value} for name, value in told[verb.name].items()])
    if given.rows:
        with tempfile.TemporaryDirectory() as place:
            told["large"], more = large(Path(place), given.rows, given.workers)
            bars += more
        timing.say(json.dumps(told["large"]))
    timing.finish("engine", told, bars=bars)


if __name__ == "__main__":
    main()
