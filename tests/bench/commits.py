"""What a commit costs, and its parts: opening a draft (lock, recovery, clone) and publishing it.

A cube of 100 files gets one version after another, each with six new files and new metadata, as a small ingest
would make. The bar is 100 ms at the median; most of it is waiting for the disk (about ten syncs of files and
folders), so it tells about the disk as much as about memos. Beside it, what reading pays: holding a version, and
a line in the access log. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from memos_cli.infrastructure import trail, vault

STAMP = vault.Stamp("ingest", {"key": "ed25519:00", "user": "bench"}, "2026-01-31T12:00:00Z")
FILE_BYTES = 5_000


def fill(tree: Path, names: list[str]) -> None:
    """New files of random bytes, and the metadata."""
    (tree / "plaintext").mkdir(exist_ok=True)
    for name in names:
        vault.write_bytes(tree / "plaintext" / name, os.urandom(FILE_BYTES))
    vault.write_bytes(tree / "memcube.toml", os.urandom(500).hex().encode())


def change(root: Path, number: int) -> tuple[float, float]:
    """One commit that replaces six files by six others; (milliseconds in all, of which opening the draft)."""
    begin = time.perf_counter()
    with vault.draft(root, stamp=STAMP) as draft:
        opened = time.perf_counter()
        for old in sorted(os.listdir(draft.path / "plaintext"))[:6]:
            (draft.path / "plaintext" / old).unlink()
        fill(draft.path, [f"{number + 1:04d}-{part:02d}.lance" for part in range(6)])
        draft.commit({"added": 6})
    return (time.perf_counter() - begin) * 1e3, (opened - begin) * 1e3


def hold(root: Path) -> None:
    """What a reader does first."""
    with vault.snapshot(root):
        pass


def log(root: Path) -> None:
    """What a query writes."""
    values = {"home": root.parent, "cube_id": "bench", "actor": STAMP.actor, "verb": "query", "version": 1}
    trail.append(root, memories=["0" * 20] * 10, query="where is the key?", **values)  # type: ignore[arg-type]


def milliseconds(work: Callable[[], object], *, times: int) -> list[float]:
    """How long each of `times` runs took."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append((time.perf_counter() - begin) * 1e3)
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, and the range that nine of ten fall into."""
    ordered = sorted(values)
    at = {"p50": 0.5, "p5": 0.05, "p95": 0.95}
    return {name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 2) for name, part in at.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=100)
    count = parser.parse_args().commits
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder) / "a.cube"
        vault.create(root, stamp=STAMP, write=lambda tree: fill(tree, [f"0000-{n:02d}.lance" for n in range(99)]))
        commits = [change(root, number) for number in range(count)]
        result = {
            "files": vault.measure(root).files,
            "commit_ms": spread([whole for whole, _ in commits]),
            "open_ms": spread([opening for _, opening in commits]),
            "first_20_ms": round(statistics.median(whole for whole, _ in commits[:20]), 2),
            "last_20_ms": round(statistics.median(whole for whole, _ in commits[-20:]), 2),
            "hold_ms": spread(milliseconds(lambda: hold(root), times=100)),
            "trail_ms": spread(milliseconds(lambda: log(root), times=300)),
        }
    for name, value in result.items():
        print(f"{name:12} {value}")  # noqa: T201  a benchmark prints
    print(json.dumps({"bench": "commits", **result}))  # noqa: T201


if __name__ == "__main__":
    main()
