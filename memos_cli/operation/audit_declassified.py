"""The part of an audit that looks at declassifications: is each signed, by one who may, and is none gone?

A label that was lowered stands on a signature. Knows the lines from `declassified`, and of the rest of a cube only who
may lower labels in it today.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from memos_cli.cube import metadata
from memos_cli.cube.metadata import Memcube
from memos_cli.errors import MemosError
from memos_cli.infrastructure import declassified, governance
from memos_cli.infrastructure.declassified import FILE, Declassified
from memos_cli.infrastructure.identity import Actor
from memos_cli.infrastructure.versions import Version
from memos_cli.operation.findings import DAMAGE, WARNING, Finding


def check(version: Version, *, remedy: str) -> Iterator[Finding]:
    """What is wrong with the declassifications of a version; those of a key that may not lower labels among it."""
    place = version.path / FILE
    try:
        cube = metadata.load(version.path)
        for number, entry in enumerate(declassified.read(version.path, cube_id=version.manifest.cube_id), 1):
            yield from _entry(entry, cube, f"{place}:{number}", root=version.path.parent.parent)
    except (MemosError, OSError) as error:
        message = error.message if isinstance(error, MemosError) else f"cannot be read: {error.strerror}"
        yield Finding(DAMAGE, "declassified", str(place), message, remedy)


def continuity(sound: Sequence[Version]) -> Iterator[Finding]:
    """Versions in which a line is gone, or is not as it was in the version before: what was declassified stays told."""
    before: tuple[Version, bytes] | None = None
    for version in sorted(sound, key=lambda one: one.number):
        try:
            now = (version.path / FILE).read_bytes() if FILE in version.manifest.entries() else b""
        except OSError:
            continue
        if before and not now.startswith(before[1]):
            message = (
                f"lines of version {before[0].number} are gone from version {version.number}, or say something else"
            )
            remedy = f"memos log {version.path.parent.parent} tells who made version {version.number}"
            yield Finding(WARNING, "declassified-gone", str(version.path / FILE), message, remedy)
        before = version, now


def _entry(entry: Declassified, cube: Memcube, place: str, *, root: Path) -> Iterator[Finding]:
    what = f"{len(entry.memories)} memories" if entry.memories else "the cube"
    again = f"memos edit {root} {' '.join(entry.memories[:1])}".rstrip()
    raised = max(entry.was, key=metadata.SENSITIVITIES.index, default="") if _known(entry.was) else ""
    remedy = f"{again} --sensitivity {raised}" if raised else f"memos log {root} --declassified"
    if not entry.signed_by:
        message = f"{what} lowered to {entry.to!r}: not signed by the key that it names, or not for this cube"
        yield Finding(WARNING, "declassified-unsigned", place, message, remedy)
    elif not governance.decide(Actor(entry.signed_by, ""), "declassify", cube).allowed:
        message = f"{what} lowered to {entry.to!r} by {entry.signed_by}, who may not lower labels of this cube today"
        yield Finding(WARNING, "declassified-foreign", place, message, remedy)


def _known(labels: dict[str, int]) -> bool:
    return all(label in metadata.SENSITIVITIES for label in labels)
