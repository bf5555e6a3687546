"""The verbs `push` and `yank` of the Memory API: a cube or a packed file published in a store, and taken back.

What leaves passes the share gate, as with `pack`. A version is published once and never changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import archive, bundle, metadata, semver
from memos_cli.cube.metadata import Memcube
from memos_cli.cube.oci import Descriptor
from memos_cli.errors import NotAllowed, Usage
from memos_cli.infrastructure import governance, signing, trail
from memos_cli.infrastructure.store import offer, reference, transfer
from memos_cli.infrastructure.store.reference import Reference
from memos_cli.infrastructure.store.transport import Content, Progress
from memos_cli.interface import frame
from memos_cli.interface.frame import Desk
from memos_cli.interface.shipped import Pushed, Yanked
from memos_cli.interface.stores import PLAIN, Travel, is_package_file, located, spelled, travelling

if TYPE_CHECKING:
    from memos_cli.interface.packing import Wish


@dataclass(frozen=True, slots=True)
class _Asked:
    """How a cube is to be packed."""

    version: str | None
    forms: str | None
    redact: str | None
    sign: str | None
    expires_days: int
    dry_run: bool
    reason: str
    lock_timeout: float

    def wish(self) -> Wish:
        """The same as `pack` takes it. Raises Usage."""
        from memos_cli.interface.packing import Wish
        from memos_cli.operation import share

        choice = share.Choice(share.parse_forms(self.forms), self.redact and metadata.check_sensitivity(self.redact))
        return Wish(
            choice, self.version, self.sign, self.expires_days, self.dry_run, self.reason, self.lock_timeout
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Ready:
    """What will travel: a manifest, its blobs, and its signatures."""

    name: str
    version: str
    manifest: bytes
    blobs: Sequence[tuple[Descriptor, Content]]
    signatures: tuple[bytes, ...]
    key: str | None
    settled: bool = True


def push(
    source: str | Path,
    destination: str,
    *,
    version: str | None = None,
    forms: str | None = None,
    redact: str | None = None,
    sign: str | None = None,
    expires_days: int = signing.EXPIRES_DAYS,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    travel: Travel = PLAIN,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Pushed:
    """Publishes the current version of a cube, or a packed file, in a store, and tells what travelled.

    `destination` is a store, to which the cube's name is added, or the package itself; what goes in is as with `pack`.
    Raises NotAllowed without the
    right to share, Usage, StoreFailed, also when the version is published as something else.
    """
    desk = frame.desk(home, notify)
    asked = _Asked(version, forms, redact, sign, expires_days, dry_run, reason, lock_timeout)
    ready = _of_file if is_package_file(source) else _of_cube
    with ready(desk, source, destination, asked) as (parcel, goes):
        with travelling(desk, travel) as ways:
            transport = ways.package(goes, writing=True)
            signatures = offer.with_known(transport, parcel.manifest, parcel.signatures)
            box = offer.parcel(parcel.manifest, parcel.version, parcel.blobs, signatures)
            sent = transfer.push(transport, box, progress=progress, dry_run=dry_run)
        digest = sent.digest if parcel.settled else ""
        return Pushed(
            str(source), str(goes), parcel.name, parcel.version, digest, parcel.key, sent.blobs, sent.bytes,
            sent.there, dry_run,
        )  # fmt: skip


@contextmanager
def _of_cube(desk: Desk, source: str | Path, destination: str, asked: _Asked) -> Iterator[tuple[_Ready, Reference]]:
    # what packs a cube reads tables; a packed file needs none of it
    from memos_cli.interface import packing

    wish = asked.wish()
    with frame.reading(desk, source, "push") as seen, packing.prepared(desk, source, wish, to="store") as made:
        goes = reference.destination(spelled(destination), name=made.image.name, version=made.version)
        seen.facts |= {"to": str(goes), "package": made.image.digest}
        blobs = [(blob.descriptor, offer.content_of(blob.sources)) for blob in made.image.blobs]
        key = made.key.fingerprint if made.key else None
        ready = _Ready(made.image.name, made.version, made.image.manifest, blobs, made.signatures, key, made.settled)
        yield ready, goes


@contextmanager
def _of_file(desk: Desk, source: str | Path, destination: str, asked: _Asked) -> Iterator[tuple[_Ready, Reference]]:
    """A packed file: what is in it was decided when it was packed, and its maker's rules are in it."""
    if asked.sign or asked.version or asked.forms or asked.redact:
        raise Usage("what is in a packed file, and who signed it, was decided by memos pack", hint="push the cube")
    path = Path(source)
    opened = archive.open_archive(path)
    image = opened.image
    goes = reference.destination(spelled(destination), name=image.name, version=image.version)
    held = bundle.contents(opened.manifest, opened.fetch)
    rules = _rules(held, opened.fetch)
    facts = {"to": str(goes), "package": image.digest, "file": str(path)}
    with _gate(desk, path, rules, held.config.sequence, facts):
        blobs = [(blob, offer.content_of((opened.fetch(blob),))) for blob in image.blobs]
        yield _Ready(image.name, image.version, opened.manifest, blobs, opened.signatures, None), goes


def _rules(held: bundle.Contents, fetch: bundle.Fetch) -> Memcube:
    """The metadata in a package. Raises Damaged."""
    with tempfile.TemporaryDirectory() as folder:
        data = bundle.read_file(held, fetch, metadata.FILE, limit_bytes=1 << 20)
        (Path(folder) / metadata.FILE).write_bytes(data)
        return metadata.load(Path(folder))


@contextmanager
def _gate(desk: Desk, path: Path, rules: Memcube, number: int, facts: dict[str, str]) -> Iterator[None]:
    """The share gate for a package that is no cube here: asked, and in the log of the home."""
    outcome = "ok"
    try:
        governance.ask(desk.actor, "push", rules, place=str(path))
        yield
    except BaseException as error:
        outcome = "denied" if isinstance(error, NotAllowed) else type(error).__name__
        raise
    finally:
        # no cube to keep the log in: a place that is none has it go to the home
        trail.append(
            desk.home / "packages" / rules.id, home=desk.home, cube_id=rules.id,
            actor=desk.actor.as_dict(), verb="push", version=number, outcome=outcome, facts=facts, durable=True,
        )  # fmt: skip


def yank(
    source: str,
    *,
    reason: str = "",
    undo: bool = False,
    dry_run: bool = False,
    travel: Travel = PLAIN,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Yanked:
    """Marks a published version, so that nothing chooses it any more; what depends on it by a lock still gets it.

    `undo` takes the mark away. Raises Usage without a version, NotFound, StoreFailed.
    """
    desk = frame.desk(home, notify)
    with travelling(desk, travel) as ways:
        found = located(ways, source, travel)
        if found.version is None or semver.parse(found.version) is None:
            raise Usage(
                f"expected a version to take back, found {str(found)[:200]!r}", hint=f"memos yank {found}:1.4.0"
            )
        transport = ways.package(found, writing=True)
        transport.manifest(found.version)
        if not dry_run:
            offer.yank(transport, found.version, why=None if undo else reason)
    return Yanked(str(found), not undo, reason, dry_run)
