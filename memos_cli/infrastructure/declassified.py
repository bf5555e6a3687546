"""Declassifications: who lowered which label, from what to what, when and why, signed with their key.

`declassified.jsonl` in a version has a line for each, oldest first, and goes from version to version with the rest: it
is in the manifest, so it is in the chain. A line is `record`, canonical JSON of what was done, `public_key` and
`signature` (ed25519, of the canonical bytes of `record`). That a line is sound shows that who has the key named in it
signed it; not that they should have, and not that no line was taken away: that shows against a digest from before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memos_cli.cube.digest import canonical
from memos_cli.errors import Damaged
from memos_cli.infrastructure import disk, identity

FILE = "declassified.jsonl"
LIMIT_BYTES = 64 << 20
_KEYS = {"cube", "memories", "was", "to", "reason", "actor", "time", "parent"}


@dataclass(frozen=True, slots=True)
class Declassified:
    """One lowering: of these memories, or with none of the cube itself. `was` are labels with how many had each.

    `signed_by` is the key that signed it; empty when the signature is not of these words and the key that is named.
    """

    memories: tuple[str, ...]
    was: dict[str, int]
    to: str
    reason: str
    actor: dict[str, str]
    time: str
    parent: str
    signed_by: str


def append(version: Path, record: Mapping[str, Any], *, home: Path) -> None:
    """Signs a record and puts it at the end of the file of a version that is being made."""
    public, signature = identity.public_key(home), identity.sign(home, canonical(dict(record)))
    line = canonical({"public_key": public.hex(), "record": dict(record), "signature": signature.hex()})
    path = version / FILE
    before = path.read_bytes() if path.exists() else b""
    disk.write_bytes(path, before + line + b"\n")


def carry(latest: Path, version: Path) -> None:
    """Puts the file of the latest version into one that is being made of an earlier one: nothing of it is undone."""
    if (latest / FILE).exists():
        disk.write_bytes(version / FILE, (latest / FILE).read_bytes())


def read(version: Path, *, cube_id: str) -> Iterator[Declassified]:
    """The lines of a version, oldest first, each checked. Raises Damaged for a line that is none."""
    path = version / FILE
    if not path.exists():
        return
    if path.stat().st_size > LIMIT_BYTES:
        raise Damaged(f"{path}: expected at most {LIMIT_BYTES:,} bytes")
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        yield _entry(line, cube_id=cube_id, where=f"{path}:{number}")


def _entry(line: bytes, *, cube_id: str, where: str) -> Declassified:
    try:
        value = json.loads(line)
        record, public = value["record"], bytes.fromhex(value["public_key"])
        signed = identity.is_signed(public, bytes.fromhex(value["signature"]), canonical(record))
        signer = identity.fingerprint_of(public) if signed else ""
        entry = Declassified(
            tuple(map(str, record["memories"])), {str(k): int(v) for k, v in record["was"].items()}, str(record["to"]),
            str(record["reason"]), {str(k): str(v) for k, v in record["actor"].items()}, str(record["time"]),
            str(record["parent"]), signer,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{where}: expected a signed declassification, found something else") from error
    sound = set(record) == _KEYS and record["cube"] == cube_id and signer == entry.actor.get("key")
    return entry if sound else replace(entry, signed_by="")
