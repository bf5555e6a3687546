"""Where a cube came from, and whether what is in it may be taken as its holder's own word.

`origin.json` lies at the root of a cube that was taken in: outside every version, so that it never travels and nobody
but who took the cube in can say that it is trusted. Absent from a cube that was made here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from memos_cli.cube.digest import canonical
from memos_cli.errors import Damaged
from memos_cli.infrastructure import disk

FILE = "origin.json"
_LIMIT_BYTES = 64 << 10


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


def read(root: Path) -> Origin | None:
    """Where the cube at `root` came from; None for one that was made here. Raises Damaged."""
    path = root / FILE
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


def write(root: Path, origin: Origin) -> None:
    """Notes where the cube at `root` came from."""
    disk.write_bytes(root / FILE, canonical(asdict(origin)), durable=True)
    disk.sync(root)


def trust(root: Path) -> Origin | None:
    """Marks the cube at `root` as trusted; what it was before, None for one that was made here."""
    before = read(root)
    if before is not None and not before.trusted:
        write(root, replace(before, trusted=True))
    return before
