"""A newer version of a cube that was pulled: moved in beside those that are there, and made current by one rename.

Readers keep the version they hold, and until the rename the old one is current. Knows nothing of where it came from.
"""

from __future__ import annotations

import os
from pathlib import Path

from memos_cli.errors import Damaged
from memos_cli.infrastructure import disk, locks, vault
from memos_cli.infrastructure import origin as origins
from memos_cli.infrastructure.draft import _point_to
from memos_cli.infrastructure.recovery import KEEP_VERSIONS, _recover, _sweep
from memos_cli.infrastructure.versions import VERSIONS, current_name, locate, tags, version_names, version_number

TAG = "pulled"


def is_changed(root: Path) -> bool:
    """Whether the cube at `root` has got versions of its own since it came."""
    root = locate(root)
    arrived = tags(root).get(TAG)
    if arrived is None:
        return len(version_names(root)) > 1
    return arrived != version_number(current_name(root))


def mark(root: Path) -> None:
    """Notes that the current version of the cube at `root` is as it came. Raises Locked."""
    vault.tag(root, TAG)


def adopt(root: Path, fresh: Path, *, keep: int = KEEP_VERSIONS) -> None:
    """Makes the version of the cube at `fresh` the current one of the cube at `root`; `fresh` is used up.

    Raises Locked, Damaged, OSError.
    """
    root = locate(root)
    with disk.guard(root), locks.writing(root, operation="pull"):
        _recover(root)
        name = current_name(fresh)
        came = origins.read(fresh)
        if came is None:
            raise Damaged(f"expected {fresh} to tell where it came from")
        if name not in version_names(root):
            os.rename(fresh / VERSIONS / name, root / VERSIONS / name)
        disk.sync(root / VERSIONS)
        origins.write(root, came)
        _point_to(root, name)
        _sweep(root, keep)
    mark(root)
    disk.remove_tree(fresh)
