"""What is tidied up: leavings of interrupted work, and versions past their keeping.

There is no journal. Whatever `current` does not reach was never published, so it can go. Functions whose
names begin with `_` expect the writer's lock to be held.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from memos_cli.cube.digest import MANIFEST_NAME
from memos_cli.errors import MemosError, Usage
from memos_cli.infrastructure import disk, drops, faults, locks
from memos_cli.infrastructure.marks import find_mark
from memos_cli.infrastructure.versions import (
    STAGING,
    TAGS,
    VERSIONS,
    current_name,
    locate,
    read_version,
    tag_target,
    version_names,
    version_number,
)

KEEP_VERSIONS = 10
POINTER_NAME = ".current.new"
CREATING_NAME = "creating"
TRASH_PREFIX = "trash-"


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a recovery removed: names below staging/, names below versions/, drafts kept for resuming."""

    staging: tuple[str, ...]
    versions: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed (or would): version numbers and bytes given back; `held` are spared for readers."""

    removed: tuple[int, ...]
    bytes: int
    held: tuple[int, ...]


def recover(root: Path, *, lock_timeout: float = locks.TIMEOUT_SECONDS) -> Cleaned:
    """Remove what interrupted writers left; drafts that can still be resumed stay. Raises Locked."""
    root = locate(root)
    with disk.guard(root), locks.writing(root, operation="recover", timeout_seconds=lock_timeout):
        return _recover(root)


def sweep(
    root: Path, *, keep: int = KEEP_VERSIONS, dry_run: bool = False, lock_timeout: float = locks.TIMEOUT_SECONDS
) -> Swept:
    """Remove all but the newest `keep` versions and the tagged ones, sparing those that are being read.

    With `dry_run` nothing is removed and no lock is taken. Raises Usage when `keep` is below 1, Locked.
    """
    if keep < 1:
        raise Usage(f"expected at least 1 version to keep, found {keep}", hint="memos gc --keep 10")
    root = locate(root)
    if dry_run:
        doomed = _doomed(root, keep)
        return Swept(
            removed=tuple(map(version_number, doomed)),
            bytes=_freed_bytes(root / VERSIONS / name for name in doomed),
            held=(),
        )
    with disk.guard(root), locks.writing(root, operation="gc", timeout_seconds=lock_timeout):
        _recover(root)
        return _sweep(root, keep)


def leftovers(root: Path, current: str) -> Cleaned:
    """What a recovery would remove and keep, when `current` names the current version; changes nothing."""
    past = [n for n in version_names(root) if n != current and version_number(n) >= version_number(current)]
    drafts = sorted(_list(root / STAGING))
    base = _digest_or_nothing(root / VERSIONS / current) if drafts else ""
    kept = [
        name
        for name in drafts
        if not name.startswith(TRASH_PREFIX) and find_mark(root / STAGING / name, base) is not None
    ]
    return Cleaned(staging=tuple(name for name in drafts if name not in kept), versions=tuple(past), kept=tuple(kept))


def temporaries(root: Path) -> list[Path]:
    """What writes that were cut short left at the root and among the tags."""
    return [folder / name for folder in (root, root / TAGS) for name in _list(folder) if is_temporary(name)]


def _recover(root: Path) -> Cleaned:
    found = leftovers(root, current_name(root))
    for name in found.versions:
        disk.remove_tree(root / VERSIONS / name)
    for name in found.staging:
        disk.remove_tree(root / STAGING / name)
    for place in temporaries(root):
        disk.remove_tree(place)
    drops.finish(root)
    faults.point("recovered")
    return found


def _digest_or_nothing(path: Path) -> str:
    """The digest of a version, or "" for one whose manifest is damaged: no draft can go on from that."""
    try:
        return read_version(path).digest
    except MemosError:
        return ""


def is_temporary(name: str) -> bool:
    """Whether a name at the root or among the tags is that of a write under way, or cut short."""
    return name == POINTER_NAME or (name.startswith(".") and name.endswith(".tmp"))


def _sweep(root: Path, keep: int) -> Swept:
    doomed = _doomed(root, keep)
    trash = {name: _put_away(root, name) for name in doomed}
    gone = {name: place for name, place in trash.items() if place is not None}
    freed = _freed_bytes(gone.values())
    if gone:
        # The renames come first for good: a version must not come back with half of its files.
        disk.sync(root / VERSIONS)
        disk.sync(root / STAGING)
    for place in gone.values():
        disk.remove_tree(place)
        faults.point("sweep_removed")
    held = [name for name in doomed if name not in gone]
    return Swept(tuple(map(version_number, gone)), freed, tuple(map(version_number, held)))


def _doomed(root: Path, keep: int) -> list[str]:
    """The versions to remove, oldest first."""
    current = current_name(root)
    tagged = {tag_target(root / TAGS / name) for name in _list(root / TAGS)}
    past = [n for n in version_names(root) if version_number(n) < version_number(current)]
    return [name for name in reversed(past[keep - 1 :]) if name not in tagged]


def _put_away(root: Path, name: str) -> Path | None:
    """Move a version to staging/, where recovery would remove it too; None, and it stays, when a reader holds it."""
    path = root / VERSIONS / name
    faults.point("sweep_before")
    try:
        descriptor = os.open(path / MANIFEST_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Without a manifest nobody can hold it, and nobody can read it.
        descriptor = None
    try:
        if descriptor is not None and not locks.seize(descriptor):
            return None
        trash = root / STAGING / f"{TRASH_PREFIX}{disk.random_hex(4)}"
        os.makedirs(trash.parent, exist_ok=True)
        os.rename(path, trash)
        faults.point("sweep_moved")
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return trash


def _freed_bytes(trees: Iterable[Path]) -> int:
    """The bytes that go with these trees: of files that have no name outside them."""
    seen: dict[tuple[int, int], list[int]] = {}
    for tree in trees:
        for facts in disk.measure_tree(tree):
            count = seen.setdefault((facts.st_dev, facts.st_ino), [0, facts.st_nlink, facts.st_size])
            count[0] += 1
    return sum(size for links, all_links, size in seen.values() if links == all_links)


def _list(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
