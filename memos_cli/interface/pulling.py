"""The verb `pull` of the Memory API: a package from a store, verified, and made a cube or the next version of one.

Its small parts come first and are judged; only then its blobs travel, those that are not in the cube already. They lie
beside the cube until all are there, so a stopped pull goes on where it was. Nothing is at the cube's place, and an old
version stays current, until all of the new one is verified.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memos_cli.cube import bundle
from memos_cli.cube.blobs import Span
from memos_cli.cube.oci import Descriptor
from memos_cli.errors import MemosError, NotAllowed, Usage
from memos_cli.infrastructure import adoption, disk, vault
from memos_cli.infrastructure.origin import Origin
from memos_cli.infrastructure.store import offer, transfer
from memos_cli.infrastructure.store.offer import Offer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.transport import Progress
from memos_cli.interface import frame, unpacking
from memos_cli.interface.frame import Desk
from memos_cli.interface.shared import Unpacked
from memos_cli.interface.shipped import Pulled
from memos_cli.interface.stores import PLAIN, Travel, located, opened, travelling
from memos_cli.interface.unpacking import Demand

_KEPT_SECONDS = 7 * 86_400
_SPARE_BYTES = 16 << 20


def pull(
    source: str,
    cube: str | Path | None = None,
    *,
    require: str | None = None,
    pre: bool = False,
    dry_run: bool = False,
    travel: Travel = PLAIN,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Makes a cube of a package in a store, at `cube` or `<name>.cube` here; of one that was pulled, its next version.

    Without a version the newest is taken. `require` (`signed`, `digest`, `none`) stands in the place of what
    `trust.toml` says of the source. Raises NotFound, Damaged, NotAllowed, StoreFailed, and Usage when something else
    is there.
    """
    desk = frame.desk(home, notify)
    with travelling(desk, travel) as ways:
        wanted = located(ways, source, travel)
        found = opened(ways, wanted, pre=pre)
        warn(desk, found, pinned=bool(wanted.version or wanted.digest))
        root = desk.path(cube) if cube is not None else Path(f"{found.image.name}.cube")
        return bring(desk, ways, found, root, require=require, dry_run=dry_run, progress=progress)


def warn(desk: Desk, found: Offer, *, pinned: bool) -> None:
    """Says why a version was taken back, to who insists on it."""
    if pinned and (why := offer.yanked(found.transport, found.image.version)) is not None:
        desk.notify(f"{found.reference} was taken back: {why}")


