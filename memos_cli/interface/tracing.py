"""The verb `trace` of the Memory API: whom was this copy made for?

Two things tell: a stamp, which says it openly and is verified by its signature, and canaries, which only the home that
planted them can find. They are told apart, for a stamp can be cut off or moved, and canaries can be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import stamp
from memos_cli.cube.digest import Entry
from memos_cli.infrastructure import keyring, keys, ledger, stamping, trust, vault
from memos_cli.interface import frame, leaks
from memos_cli.interface.frame import PLAINTEXT, Desk
from memos_cli.operation import tracing

if TYPE_CHECKING:
    from memos_cli.infrastructure.stamping import Seen

CUBE, PACKAGE, TEXT = "cube", "package", "text"
VERIFIED, FOREIGN, MOVED, FORGED = "verified", "foreign", "moved", "forged"


@dataclass(frozen=True, slots=True)
class StampFound:
    """A stamp, where it stands, and what it is worth.

    `standing` is `verified` (signed by a key of this home or one that it believes), `foreign` (by a key that is not
    known here), `moved` (right, but made for another table: the memories were changed, or the stamp was put there), or
    `forged` (not signed by the key it names, or no stamp at all; then it names nobody).
    """

    place: str
    standing: str
    recipient: str
    recipient_key: str
    name: str
    version: str
    key: str


@dataclass(frozen=True, slots=True)
class CopyFound:
    """A copy of this home's ledger of which canaries were found: `whole` ones, and in `part` where sentences differ.

    `versions` are those of the package that went to the same recipient with the same canaries. `chance` bounds how
    likely so many are in a text by somebody who never had a copy.
    """

    recipient: str
    recipient_key: str
    name: str
    versions: tuple[str, ...]
    planted: int
    whole: int
    part: int
    chance: float


@dataclass(frozen=True, slots=True)
class Traced:
    """Whom something was made for, as far as it can be told. `kind` is cube, package or text.

    `recipients` are those whom canaries name, the most found first; without any, those of verified stamps.
    """

    source: str
    kind: str
    recipients: tuple[str, ...]
    stamps: tuple[StampFound, ...]
    copies: tuple[CopyFound, ...]
    words: int
    compared: int


def trace(source: str | Path, *, home: Path | None = None, notify: frame.Notify | None = None) -> Traced:
    """Tells whom a cube, a package, or a file of text or JSON was made for, or taken from the copy of.

    Stamps are verified, and every word is compared with the canaries of this home's ledger. Raises NotFound, Damaged,
    NotAllowed for a cube that may not be audited, Usage for an encrypted package.
    """
    desk = frame.desk(home, notify)
    path = Path(source)
    if _is_cube(desk, source):
        with frame.reading(desk, source, "audit") as seen:
            seen.facts["trace"] = True
            stamps = _stamps(desk, stamping.find(seen.path), seen.version.manifest.files)
            return _told(desk, str(source), CUBE, stamps, leaks.of_memories(seen.whole))
    if leaks.is_package(path):
        from memos_cli.cube.plaintext import Memories

        with leaks.opened(path) as (folder, annotation):
            files = vault.read_manifest(folder).files
            stamps = _stamps(desk, stamping.find(folder, annotation=annotation), files)
            return _told(desk, str(source), PACKAGE, stamps, leaks.of_memories(Memories.open(folder / PLAINTEXT)))
    return _told(desk, str(source), TEXT, (), leaks.of_file(path))


def _is_cube(desk: Desk, source: str | Path) -> bool:
    """Whether this names a cube: a folder, or a name of one under the home that no file has."""
    path = Path(source)
    return path.is_dir() or (not path.exists() and desk.path(source).is_dir())


def _stamps(desk: Desk, found: Iterable[Seen], files: Sequence[Entry]) -> tuple[StampFound, ...]:
    believed = {key.fingerprint for key in keys.own(desk.home)}
    believed |= {one.key.fingerprint for one in trust.load(desk.home).keys}
    memories = stamp.memories_of(files)
    return tuple(_judged(one, believed, memories) for one in found)


def _judged(seen: Seen, believed: set[str], memories: str) -> StampFound:
    said = seen.stamp
    if said is None or not seen.key:
        return StampFound(seen.place, FORGED, "", "", "", "", "")
    standing = VERIFIED if seen.key in believed else FOREIGN
    standing = standing if standing == FOREIGN or said.memories == memories else MOVED
    return StampFound(
        seen.place, standing, said.recipient, said.recipient_key, said.name, said.version, seen.key
    )  # fmt: skip


def _told(desk: Desk, source: str, kind: str, stamps: tuple[StampFound, ...], texts: Iterable[str]) -> Traced:
    copies = [copy for copy in ledger.read(desk.home) if copy.canaries]
    found: list[CopyFound] = []
    words = 0
    if copies:
        key = keyring.secret(desk.home, ledger.KEY_FILE)
        hits, words = tracing.trace(texts, copies, key=key)
        found = _by_recipient(hits)
    named = [_label(one) for one in found] or [_label(one) for one in stamps if one.standing == VERIFIED]
    return Traced(source, kind, tuple(dict.fromkeys(named)), stamps, tuple(found), words, len(copies))


def _label(one: StampFound | CopyFound) -> str:
    return stamp.label_of(one.recipient, one.recipient_key)


def _by_recipient(hits: Sequence[tracing.Found]) -> list[CopyFound]:
    """One for each recipient of a cube: that of their copies which fits best, with the versions of the others."""
    groups: dict[tuple[str, str, str], list[tracing.Found]] = {}
    for hit in hits:
        groups.setdefault((hit.copy.recipient, hit.copy.recipient_key, hit.copy.cube_id), []).append(hit)
    told = []
    for same in groups.values():
        best = same[0]
        versions = tuple(dict.fromkeys(hit.copy.version for hit in same))
        told.append(
            CopyFound(
                best.copy.recipient,
                best.copy.recipient_key,
                best.copy.name,
                versions,
                best.planted,
                best.whole,
                best.part,
                best.chance,
            )  # fmt: skip
        )
    return told
