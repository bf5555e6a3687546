"""Many at once: readers never fail, never see half of a version, and never keep the writers from writing."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memos_cli.operation.audit import audit
from tests.torture import jobs
from tests.torture.nest import Nest


def crowd(nest: Nest, folder: Path, *, readers: int, writers: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Runs readers and writers side by side; what each said, by kind."""
    cube = folder / "a.cube"
    jobs.add(str(cube), "first pair 0 left", "first pair 0 right")
    started = [("read_pairs", f"reader{n}") for n in range(readers)] + [
        ("write_pairs", f"writer{n}") for n in range(writers)
    ]
    running = [
        nest.start(job, cube=str(cube), name=name, journal=str(folder / f"{name}.jsonl"), seconds=seconds)
        for job, name in started
    ]
    assert [nest.wait(pid) for pid in running] == [0] * len(running)
    lines = [line for _, name in started for line in jobs.read_journal(folder / f"{name}.jsonl")]
    texts = set(jobs.live(str(cube)))
    wrote = [line for line in lines if line["kind"] == "wrote"]
    assert len(texts) == 2 + 2 * len(wrote)
    assert not audit(cube, deep=True).findings
    return {kind: [line for line in lines if line["kind"] == kind] for kind in ("read", "wrote", "error")}


def check(told: dict[str, list[dict[str, Any]]]) -> None:
    assert told["error"] == []
    assert told["read"]
    assert told["wrote"]
    assert not [line for line in told["read"] if line["torn"]]
    assert not [line for line in told["read"] if not line["hits"]]


@pytest.mark.long
def test_a_few_at_once(nest: Nest, tmp_path: Path) -> None:
    check(crowd(nest, tmp_path, readers=2, writers=1, seconds=2))


@pytest.mark.slow
def test_eight_readers_and_two_writers_for_a_minute(
    nest: Nest, tmp_path: Path, figure: Callable[[str], None], scaled: Callable[[int], int]
) -> None:
    seconds = max(10, scaled(60))
    told = crowd(nest, tmp_path, readers=8, writers=2, seconds=seconds)
    check(told)
    assert len({line["writer"] for line in told["wrote"]}) == 2
    figure(
        f"8 readers, 2 writers, {seconds} s: {len(told['read'])} reads ({_times(told['read'])}), "
        f"{len(told['wrote'])} versions ({_times(told['wrote'])}), 0 errors, 0 torn"
    )


def _times(lines: list[dict[str, Any]]) -> str:
    seconds = sorted(line["seconds"] for line in lines)
    late = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
    return f"median {statistics.median(seconds) * 1000:.0f} ms, p99 {late * 1000:.0f} ms"
