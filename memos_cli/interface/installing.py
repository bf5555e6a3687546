"""The verbs `install`, `outdated`, `upgrade` and `require` of the Memory API: the cubes that a project needs.

`cubes.toml` says what is wanted; `memos.lock` what that came to, so that everybody who installs gets the same
bytes from the same signer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from memos_cli.cube import semver
from memos_cli.errors import CheckFailed, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import origin as origins
from memos_cli.infrastructure import signing
from memos_cli.infrastructure.store import offer, project, reference, resolve
from memos_cli.infrastructure.store.offer import Offer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.project import Locked, Project
from memos_cli.infrastructure.store.reference import Place
from memos_cli.infrastructure.store.resolve import Shelf
from memos_cli.infrastructure.store.transport import Progress
from memos_cli.interface import frame, pulling
from memos_cli.interface.frame import Desk
from memos_cli.interface.shipped import Installed, Outdated, Required
from memos_cli.interface.stores import PLAIN, Travel, place_of, travelling


@dataclass(frozen=True, slots=True)
class _Work:
    """A project, its lock, and the ways to its stores."""

    desk: Desk
    ways: Ways
    project: Project
    lock: tuple[Locked, ...] | None
    sources: tuple[Place, ...]
    places: Mapping[str, Place]

    @property
    def lock_path(self) -> Path:
        return self.project.place.with_name(project.LOCK)


def install(
    file: str | Path = project.FILE,
    *,
    locked: bool = False,
    frozen: bool = False,
    upgrade: Sequence[str] | None = None,
    require: str | None = None,
    dry_run: bool = False,
    travel: Travel = PLAIN,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> list[Installed]:
    """Brings all cubes that a project needs to their places, and writes `memos.lock`; those that are there stay.

    What is locked stays as it is while it fits; `upgrade` names cubes that need not (none named: all). `locked` raises
    CheckFailed when the lock would change; `frozen` is the same without any network. Raises CheckFailed when no
    versions go together, NotFound, Damaged, NotAllowed, StoreFailed.
    """
    desk = frame.desk(home, notify)
    travel = replace(travel, offline=travel.offline or frozen)
    with travelling(desk, travel) as ways:
        work = _work(desk, ways, Path(file), travel)
        plan, fresh = _plan(work, upgrade, strict=locked or frozen)
        done = [_bring(work, one, fresh.get(one.name), require, dry_run, progress) for one in plan]
        if not dry_run:
            project.write_lock(work.lock_path, tuple(plan))
        return done


def _work(desk: Desk, ways: Ways, file: Path, travel: Travel) -> _Work:
    told = project.load(file)
    sources = tuple(place_of(one) for one in (*travel.sources, *told.sources))
    places = {one.name: place_of(one.source) for one in told.cubes if one.source is not None}
    return _Work(desk, ways, told, project.read_lock(file.with_name(project.LOCK)), sources, places)


def _plan(work: _Work, upgrade: Sequence[str] | None, *, strict: bool) -> tuple[list[Locked], dict[str, Offer]]:
    """What is to be there, and the offers that were looked at to know it."""
    why = "there is none" if work.lock is None else resolve.unfit(work.project.cubes, work.lock, work.places)
    if work.lock is not None and why is None and upgrade is None:
        return list(work.lock), {}
    if strict:
        raise CheckFailed(f"{work.lock_path} would change: {why or 'an upgrade was asked for'}", hint="memos install")
    known = {one.name: one for one in work.lock or ()}
    if upgrade and (odd := sorted(set(upgrade) - known.keys())):
        raise NotFound(f"no {odd[0]} in {work.lock_path}", hint="memos install")
    freed = set() if upgrade is None else set(upgrade) or set(known)
    keep = {name: one for name, one in known.items() if name not in freed}
    found = resolve.resolve(Shelf(work.ways, work.sources), work.project.cubes, keep=keep, places=work.places)
    return [_locked(one, known.get(one.image.name)) for one in found], {one.image.name: one for one in found}


def _locked(found: Offer, before: Locked | None) -> Locked:
    """What a lock says of an offer. Raises NotAllowed when a version is another one than it was locked as."""
    package, image = found.reference.package, found.image
    if before is not None and (before.package, before.version) == (package, image.version):
        if before.digest != image.digest:
            raise NotAllowed(
                f"{found.reference} is {image.digest}, and the lock says {before.digest}: a version never changes",
                hint="do not use it; take the package from another source",
            )
        return replace(before, requires=offer.requires(found.config))
    return Locked(
        image.name, image.version, package, image.digest, _signer(found), found.config.sequence,
        offer.requires(found.config),
    )  # fmt: skip


def _signer(found: Offer) -> str:
    """The key of the first release statement; whether it is right and believed is judged when the package comes."""
    for data in found.envelopes:
        signed = signing.open_envelope(data, place=f"a signature of {found.reference}")
        if signed.release is not None:
            return signed.key.fingerprint
    return ""


def _bring(
    work: _Work, one: Locked, found: Offer | None, require: str | None, dry_run: bool, progress: Progress | None
) -> Installed:
    root = work.project.path_of(one.name)
    direct = any(wanted.name == one.name for wanted in work.project.cubes)
    before = origins.read(root) if root.is_dir() else None
    if before is not None and before.digest == one.digest and (before.name, before.version) == (one.name, one.version):
        return Installed(one.name, one.version, before.version, f"{one.package}:{one.version}", one.digest,
                         one.key or None, str(root), "", "kept", direct)  # fmt: skip
    if found is None:
        found = _pinned(work, one)
    licence = str(found.config.said["licence"])
    work.desk.notify(
        f"{one.name} {one.version} from {one.package}: {licence or 'no licence is told'}, "
        f"{f'signed by {one.key}' if one.key else 'signed by nobody'}, {found.image.size_bytes:,} bytes"
    )
    if not dry_run:
        root.parent.mkdir(parents=True, exist_ok=True)
    made = pulling.bring(
        work.desk, work.ways, found, root, require=require, digest=one.digest, key=one.key or None,
        dry_run=dry_run or not root.parent.is_dir(), progress=progress,
    )  # fmt: skip
    became = "upgraded" if made.before else "installed"
    return Installed(one.name, one.version, made.before, f"{one.package}:{one.version}", one.digest, one.key or None,
                     str(root), licence, became, direct)  # fmt: skip


def _pinned(work: _Work, one: Locked) -> Offer:
    """The offer that a lock pins, with a warning when it was taken back."""
    wanted = reference.parse(one.package).at(version=one.version)
    transport = work.ways.package(wanted)
    found = offer.open_offer(transport, wanted.at(digest=one.digest))
    if found.image.version != one.version:
        raise NotAllowed(f"{one.package}@{one.digest} is {found.image.version}, and the lock says {one.version}")
    pulling.warn(work.desk, found, pinned=True)
    return found


def outdated(
    file: str | Path = project.FILE,
    *,
    travel: Travel = PLAIN,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Iterator[Outdated]:
    """The locked cubes that have a newer version, or whose version was taken back. Raises NotFound without a lock."""
    desk = frame.desk(home, notify)
    with travelling(desk, travel) as ways:
        work = _work(desk, ways, Path(file), travel)
        if work.lock is None:
            raise NotFound(f"no {work.lock_path}", hint="memos install")
        for one in work.lock:
            told = _newer(work, one)
            if told is not None:
                yield told


def _newer(work: _Work, one: Locked) -> Outdated | None:
    transport = work.ways.package(reference.parse(one.package))
    known = offer.versions(transport)
    ranges = [semver.parse_range(other.requires[one.name]) for other in work.lock or () if one.name in other.requires]
    ranges += [wanted.range for wanted in work.project.cubes if wanted.name == one.name]
    gone = {text for text in known.all if text in known.marked and offer.yanked(transport, text) is not None}
    fine = [text for text in offer.candidates(known, semver.parse_range("*")) if text not in gone]
    fitting = [text for text in fine if all(text in offer.candidates(known, needed) for needed in ranges)]
    newest, wanted = next(iter(fine), one.version), next(iter(fitting), one.version)
    why = offer.yanked(transport, one.version) if one.version in gone else None
    order = semver.newest_first([newest, one.version])
    if why is None and order[0] == one.version and wanted == one.version:
        return None
    return Outdated(one.name, one.version, wanted, newest, one.package, why)


def require_package(
    cube: str | Path,
    name: str,
    needed: str = "*",
    *,
    remove: bool = False,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Required:
    """Says in a cube that it needs a package in some versions, or with `remove` that it does not any more.

    Raises Usage for what is no name or range, NotFound for one that is not required.
    """
    desk = frame.desk(home, notify)
    wanted = semver.parse_range(needed)
    if not reference.is_name(name):
        raise Usage(f"expected the name of a package, found {name[:80]!r}", hint="memos require CUBE NAME '^1.0'")
    with (
        frame.reading(desk, cube, "require")
        if dry_run
        else frame.changing(desk, cube, "require", reason=reason, lock_timeout=lock_timeout) as seen
    ):
        requires = dict(seen.cube.requires)
        if remove and name not in requires:
            raise NotFound(f"{cube} does not require {name}", hint=f"memos show {cube}")
        if remove:
            del requires[name]
        else:
            requires[name] = str(wanted)
        number = seen.version.number
        if isinstance(seen, frame.Changing):
            meta = replace(seen.cube, requires=tuple(sorted(requires.items())))
            number = seen.commit({"requires": len(requires)}, cube=meta).number
        return Required(str(cube), number, dict(sorted(requires.items())), dry_run)
