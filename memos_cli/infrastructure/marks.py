"""Checkpoints of a draft: its tree as it was at a moment, and what the writer noted, both safe against a power cut.

A mark is a folder of hard links beside the tree. The two newest are kept: the next one is made of the older of
them, by the difference only, so that a checkpoint costs what is new and not what is there. A mark counts from the
moment it has its number; until then the one before it does. Expects the writer's lock to be held.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.infrastructure import disk, faults

TREE = "tree"
_PREFIX = "mark-"
_UNFINISHED = "unfinished"
_NOTE = "progress.json"


class Mark(NamedTuple):
    """A checkpoint: its number, where its files lie, and what the writer noted."""

    number: int
    tree: Path
    progress: dict[str, Any]


def find_mark(draft: Path, base: str) -> Mark | None:
    """The newest checkpoint of a draft that was made on the version with digest `base`."""
    try:
        names = sorted((name for name in os.listdir(draft) if name.startswith(_PREFIX)), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for name in names:
        try:
            found = json.loads((draft / name / _NOTE).read_bytes())
            number = int(name.removeprefix(_PREFIX))
        # A mark without a readable note was never finished.
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found.get("base") == base and isinstance(found.get("progress"), dict):
            return Mark(number, draft / name / TREE, found["progress"])
    return None


class Marks:
    """The checkpoints of one draft, in its folder."""

    def __init__(self, draft: Path, *, base: str, durable: Collection[int]) -> None:
        """`durable` are the inodes of files that the base version has, which need no sync."""
        self._draft = draft
        self._base = base
        self._durable = frozenset(durable)
        self._number = 0
        # What the newest mark and the one before it hold: inode by path, without the files that are copied.
        self._newest: dict[str, int] = {}
        self._older: dict[str, int] = {}

    def take_up(self) -> Mark | None:
        """The newest mark an interrupted run left, if any; whatever else it left is removed."""
        mark = find_mark(self._draft, self._base)
        kept = mark.tree.parent.name if mark else None
        for name in os.listdir(self._draft) if self._draft.is_dir() else []:
            if name != kept:
                disk.remove_tree(self._draft / name)
        self._number = mark.number if mark else 0
        return mark

    def save(self, progress: Mapping[str, Any]) -> None:
        """Make the draft's tree and `progress` (JSON) survive an interruption; raises OSError."""
        fresh = self._draft / _UNFINISHED
        now = disk.inodes(self._draft / TREE)
        linked = self._bring_up_to_date(fresh, now)
        note = json.dumps({"base": self._base, "progress": dict(progress)})
        disk.write_bytes(fresh / _NOTE, note.encode(), durable=True)
        disk.sync_folders(fresh)
        faults.point("checkpoint_cloned")
        self._number += 1
        os.rename(fresh, self._place(self._number))
        faults.point("checkpoint_marked")
        for folder in (self._draft, self._draft.parent, self._draft.parent.parent):
            disk.sync(folder)
        self._older, self._newest = self._newest, {p: i for p, i in now.items() if not _is_copied(p)} if linked else {}
        faults.point("checkpoint_swapped")

    def _place(self, number: int) -> Path:
        return self._draft / f"{_PREFIX}{number:08d}"

    def _bring_up_to_date(self, fresh: Path, now: Mapping[str, int]) -> bool:
        """Make `fresh` hold the tree, out of the older mark if it can; whether links were possible throughout."""
        held = self._begin(fresh)
        for path in held.keys() | {path for path in now if _is_copied(path)}:
            if now.get(path) != held.get(path):
                with suppress(FileNotFoundError):
                    os.unlink(fresh / TREE / path)
        added = [path for path, inode in now.items() if held.get(path) != inode]
        linked = disk.link_tree(self._draft / TREE, fresh / TREE, added)
        durable = self._durable.union(self._newest.values()) if linked else frozenset[int]()
        pending = [path for path in added if _is_copied(path) or now[path] not in durable]
        disk.in_threads(lambda path: disk.sync(fresh / TREE / path), pending)
        faults.point("checkpoint_synced")
        return linked

    def _begin(self, fresh: Path) -> dict[str, int]:
        """Lay out the folder of the next mark; what it holds already."""
        disk.remove_tree(fresh)
        older = self._place(self._number - 1)
        if not self._older:
            disk.remove_tree(older)
            os.makedirs(fresh / TREE)
            return {}
        os.rename(older, fresh)
        (fresh / _NOTE).unlink()
        return self._older


def _is_copied(path: str) -> bool:
    return path.rpartition("/")[2] in disk.COPIED_NAMES
