"""Cubes from elsewhere: taken apart beside their place, verified whole, and put there by one rename.

Where a cube came from stands in `origin.json` at its root: outside every version, so that it never travels and nobody
but who took it in can say that it is trusted. Knows archives by their blobs, and nothing of keys.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from memos_cli.cube import bundle
from memos_cli.cube.bundle import Contents, Fetch
from memos_cli.cube.digest import canonical, digest_of
from memos_cli.cube.oci import Descriptor
from memos_cli.errors import Damaged, MemosError, Usage
from memos_cli.infrastructure import admission, disk
from memos_cli.infrastructure.versions import CURRENT, VERSIONS, Version, read_version, version_name

ORIGIN = "origin.json"
_LIMIT_BYTES = 64 << 10
_INCOMING = "incoming"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a cube came from: the source, the package's name, version and digest, the key that signed it ("" for none).

    `holder` is the key of who took it in, whose copy it is; `trusted` says whether what is in it may be taken as their
    own word.
    """

    source: str
    name: str
    version: str
    digest: str
    key: str
    holder: str
    arrived: str
    trusted: bool = False


def read_origin(root: Path) -> Origin | None:
    """Where the cube at `root` came from; None for one that was made here. Raises Damaged."""
    path = root / ORIGIN
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        value = json.loads(data) if len(data) <= _LIMIT_BYTES else None
    except (ValueError, RecursionError):
        value = None
    kinds = {field.name: bool if field.name == "trusted" else str for field in fields(Origin)}
    if not isinstance(value, dict) or value.keys() != kinds.keys():
        raise Damaged(f"{path}: expected where the cube came from, found otherwise", hint=f"memos audit {root}")
    if any(type(value[name]) is not kind for name, kind in kinds.items()):
        raise Damaged(f"{path}: expected texts and whether it is trusted", hint=f"memos audit {root}")
    return Origin(**value)


def write_origin(root: Path, origin: Origin) -> None:
    """Notes where the cube at `root` came from."""
    disk.write_bytes(root / ORIGIN, canonical(asdict(origin)), durable=True)
    disk.sync(root)


def trust(root: Path) -> Origin | None:
    """Marks the cube at `root` as trusted; what it was before, None for one that was made here."""
    before = read_origin(root)
    if before is not None and not before.trusted:
        write_origin(root, replace(before, trusted=True))
    return before


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

    Until then nothing is at `root`, and on any error nothing of it stays. `origin` is told what came, and may refuse.
    Raises Usage when something is there, Damaged, NotAllowed, MemosError.
    """
    refuse_taken(root)
    if not root.parent.is_dir():
        raise Usage(f"expected a folder to put {root.name} into, found none at {root.parent}")
    with disk.guard(root.parent):
        temporary = root.parent / f".{root.name}.{os.getpid()}-{disk.random_hex(4)}.tmp"
        os.mkdir(temporary)
        try:
            name = _build(temporary, manifest, fetch, origin, consumed, progress)
            disk.sync_folders(temporary)
            refuse_taken(root)
            os.rename(temporary, root)
        except BaseException:
            with suppress(OSError, MemosError):
                disk.remove_tree(temporary)
            raise
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
    write_origin(temporary, told)
    return name
