"""A checkpoint: what a cube and its access log were at a moment, signed, to be kept elsewhere.

A chain of hashes shows what was edited in it, but not that its end was cut off or that the whole folder was put back
to an earlier day. A checkpoint says how many lines there were, the hash of the last one, and which version was current;
who keeps one can see both. It is signed with the key of who made it, so it may be kept where others can write.

Knows versions and logs; knows nothing of what to make of a difference.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from memos_cli.cube.digest import canonical
from memos_cli.errors import Damaged
from memos_cli.infrastructure import identity, trail
from memos_cli.infrastructure.versions import current_version, locate

FORMAT = "memos-checkpoint-1"
LIMIT_BYTES = 64 << 10
# Signed before the text itself, so that a signature of something else by the same key is never taken for one of this.
_DOMAIN = b"memos-checkpoint-1\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The version and the end of the log at `time`, and who says so.

    `lines` are those of the log, `head` the hash of the last one (64 zeros for none). `public_key` and `signature` are
    hex; the signature is of all other fields.
    """

    format: str
    cube_id: str
    version: int
    digest: str
    lines: int
    head: str
    time: str
    key: str
    public_key: str
    signature: str

    @property
    def is_signed(self) -> bool:
        """Whether the signature is of these fields, by the key whose fingerprint they name."""
        try:
            public, signature = bytes.fromhex(self.public_key), bytes.fromhex(self.signature)
        except ValueError:
            return False
        return identity.fingerprint_of(public) == self.key and identity.is_signed(public, signature, _signed(self))


def make(root: Path, *, home: Path) -> Checkpoint:
    """A checkpoint of the cube at `root` as it is now, signed by the key of `home`. Raises NotFound, Damaged."""
    root = locate(root)
    # The log first: lines that come meanwhile are of this version or later ones, never the other way round.
    lines, head = trail.head(trail.path_of(root))
    version = current_version(root)
    public = identity.public_key(home)
    unsigned = Checkpoint(
        format=FORMAT,
        cube_id=version.manifest.cube_id,
        version=version.number,
        digest=version.digest,
        lines=lines,
        head=head,
        time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        key=identity.fingerprint_of(public),
        public_key=public.hex(),
        signature="",
    )
    signature = identity.sign(home, _signed(unsigned))
    return Checkpoint(**{**asdict(unsigned), "signature": signature.hex()})


def encode(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint's file: one line of canonical JSON."""
    return canonical(asdict(checkpoint)) + b"\n"


def decode(data: bytes, *, place: str) -> Checkpoint:
    """The checkpoint in the bytes of a file; its signature is looked at by `is_signed`. Raises Damaged."""
    names = {field.name: field.type for field in fields(Checkpoint)}
    try:
        value = json.loads(data) if len(data) <= LIMIT_BYTES else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise Damaged(f"{place}: expected a checkpoint, {FORMAT}", hint="memos audit CUBE --checkpoint FILE writes one")
    if value.keys() != names.keys():
        odd = ", ".join(sorted(map(str, value.keys() ^ names.keys())))
        raise Damaged(f"{place}: expected the fields of a checkpoint, these are missing or too many: {odd:.200}")
    for name, kind in names.items():
        wanted = int if kind == "int" else str
        if type(value[name]) is not wanted or (wanted is int and value[name] < 0):
            raise Damaged(f"{place}: expected {name} to be {kind}, found {value[name]!r:.80}")
    return Checkpoint(**value)


def _signed(checkpoint: Checkpoint) -> bytes:
    said = asdict(checkpoint)
    del said["signature"]
    return _DOMAIN + canonical(said)
