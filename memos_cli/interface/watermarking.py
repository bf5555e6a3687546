"""What makes a copy somebody's: the stamp that says so, the canaries that do not, and the note of both in the ledger.

Both are in the copy alone, a version made beside the cube: nothing of it comes back into the cube that it is made of.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import metadata, stamp
from memos_cli.cube.digest import Entry, canonical
from memos_cli.cube.stamp import Stamp
from memos_cli.errors import Damaged, Usage
from memos_cli.infrastructure import keyring, keys, ledger, stamping, vault
from memos_cli.infrastructure.stamping import Recipient
from memos_cli.interface import embedding, frame

if TYPE_CHECKING:
    from memos_cli.cube.bundle import Layout
    from memos_cli.interface.frame import Desk, Reading
    from memos_cli.operation.canaries import Canary

# Frames of one's own, one a line, in the place of those that everybody can read.
FRAMES_FILE = "canaries.txt"
_FRAMES_LIMIT_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Mark:
    """Whom a copy is for, how many canaries it has, the frames they are made of, and the key that signs the stamp."""

    recipient: Recipient
    canaries: int
    frames: tuple[str, ...]
    key: str

    @property
    def who(self) -> str:
        """The recipient as canaries follow from it: the key where there is one, for names are spelled in many ways."""
        return self.recipient.key or self.recipient.name

    def facts(self, home: Path) -> dict[str, object]:
        """What the copy depends on besides the version that it is made of."""
        signer = keys.public(home, self.key).fingerprint
        frames = hashlib.sha256(canonical(list(self.frames))).hexdigest()[:16] if self.canaries else ""
        name, key = self.recipient.name, self.recipient.key
        return {"name": name, "key": key, "canaries": self.canaries, "frames": frames, "signer": signer}

    def suffix(self, home: Path, cube_id: str) -> str:
        """What the version of this copy ends with: another for each recipient, which tells nobody else who it is."""
        said = canonical([cube_id, *self.facts(home).values()])
        return f"for-{hmac.new(_secret(home), b'suffix' + said, hashlib.sha256).hexdigest()[:8]}"

    def grown(self, home: Path, cube_id: str) -> list[Canary]:
        """The canaries of this copy."""
        from memos_cli.operation import canaries

        return canaries.make(
            _secret(home), recipient=self.who, cube_id=cube_id, count=self.canaries, frames=self.frames
        )  # fmt: skip


def _secret(home: Path) -> bytes:
    return keyring.secret(home, ledger.KEY_FILE)


def wished(home: Path, recipient: str | None, *, canaries: int, key: str | None, forms: Sequence[str]) -> Mark | None:
    """How a copy is to be marked; None for a copy that is for nobody in particular. Raises Usage, Damaged, NotFound."""
    from memos_cli.operation.canaries import FRAMES, MOST

    if recipient is None:
        if canaries:
            raise Usage("canaries are of one recipient's copy", hint="--for NAME --canaries N")
        return None
    if not 0 <= canaries <= MOST:
        raise Usage(f"a copy has at most {MOST} canaries, found {canaries}")
    if canaries and frame.PLAINTEXT not in forms:
        raise Usage("canaries are memories, and this copy has no plaintext", hint="without --canaries")
    frames = (_own_frames(home) or FRAMES) if canaries else ()
    return Mark(stamping.recipient_of(recipient), canaries, frames, key or keys.IDENTITY)


def _own_frames(home: Path) -> tuple[str, ...]:
    from memos_cli.operation.canaries import check_frames

    path = home / FRAMES_FILE
    try:
        with open(path, "rb") as stream:
            text = stream.read(_FRAMES_LIMIT_BYTES + 1).decode("utf-8")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as error:
        raise Damaged(f"{path}: expected frames in UTF-8, found otherwise") from error
    if len(text) > _FRAMES_LIMIT_BYTES:
        raise Usage(f"{path}: expected at most {_FRAMES_LIMIT_BYTES:,} bytes")
    lines = [line.strip() for line in text.splitlines()]
    return check_frames([line for line in lines if line and not line.startswith("#")], place=str(path))


def planter(desk: Desk, seen: Reading, mark: Mark, *, cube: str) -> Callable[[Path], None] | None:
    """What plants the canaries in the table of the copy; None when there are none. Raises MissingExtra, WrongModel."""
    if not mark.canaries:
        return None
    encoder = embedding.for_cube(desk, seen.whole.embedder, spec=None, cube=cube)

    def plant(directory: Path) -> None:
        from memos_cli.operation import planting

        grown = mark.grown(desk.home, seen.cube.id)
        place = hmac.new(_secret(desk.home), b"places" + mark.who.encode(), hashlib.sha256).digest()
        odd = planting.plant(directory, grown, key=place, embedder=encoder)
        if odd:
            desk.notify(f"{odd} of {len(grown)} canaries stand among code, rows or headings, where a sentence is odd")

    return plant


def stamp_copy(desk: Desk, seen: Reading, folder: Path, mark: Mark, plaintext: Sequence[Entry]) -> None:
    """Puts the stamp into the files of the copy in `folder`; `plaintext` are the entries of its table."""
    meta = metadata.load(folder)
    made = stamping.seal(
        desk.home,
        mark.key,
        Stamp(
            recipient=mark.recipient.name, recipient_key=mark.recipient.key, cube_id=seen.cube.id, name=meta.name,
            version=meta.version, source=seen.version.digest, memories=stamp.memories_of(plaintext), public="",
        ),
    )  # fmt: skip
    stamping.put(folder, made)
    vault.write_bytes(folder / metadata.FILE, metadata.dumps(replace(meta, stamp=made)))


def note(desk: Desk, cube_id: str, image: Layout, mark: Mark) -> None:
    """Notes the copy in the ledger, before anybody can have it. Raises MemosError."""
    from memos_cli.operation import tracing

    key = _secret(desk.home)
    planted = tuple(tracing.planted(one, key=key) for one in mark.grown(desk.home, cube_id))
    copy = ledger.Copy(
        recipient=mark.recipient.name, recipient_key=mark.recipient.key, cube_id=cube_id, name=image.name,
        version=image.version, digest=image.digest, time=frame.now_text(),
        signed_by=keys.public(desk.home, mark.key).fingerprint, canaries=planted,
    )  # fmt: skip
    ledger.record(desk.home, copy)
