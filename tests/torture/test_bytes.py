"""A single byte that changes, anywhere in a cube: a deep audit says so, every time."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from memos_cli.infrastructure import vault
from memos_cli.operation.audit import audit
from memos_cli.operation.convert import content_of
from tests.cube import activations
from tests.operation.test_audit import STAMP, make, row


def build(root: Path) -> Path:
    """Three versions with text and activation memory, an access log and a tag."""
    make(root, [row(1), row(2)], [row(3)])
    with vault.draft(root, stamp=STAMP) as draft:
        header = activations.header(memory=row(1)["id"], content=content_of("memory 1"))
        activations.write(draft.path / "activation", header)
        draft.commit()
    vault.tag(root, "good", 1)
    assert audit(root, deep=True).findings == ()
    return root


def change_bytes(root: Path, *, changes: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Changes one byte after another and puts it back: how often in each kind of file, and those that nobody found."""
    chance = random.Random(seed)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    files = [path for path in files if path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    for path in files:
        path.chmod(0o644)
    tried: Counter[str] = Counter()
    missed: list[str] = []
    for number in range(changes):
        # by size, and every other time by file, so that small files have their share
        (path,) = chance.choices(files, weights=sizes) if number % 2 else [chance.choice(files)]
        place = chance.randrange(path.stat().st_size)
        tried[path.suffix or path.name] += 1
        before = _swap(path, place, chance.randrange(1, 256))
        if not audit(root, deep=True).findings:
            missed.append(f"{path} at {place}")
        _put(path, place, before)
    return tried, missed


def _swap(path: Path, place: int, mask: int) -> bytes:
    before = path.read_bytes()[place : place + 1]
    _put(path, place, bytes([before[0] ^ mask]))
    return before


def _put(path: Path, place: int, byte: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, byte, place)
    finally:
        os.close(descriptor)


def test_changed_bytes_are_found(tmp_path: Path) -> None:
    tried, missed = change_bytes(build(tmp_path / "a.cube"), changes=25, seed=1)
    assert sum(tried.values()) == 25
    assert not missed


@pytest.mark.slow
def test_ten_thousand_changed_bytes_are_found(
    tmp_path: Path, figure: Callable[[str], None], scaled: Callable[[int], int]
) -> None:
    begin = time.monotonic()
    root = build(tmp_path / "a.cube")
    changes = scaled(10_000)
    tried, missed = change_bytes(root, changes=changes, seed=2)
    assert not missed
    assert audit(root, deep=True).findings == ()
    told = ", ".join(f"{kind} {count}" for kind, count in tried.most_common())
    figure(f"{changes:,} bytes changed ({told}): 0 missed; {time.monotonic() - begin:.0f} s")
