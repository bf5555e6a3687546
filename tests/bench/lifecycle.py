"""Whether a cube that takes in and lets go all the time stays as it is: size, pace, and what it still knows.

Each simulated day brings updates: most are readings that nobody asks for again (low priority), some are new values of
a stock of facts that matter (priority 9), which supersede the old ones. The cube fades fast (`--decay 1`: what nobody
uses lives three days), and each day ends with `memos gc --prune 0`. A vault under many updates and aggressive expiry is
a stress test that the MemOS papers ask for; words and numbers are our own.

Told over time: rows, bytes of the version and of all that are kept (files that versions share count once), seconds of
taking in, of tidying up and of a query, and what is found among the first five: facts that matter by their newest
value, readings of today, and readings and values that must be gone. Seconds of the processor stand beside those of the
clock, for the machine may be busy with other things; bars of flatness are of the last third over the first, by the
processor. By words only: an embedder takes the same time for each text, whatever is in the cube. The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memos_cli.interface import api, frame
from tests.bench import timing
from tests.bench.timing import Bar

HIGH, LIVES_DAYS, K = 9, 3, 5
START = datetime(2030, 1, 1, 12, tzinfo=UTC)
_LETTERS = "bcdfghjklmnpqrstvwxz"


@dataclass(slots=True)
class Clock:
    """The seconds of some kinds of work on one day, by the wall and by the processor."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Times what is done within."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall.setdefault(kind, []).append(time.perf_counter() - wall)
        self.cpu.setdefault(kind, []).append(time.process_time() - cpu)


@dataclass(slots=True)
class Feed:
    """What comes in: readings of sensors that are never named again, and the values of a stock of lockers."""

    chance: random.Random
    per_day: int
    stock: int
    changed: int
    values: list[str] = field(default_factory=list)
    gone: list[tuple[int, str]] = field(default_factory=list)
    readings: dict[int, list[tuple[str, str]]] = field(default_factory=dict)

    def word(self) -> str:
        """A made-up name that hardly comes twice."""
        return "".join(self.chance.choices(_LETTERS, k=7)).capitalize()

    def begin(self) -> str:
        """The stock of facts that matter."""
        self.values = [self.word() for _ in range(self.stock)]
        return self.facts()

    def facts(self) -> str:
        """The facts that matter, as they are now."""
        return "".join(f"- The code of locker L{number:05} is {value}.\n" for number, value in enumerate(self.values))

    def change(self) -> str:
        """Some of them with a new value."""
        for number in self.chance.sample(range(self.stock), self.changed):
            self.gone.append((number, self.values[number]))
            self.values[number] = self.word()
        self.gone = self.gone[-500:]
        return self.facts()

    def read(self, day: int) -> str:
        """The readings of a day."""
        names = [(self.word(), self.word()) for _ in range(self.per_day - self.changed)]
        self.readings[day] = names
        self.readings.pop(day - 3 * LIVES_DAYS, None)
        return "".join(f"- The sensor {name} of hall {day % 40} reads {value} today.\n" for name, value in names)