def bring(
    desk: Desk,
    ways: Ways,
    found: Offer,
    root: Path,
    *,
    require: str | None = None,
    digest: str | None = None,
    key: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """Brings what was found to `root`, unless it is there. `digest` and `key` are what a lock says it must be."""
    place = found.reference.package
    demand = Demand(
        source=place, name=found.reference.name, digest=digest or found.reference.digest, level=require, immutable=True
    )  # fmt: skip
    if root.parent == desk.home / vault.CUBES:
        os.makedirs(root.parent, exist_ok=True)
    before = _before(desk, root, found)
    if before is not None and before.digest == found.image.digest:
        return _told(found, root, before, None, 0, dry_run=dry_run)
    with _beside(root, found, keep=not dry_run) as folder:
        small = transfer.fetch(found.transport, found.blobs()[:2], folder, wire=ways.wire)
        held = bundle.contents(found.manifest, _fetch(folder))
        verdict = unpacking.judge(desk, held, found.envelopes, demand)
        signer = verdict.key.fingerprint if verdict.key else None
        if key is not None and signer != key:
            raise NotAllowed(f"{found.reference} is signed by {signer or 'nobody'}, and the lock says {key}")
        if dry_run:
            said = Unpacked(
                str(root), place, found.image.name, found.image.version, found.config.sequence, found.image.digest,
                found.image.size_bytes, int(found.config.said["memories"]),
                signer, verdict.believed, True,
            )  # fmt: skip
            return _told(found, root, before, said, found.image.size_bytes, dry_run=True)
        _check_room(root, found)
        _lend(root, found, folder, before)
        travelled = transfer.fetch(found.transport, found.blobs(), folder, wire=ways.wire, progress=progress)
        said = _make(desk, root, found, folder, demand, before)
        with frame.reading(desk, root, "pull") as seen:
            seen.facts |= {"from": str(found.reference), "package": found.image.digest}
    return _told(found, root, before, said, small + travelled, dry_run=False)


def _before(desk: Desk, root: Path, found: Offer) -> Origin | None:
    """Where the cube that is at `root` came from, when the package may become its next version; None for nothing there.

    Raises Usage for a cube that was made here, or of another package, or that was changed since it came.
    """
    if not os.path.lexists(root):
        return None
    with frame.reading(desk, root, "pull") as seen:
        came = seen.origin
        if came is None or came.name != found.image.name:
            what = f"came as {came.name}" if came else "was made here"
            raise Usage(f"there is a cube at {root} that {what}", hint="name another folder for what you pull")
        if adoption.is_changed(seen.root):
            raise Usage(
                f"{root} has changes of its own since {came.version} came, which a pull would hide",
                hint=f"memos init my-{came.name}.cube --from {root}, or pull into another folder",
            )
        return came


@contextmanager
def _beside(root: Path, found: Offer, *, keep: bool) -> Iterator[Path]:
    """A folder beside the cube for what arrives; it stays when the pull is stopped, and goes when it is of no more use.

    Raises Usage when there is no folder to put the cube into.
    """
    if not root.parent.is_dir():
        raise Usage(f"expected a folder to put {root.name} into, found none at {root.parent}")
    prefix = f".{root.name}.pull-"
    folder = root.parent / f"{prefix}{found.image.digest.removeprefix('sha256:')[:16]}"
    for old in root.parent.glob(f"{prefix}*"):
        with suppress(OSError, MemosError):
            if old != folder and time.time() - old.stat().st_mtime > _KEPT_SECONDS:
                disk.remove_tree(old)
    with disk.guard(root.parent):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        yield folder
    except (MemosError, OSError) as error:
        # what is wrong will not get better by keeping it; what only stopped goes on
        if isinstance(error, MemosError) and error.exit_code in (2, 3, 4, 5) or not keep:
            disk.remove_tree(folder)
        raise
    else:
        disk.remove_tree(folder)


def _fetch(folder: Path) -> bundle.Fetch:
    return lambda blob: Span(folder / blob.hex, 0, blob.size)


def _check_room(root: Path, found: Offer) -> None:
    """Blobs go as their files are made, so one more of the largest is needed. Raises MemosError."""
    largest = max(blob.size for blob in found.image.blobs)
    needed = found.image.size_bytes + largest + _SPARE_BYTES
    free = shutil.disk_usage(root.parent).free
    if free < needed:
        raise MemosError(f"{root.name} needs {needed:,} bytes, and {root.parent} has {free:,} left", hint="free some")


def _lend(root: Path, found: Offer, folder: Path, before: Origin | None) -> None:
    """Puts files that the cube has already where their blobs are looked for: a link costs nothing, and is hashed."""
    if before is None:
        return
    current = vault.current_version(vault.locate(root))
    there = {entry.sha256: current.path / entry.path for entry in current.manifest.files}
    for blob in found.image.blobs:
        target = folder / blob.hex
        if blob.hex in there and not target.exists():
            try:
                os.link(there[blob.hex], target, follow_symlinks=False)
            except OSError:
                shutil.copyfile(there[blob.hex], target, follow_symlinks=False)


def _make(desk: Desk, root: Path, found: Offer, folder: Path, demand: Demand, before: Origin | None) -> Unpacked:
    """The cube at `root`, or its next version when there is one."""

    def consumed(blob: Descriptor) -> None:
        (folder / blob.hex).unlink(missing_ok=True)

    if before is None:
        said = unpacking.take_in(desk, root, found.manifest, _fetch(folder), found.envelopes, demand, consumed=consumed)
        adoption.mark(root)
        return said
    fresh = folder / f"new{vault.SUFFIX}"
    disk.remove_tree(fresh)
    said = unpacking.take_in(desk, fresh, found.manifest, _fetch(folder), found.envelopes, demand, consumed=consumed)
    adoption.adopt(root, fresh)
    return said


def _told(
    found: Offer, root: Path, before: Origin | None, said: Unpacked | None, travelled: int, *, dry_run: bool
) -> Pulled:
    config = found.config.said
    key = said.key if said else (before.key or None if before else None)
    trusted = said.trusted if said else bool(before and before.trusted)
    return Pulled(
        str(root), str(found.reference), found.image.name, found.image.version, before.version if before else None,
        found.config.sequence, found.image.digest, int(config["bytes"]), travelled, int(config["memories"]),
        str(config["licence"]), key, trusted, said is not None, dry_run,
    )  # fmt: skip
