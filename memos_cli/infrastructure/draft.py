"""A change in the making: a clone of a version, worked on in staging/, then published whole or not at all.

The order of a commit: hash and sync each new file, write and sync MANIFEST.json, sync the folders bottom-up,
rename to versions/, sync versions/, swap `current` by a rename (the commit point), sync the root. Functions
here expect the writer's lock to be held.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.cube.digest import MANIFEST_NAME, Entry, Manifest, build, digest_of, hash_file, is_safe_path
from memos_cli.errors import Damaged, MemosError
from memos_cli.infrastructure import disk, drops, faults
from memos_cli.infrastructure.marks import TREE, Marks
from memos_cli.infrastructure.recovery import (
    POINTER_NAME,
    _recover,
    _sweep,
)
from memos_cli.infrastructure.versions import CURRENT, STAGING, VERSIONS, Stamp, Version, stat_files, version_name


class Known(NamedTuple):
    """A file that the base version holds already, and its time of change when the draft was opened."""

    entry: Entry
    mtime_ns: int


class Lineage(NamedTuple):
    """Where the next version stands: the cube, its number, the digest of the version before it."""

    cube_id: str
    number: int
    parent: str | None


Inventory = dict[tuple[int, int], Known]


class Draft:
    """A working copy of a version; `path` is the tree to change, through `disk.write_bytes` or new files only.

    `progress` is what an interrupted run noted at its last checkpoint, or None; `keep` may be set before the
    commit: how many versions survive the sweep that follows it (None: no sweep), and `drops`, what goes with it.
    """

    def __init__(
        self, root: Path, *, base: Version, lineage: Lineage, stamp: Stamp, key: str, resumable: bool, keep: int | None
    ) -> None:
        self.root = root
        self.base = base
        self.progress: dict[str, Any] | None = None
        self.path = root / STAGING / key / TREE
        self._lineage = lineage
        self._stamp = stamp
        self._resumable = resumable
        self.keep = keep
        # Names of versions, and of what a migration left, that must go with this commit.
        self.drops: tuple[str, ...] = ()
        self._published: Version | None = None
        self._known = take_inventory(base)
        self._marks = Marks(self.path.parent, base=lineage.parent or "", durable={inode for _, inode in self._known})

    def open(self) -> None:
        """Lay out the tree: as it was at the last checkpoint, or else as it is in the base version."""
        mark = None
        if self._resumable:
            mark = self._marks.take_up()
        else:
            disk.remove_tree(self.path.parent)
        os.makedirs(self.path)
        if mark is None:
            disk.link_tree(self.base.path, self.path, [entry.path for entry in self.base.manifest.files])
        else:
            self.progress = mark.progress
            disk.link_tree(mark.tree, self.path, disk.inodes(mark.tree))
        faults.point("cloned")

    def checkpoint(self, progress: Mapping[str, Any]) -> None:
        """Make all that was written so far survive an interruption, with `progress` (JSON) beside it.

        A later draft with the same `resume` key finds both, as long as no other version was published. Costs
        what is new since the checkpoint before.
        """
        with disk.guard(self.root):
            self._marks.save(progress)

    def commit(self, summary: Mapping[str, Any] | None = None) -> Version:
        """Publish the tree as the next version and sweep old ones; raises MemosError and leaves no trace otherwise."""
        if self._published is not None:
            raise MemosError(f"version {self._published.number} is published; open a new draft for more")
        said = dict(summary or {})
        if gone := sorted({*self.drops, *drops.pending(self.root)}):
            said[drops.KEY] = gone
        with disk.guard(self.root):
            self._published = publish(
                self.root, self.path, known=self._known, lineage=self._lineage, stamp=self._stamp, summary=said
            )
        # The change is done; what a sweep cannot remove now, the next one will.
        with suppress(OSError, MemosError):
            disk.remove_tree(self.path.parent)
            if gone:
                _recover(self.root)
            if self.keep is not None:
                _sweep(self.root, self.keep)
        return self._published

    def discard(self) -> None:
        """Give up the checkpoints too: nothing of this draft is to be taken up again."""
        self._resumable = False

    def close(self) -> None:
        """Remove the working copy; without a commit the checkpoint stays, when the draft can be resumed."""
        if self._published is not None:
            return
        # What cannot be removed now (a full or failing disk) is removed by the next writer.
        with suppress(OSError, MemosError):
            disk.remove_tree(self.path if self._resumable else self.path.parent)
            _recover(self.root)


def take_inventory(version: Version) -> Inventory:
    """The files of a version by device and inode; raises Damaged when one is not as its manifest says."""
    facts = stat_files(version)
    return {
        (facts[entry.path].st_dev, facts[entry.path].st_ino): Known(entry, facts[entry.path].st_mtime_ns)
        for entry in version.manifest.files
    }


def publish(
    root: Path, tree: Path, *, known: Inventory, lineage: Lineage, stamp: Stamp, summary: Mapping[str, Any]
) -> Version:
    """Make `tree` the current version of the cube; raises Damaged for what a version may not hold, OSError."""
    faults.point("sealing")
    entries = seal(tree, known)
    faults.point("sealed")
    manifest = build(
        entries,
        cube_id=lineage.cube_id,
        version=lineage.number,
        parent=lineage.parent,
        operation=stamp.operation,
        actor=stamp.actor,
        time=stamp.time,
        reason=stamp.reason,
        summary=summary,
    )
    data = manifest.to_bytes()
    _write_manifest(tree, data)
    disk.sync_folders(tree)
    faults.point("dirs_synced")
    name = version_name(lineage.number, digest_of(data))
    _move_in(root, tree, name)
    _point_to(root, name)
    return Version(number=lineage.number, digest=digest_of(data), path=root / VERSIONS / name, manifest=manifest)


def seal(tree: Path, known: Inventory) -> list[Entry]:
    """An entry for every file of `tree`; files that the base version has not are hashed, synced and made read-only.

    Raises Damaged for a file the base version shares that was changed in place, and for unsafe names.
    """
    entries, fresh = [], []
    for path, facts in disk.walk_files(tree):
        if not is_safe_path(path) or path == MANIFEST_NAME:
            raise Damaged(f"expected a safe file name in a cube, found {path!r:.200}")
        old = known.get((facts.st_dev, facts.st_ino))
        if old is None:
            fresh.append(path)
        elif (facts.st_size, facts.st_mtime_ns) != (old.entry.size, old.mtime_ns):
            raise Damaged(
                f"{path} was changed in place, and so in every version that shares it",
                hint="take the cube from a copy; files of a cube must be replaced, never opened for writing",
            )
        else:
            entries.append(Entry(path=path, size=old.entry.size, sha256=old.entry.sha256))
    return entries + disk.in_threads(lambda path: _seal_new(tree / path, path), fresh)


def _seal_new(file: Path, path: str) -> Entry:
    facts = os.lstat(file)
    os.chmod(file, facts.st_mode & 0o444)
    sha256 = hash_file(file)
    disk.sync(file)
    return Entry(path=path, size=os.lstat(file).st_size, sha256=sha256)


def _write_manifest(tree: Path, data: bytes) -> None:
    path = tree / MANIFEST_NAME
    disk.write_bytes(path, data, durable=True)
    os.chmod(path, os.lstat(path).st_mode & 0o444)
    faults.point("manifest_written")


def _move_in(root: Path, tree: Path, name: str) -> None:
    os.rename(tree, root / VERSIONS / name)
    faults.point("published")
    disk.sync(root / VERSIONS)
    faults.point("versions_synced")


def _point_to(root: Path, name: str) -> None:
    pointer = root / POINTER_NAME
    disk.remove_tree(pointer)
    os.symlink(f"{VERSIONS}/{name}", pointer)
    faults.point("pointer_written")
    os.replace(pointer, root / CURRENT)
    try:
        faults.point("committed")
        disk.sync(root)
        faults.point("root_synced")
    except OSError as error:
        # Past the commit point nothing is taken back, and nobody should be told that it was.
        raise MemosError(
            f"{VERSIONS}/{name} of {root} is published, but the disk did not confirm it: {error}",
            hint=f"memos audit {root} --deep",
        ) from error


def next_lineage(manifest: Manifest, digest: str) -> Lineage:
    """Where the version after this one stands."""
    return Lineage(cube_id=manifest.cube_id, number=manifest.version + 1, parent=digest)
