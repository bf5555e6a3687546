"""How the benchmarks measure and tell: warm-up, repeats, median and spread, ratios pair by pair, a table, JSON.

A machine that others use too makes times long and uneven, but a moment that is slow is slow for both of two things
that are measured side by side. So a ratio is taken pair by pair, in one process, first one first and then the other,
and its median tells; CPU seconds and the least of all runs are told beside it. Standard library only.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Spread:
    """Some measurements: the median, the least and the most, and what nine of ten stay below."""

    median: float
    least: float
    p90: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float], *, scale: float = 1.0, digits: int = 3) -> Spread:
        ordered = sorted(value * scale for value in values)
        # the nearest rank: of few runs the most, never one below the median
        p90 = ordered[-(-9 * len(ordered) // 10) - 1]
        told = (statistics.median(ordered), ordered[0], p90, ordered[-1])
        return cls(*(round(value, digits) for value in told), len(ordered))


@dataclass(frozen=True, slots=True)
class Bar:
    """What was hoped for: `value` is at most (or with `least` at least) `bar`."""

    name: str
    value: float
    bar: float
    least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.bar if self.least else self.value <= self.bar


@dataclass(frozen=True, slots=True)
class Run:
    """A process that ended: its CPU and wall seconds, the most memory it held in MB, its code and what it printed."""

    cpu_s: float
    wall_s: float
    rss_mb: float
    code: int
    out: str


def measure(work: Work, *, times: int, warm: int = 1) -> list[float]:
    """Seconds of each of `times` calls, after `warm` that are not counted."""
    for _ in range(warm):
        work()
    return [_seconds(work) for _ in range(times)]


def measure_pairs(first: Work, second: Work, *, times: int, warm: int = 1) -> list[tuple[float, float]]:
    """Seconds of both, in turns, so that what slows the machine slows both; every other time in the other order."""
    for _ in range(warm):
        first()
        second()
    pairs = []
    for number in range(times):
        if number % 2:
            late, early = _seconds(second), _seconds(first)
            pairs.append((early, late))
        else:
            pairs.append((_seconds(first), _seconds(second)))
    return pairs


def _seconds(work: Work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ratios(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """How many times as long the first of each pair took as the second."""
    return [first / second for first, second in pairs]


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: str | None = None) -> Run:
    """A whole process from start to end, with what it used."""
    begin = time.perf_counter()
    source = subprocess.PIPE if stdin is not None else subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env or light()
    )
    assert process.stdout is not None
    if stdin is not None and process.stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    out = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = used.ru_utime + used.ru_stime
    return Run(cpu, time.perf_counter() - begin, used.ru_maxrss / 1024, process.returncode, out)


def light(**more: str) -> dict[str, str]:
    """This environment with one thread for every library, no network for models, and `more`."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    return {**os.environ, **one, **more}


def compile_program() -> None:
    """Byte code for the program, as installing it makes, so that no process spends its time on compiling it."""
    from compileall import compile_dir

    import memos_cli

    compile_dir(Path(memos_cli.__file__).parent, quiet=2)


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows as columns, numbers to the right."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    for line in [names, *cells]:
        padded = (
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        say("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Spread):
        return f"{value.median:g} ({value.least:g}..{value.p90:g})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def finish(name: str, result: Mapping[str, Any], *, bars: Sequence[Bar] = ()) -> None:
    """Prints what became of each bar, and as the last line everything as JSON."""
    for bar in bars:
        sign = ">=" if bar.least else "<="
        say(f"{'met   ' if bar.met else 'MISSED'}  {bar.name}: {bar.value:g}, the bar is {sign} {bar.bar:g}")
    told = {"bench": name, **result, "bars": [{**asdict(bar), "met": bar.met} for bar in bars]}
    say(json.dumps(told, default=_plain))


def _plain(value: Any) -> Any:
    return asdict(value)


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