def main() -> None:
    """Feeds a cube and prints how it was over time."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--days", type=int, default=100)
    options.add_argument("--per-day", type=int, default=1000)
    options.add_argument("--stock", type=int, default=500)
    options.add_argument("--changed", type=int, default=50)
    options.add_argument("--looks", type=int, default=10)
    options.add_argument("--asked", type=int, default=30)
    given = options.parse_args()
    with TemporaryDirectory() as folder:
        os.environ["MEMOS_HOME"] = f"{folder}/home"
        os.chdir(folder)
        feed = Feed(random.Random(7), given.per_day, given.stock, given.changed)
        rows = list(_days(feed, given.days, max(1, given.days // given.looks), given.asked))
    timing.table(rows)
    timing.finish(
        "lifecycle", {"updates": given.days * given.per_day, "stock": given.stock, "rows": rows}, bars=_bars(rows)
    )


def _days(feed: Feed, days: int, every: int, asked: int) -> Iterator[dict[str, Any]]:
    """The cube at every so many days."""
    _at(0)
    high = api.Marks(priority=HIGH)
    Path("facts.md").write_text(feed.begin())
    api.ingest("vault.cube", ["facts.md"], embedder="none", marks=high)
    api.govern("vault.cube", decay_days=1)
    clock = Clock()
    for day in range(1, days + 1):
        _at(day)
        Path("facts.md").write_text(feed.change())
        Path(f"day-{day}.md").write_text(feed.read(day))
        with clock.of("take in"):
            api.ingest("vault.cube", [f"day-{day}.md"])
            api.ingest("vault.cube", ["facts.md"], marks=high)
        with clock.of("tidy up"):
            api.gc("vault.cube", keep=2, prune_days=0)
        Path(f"day-{day}.md").unlink()
        if day == LIVES_DAYS + 1:
            # until now nothing had faded: that was the warm-up
            clock = Clock()
        if day % every == 0:
            yield _look(feed, day, clock, asked)
            clock = Clock()


def _at(day: int) -> None:
    """Sets the clock of the program."""
    frame.now = lambda: START + timedelta(days=day)  # type: ignore[assignment]


def _look(feed: Feed, day: int, clock: Clock, asked: int) -> dict[str, Any]:
    """One line of the table."""
    numbers = feed.chance.sample(range(feed.stock), asked)
    high = [(f"What is the code of locker L{one:05}?", feed.values[one]) for one in numbers]
    low = [
        (f"What does the sensor {name} read?", value) for name, value in feed.chance.sample(feed.readings[day], asked)
    ]
    dead = feed.readings.get(day - LIVES_DAYS - 1, [])
    over = [(f"What does the sensor {name} read?", value) for name, value in dead[:asked]]
    before = [(f"What is the code of locker L{one:05}?", value) for one, value in feed.gone[-asked:]]
    told = {
        "high": _found(high, clock), "low": _found(low, clock), "over": _found(over, clock),
        "superseded": _found(before, clock),
    }  # fmt: skip
    shown = api.show("vault.cube")
    return {
        "updates": day * feed.per_day, "rows": shown.memories, "version MB": round(_bytes("current/") / 1e6, 2),
        "vault MB": round(_bytes("versions") / 1e6, 2), "log MB": round(_bytes("log") / 1e6, 2),
        **{f"{kind} s": round(statistics.median(clock.wall[kind]), 2) for kind in ("take in", "tidy up")},
        **{f"{kind} cpu s": round(statistics.median(clock.cpu[kind]), 2) for kind in ("take in", "tidy up")},
        "query ms": round(1000 * statistics.median(clock.wall["query"]), 1),
        "query cpu ms": round(1000 * statistics.median(clock.cpu["query"]), 1),
        **{f"found {name}": round(share, 3) for name, share in told.items()},
    }  # fmt: skip


def _found(questions: Sequence[tuple[str, str]], clock: Clock) -> float:
    """The share of questions whose answer is among what is found."""
    hits = 0
    for text, answer in questions:
        with clock.of("query"):
            found = api.query("vault.cube", text, k=K).hits
        hits += any(answer in hit.text for hit in found)
    return hits / max(1, len(questions))


def _bytes(part: str) -> int:
    """The bytes of a part of the cube; a file that several versions share counts once."""
    files = (path.stat() for path in Path("vault.cube", part).rglob("*") if path.is_file() and not path.is_symlink())
    return sum({one.st_ino: one.st_size for one in files}.values())


def _bars(rows: Sequence[dict[str, Any]]) -> list[Bar]:
    flat: Callable[[str], float] = lambda name: round(_last_over_first(rows, name), 3)  # noqa: E731
    return [
        Bar("rows, last third over first", flat("rows"), 1.1),
        Bar("bytes of the version, last third over first", flat("version MB"), 1.1),
        Bar("bytes of the vault, last third over first", flat("vault MB"), 1.1),
        Bar("processor seconds of taking in, last third over first", flat("take in cpu s"), 1.2),
        Bar("processor seconds of tidying up, last third over first", flat("tidy up cpu s"), 1.2),
        Bar("processor seconds of a query, last third over first", flat("query cpu ms"), 1.2),
        Bar(
            "facts of high priority that are found, at worst", min(row["found high"] for row in rows), 0.99, least=True
        ),
        Bar("readings of today that are found, at worst", min(row["found low"] for row in rows), 0.95, least=True),
        Bar("readings that faded and are found, at worst", max(row["found over"] for row in rows), 0.0),
        Bar("values that were superseded and are found, at worst", max(row["found superseded"] for row in rows), 0.0),
    ]


def _last_over_first(rows: Sequence[dict[str, Any]], name: str) -> float:
    third = max(1, len(rows) // 3)
    first, last = (statistics.median(row[name] for row in part) for part in (rows[:third], rows[-third:]))
    return last / max(first, 1e-9)


if __name__ == "__main__":
    main()
