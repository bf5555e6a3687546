"""Cubes from elsewhere: taken apart beside their place, verified whole, and put there by one rename.

Knows archives by their blobs, and nothing of keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from memos_cli.cube import bundle
from memos_cli.cube.bundle import Contents, Fetch
from memos_cli.cube.digest import digest_of
from memos_cli.cube.oci import Descriptor
from memos_cli.errors import Usage
from memos_cli.infrastructure import admission, claims, disk, faults
from memos_cli.infrastructure import origin as origins
from memos_cli.infrastructure.origin import Origin
from memos_cli.infrastructure.versions import CURRENT, VERSIONS, Version, read_version, version_name

_INCOMING = "incoming"


def refuse_taken(root: Path) -> None:
    """Raises Usage when something is at `root` already."""
    if os.path.lexists(root):
        raise Usage(f"there is something at {root} already", hint="name another folder, or move that one away")


def receive(
    root: Path,
    manifest: bytes,
    fetch: Fetch,
    *,
    origin: Callable[[Contents], Origin],
    consumed: Callable[[Descriptor], None] | None = None,
    progress: bundle.Progress | None = None,
) -> Version:
    """Makes a cube at `root` of an image whose blobs `fetch` finds, when all of it is what it should be.

    Until then nothing is at `root`, and on any error nothing of it stays; what a killed process left beside it on its
    way there is cleared away. `origin` is told what came, and may refuse.
    Raises Usage when something is there, Damaged, NotAllowed, MemosError.
    """
    claims.clear(root)
    refuse_taken(root)
    if not root.parent.is_dir():
        raise Usage(f"expected a folder to put {root.name} into, found none at {root.parent}")
    with disk.guard(root.parent):
        with claims.folder_beside(root) as temporary:
            name = _build(temporary, manifest, fetch, origin, consumed, progress)
            disk.sync_folders(temporary)
            refuse_taken(root)
            faults.point("arriving")
            os.rename(temporary, root)
            faults.point("arrived")
        disk.sync(root.parent)
    return read_version(root / VERSIONS / name)


def _build(
    temporary: Path,
    manifest: bytes,
    fetch: Fetch,
    origin: Callable[[Contents], Origin],
    consumed: Callable[[Descriptor], None] | None,
    progress: bundle.Progress | None,
) -> str:
    """All of the cube in the folder `temporary`; the name of its version."""
    held = bundle.contents(manifest, fetch)
    admission.check_names(held.manifest)
    told = origin(held)
    tree = temporary / VERSIONS / _INCOMING
    os.makedirs(tree)
    bundle.assemble(manifest, fetch, tree, consumed=consumed, progress=progress)
    admission.check_kinds(tree, held.manifest.files)
    admission.inspect(tree, size_bytes=held.manifest.size_bytes)
    for path, facts in disk.walk_files(tree):
        os.chmod(tree / path, facts.st_mode & 0o444)
    name = version_name(held.manifest.version, digest_of(held.raw_manifest))
    os.rename(tree, temporary / VERSIONS / name)
    os.symlink(f"{VERSIONS}/{name}", temporary / CURRENT)
    origins.write(temporary, told)
    return name
