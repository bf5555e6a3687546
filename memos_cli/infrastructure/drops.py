"""Versions that a version says must go, since they hold what was forgotten for good.

The list stands in the summary of the manifest, under `drops`, and is so published together with the version that no
longer holds it: there is no moment at which one is there without the other. Whoever writes to the cube next finishes
what was cut short. What a reader still holds stays until it lets go, and is passed on from version to version.

Functions here expect the writer's lock to be held, but for `pending`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from memos_cli.cube.migrate import BEFORE_MIGRATION
from memos_cli.errors import MemosError
from memos_cli.infrastructure import disk, faults
from memos_cli.infrastructure.versions import (
    TAGS,
    VERSION_NAME,
    VERSIONS,
    current_name,
    read_version,
    tag_target,
    version_number,
)

KEY = "drops"


def pending(root: Path) -> tuple[str, ...]:
    """The names of what the current version says must go and is still there; nothing when it cannot be read."""
    try:
        current = current_name(root)
        said = read_version(root / VERSIONS / current).manifest.summary.get(KEY)
    except MemosError:
        return ()
    names = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    return tuple(name for name in names if _may_go(name, current) and os.path.lexists(_place(root, name)))


def _may_go(name: str, current: str) -> bool:
    """Whether this names an older version, or what a migration put aside: a list in a cube is somebody's words."""
    if name == BEFORE_MIGRATION:
        return True
    return VERSION_NAME.fullmatch(name) is not None and version_number(name) < version_number(current)


def _place(root: Path, name: str) -> Path:
    return root / name if name == BEFORE_MIGRATION else root / VERSIONS / name


def finish(root: Path) -> tuple[str, ...]:
    """Removes what must go, with the tags that lead to it; returns what a reader still holds."""
    # Imported here: recovery calls this.
    from memos_cli.infrastructure.recovery import _put_away

    names = pending(root)
    if not names:
        return ()
    _untag(root, names)
    faults.point("dropping")
    held = []
    for name in names:
        place: Path | None = root / name
        if name != BEFORE_MIGRATION:
            place = _put_away(root, name)
        if place is None:
            held.append(name)
            continue
        disk.sync(root / VERSIONS)
        disk.remove_tree(place)
        faults.point("dropped")
    return tuple(held)


def _untag(root: Path, names: Collection[str | None]) -> None:
    folder = root / TAGS
    gone = [tag for tag in (os.listdir(folder) if folder.is_dir() else []) if tag_target(folder / tag) in names]
    for tag in gone:
        (folder / tag).unlink()
    if gone:
        disk.sync(folder)
