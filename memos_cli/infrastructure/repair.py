"""Putting a damaged cube right, as far as what is left of it allows: missing files, the pointer, tags, leavings.

Nothing is invented, and nothing that may have been published is lost. A file comes back only from another one with
the same digest; the pointer goes to the newest version whose every byte is as published, and newer ones that are not
are put aside; what was never published goes. What no copy is left of stays damaged, and an audit says so.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from memos_cli.cube.digest import MANIFEST_LIMIT_BYTES, MANIFEST_NAME, Entry, Manifest, digest_of, hash_file, parse
from memos_cli.errors import Damaged, MemosError, NotFound
from memos_cli.infrastructure import disk, faults, locks, recovery
from memos_cli.infrastructure import versions as kept
from memos_cli.infrastructure.versions import CURRENT, STAGING, TAGS, VERSIONS, Version

ASIDE = "aside"


@dataclass(frozen=True, slots=True)
class Repair:
    """Something that was put right, or would be; where; in words.

    The kinds are lock, file, pointer, aside, tag, unpublished and staging.
    """

    kind: str
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class _Step:
    repair: Repair
    act: Callable[[], None]


def locate(root: Path) -> Path:
    """The real path of what is, or was, a cube. Raises NotFound, and Damaged when no version of it is left."""
    if not os.path.lexists(root):
        raise NotFound(f"no cube at {root}", hint="memos list shows yours")
    real = Path(os.path.realpath(root))
    kept.check_folders(real)
    if not kept.version_names(real) and not _is_folder(real / CURRENT):
        raise Damaged(f"{root} holds no version of a cube", hint="take the cube from a copy")
    return real


def plan(root: Path) -> tuple[Repair, ...]:
    """What `repair` would do; changes nothing and takes no lock."""
    patient = _Patient(locate(root))
    return tuple(step.repair for part in patient.parts for step in part())


def repair(root: Path, *, lock_timeout: float = locks.TIMEOUT_SECONDS) -> tuple[Repair, ...]:
    """Do all that can be done without inventing anything, and say what was done. Raises Locked, Damaged."""
    root = locate(root)
    note = [step.repair for step in _stale_note(root)]
    done = []
    with disk.guard(root), locks.writing(root, operation="repair", timeout_seconds=lock_timeout):
        for part in _Patient(root).parts[1:]:
            # what a part finds is found before it changes anything
            for step in list(part()):
                step.act()
                done.append(step.repair)
        disk.sync(root)
    return (*note, *done)


class _Patient:
    """A cube under repair, and what was found out about its files so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hashes: dict[tuple[int, int], str] = {}
        self.parts: tuple[Callable[[], Iterator[_Step]], ...] = (
            lambda: _stale_note(root), self._files, self._pointer, self._tags, self._leavings,
        )  # fmt: skip

    def _pointer(self) -> Iterator[_Step]:
        try:
            kept.current_name(self.root)
            return
        except MemosError as error:
            place = self.root / CURRENT
            name = self._chosen
            if not name:
                raise Damaged(f"{error.message}; and no version is whole", hint="take the cube from a copy") from error
        for other in kept.version_names(self.root):
            if kept.version_number(other) > kept.version_number(name):
                message = f"is not whole, and newer than what is; kept in {ASIDE}/"
                where = self.root / VERSIONS / other
                yield _Step(Repair("aside", str(where), message), partial(self._put_aside, other))
        if os.path.lexists(self.root / VERSIONS / name):
            message = f"points to {VERSIONS}/{name}, the newest that is whole"
            yield _Step(Repair("pointer", str(place), message), partial(self._point_to, name))
        else:
            message = f"is the folder of {VERSIONS}/{name}; moved there, with a link in its place"
            yield _Step(Repair("pointer", str(place), message), partial(self._move_in, name))

    @cached_property
    def _chosen(self) -> str:
        """The version to point to, when the pointer cannot be read: the newest that is whole, or will be."""
        whole = (name for name in kept.version_names(self.root) if self._is_whole(name))
        return max(self._name_of_folder(self.root / CURRENT), next(whole, ""))

    def _name_of_folder(self, place: Path) -> str:
        """The name of the version that a copy which followed links made of the pointer; "" when it is no such thing."""
        try:
            data = _read_manifest(place)
            manifest = parse(data, place=str(place / MANIFEST_NAME))
        except (OSError, MemosError):
            return ""
        return kept.version_name(manifest.version, digest_of(data)) if self._holds(place, manifest) else ""

    def _put_aside(self, name: str) -> None:
        os.makedirs(self.root / ASIDE, exist_ok=True)
        os.rename(self.root / VERSIONS / name, self.root / ASIDE / f"{name}-{disk.random_hex(2)}")
        faults.point("repair_aside")

    def _move_in(self, name: str) -> None:
        os.makedirs(self.root / VERSIONS, exist_ok=True)
        os.rename(self.root / CURRENT, self.root / VERSIONS / name)
        disk.sync(self.root / VERSIONS)
        faults.point("repair_moved")
        self._point_to(name)

    def _point_to(self, name: str) -> None:
        fresh = self.root / recovery.POINTER_NAME
        disk.remove_tree(fresh)
        os.symlink(f"{VERSIONS}/{name}", fresh)
        if _is_folder(self.root / CURRENT):
            disk.remove_tree(self.root / CURRENT)
        os.replace(fresh, self.root / CURRENT)
        faults.point("repair_pointed")

    def _files(self) -> Iterator[_Step]:
        """Files that are not as published and of which another place has a sound copy."""
        for version in self._versions():
            for entry in version.manifest.files:
                place = version.path / entry.path
                # what is in the place of a file and is none is left for a person to look at
                if self._is_as_listed(version.path, entry) or place.is_dir() or _leads_away(version.path, entry.path):
                    continue
                donor = self._donor(entry)
                if donor:
                    message = f"put back from {donor.relative_to(self.root)}, which has the same digest"
                    yield _Step(Repair("file", str(place), message), partial(self._put_back, donor, place))

    def _put_back(self, donor: Path, place: Path) -> None:
        """A link to `donor` at `place`; a copy where links fail, or where the file is one that is written in place."""
        os.makedirs(place.parent, exist_ok=True)
        os.makedirs(self.root / STAGING, exist_ok=True)
        fresh = self.root / STAGING / f"restored-{disk.random_hex(8)}"
        if donor.name in disk.COPIED_NAMES or not _link(donor, fresh):
            shutil.copyfile(donor, fresh, follow_symlinks=False)
            os.chmod(fresh, 0o444)
        disk.sync(fresh)
        faults.point("repair_linked")
        os.replace(fresh, place)
        disk.sync(place.parent)

    def _donor(self, entry: Entry) -> Path | None:
        """A file with the digest of `entry` that is as its own manifest says."""
        for top, other in self._copies.get(entry.sha256, ()):
            if self._is_as_listed(top, other):
                return top / other.path
        return None

    @cached_property
    def _copies(self) -> dict[str, list[tuple[Path, Entry]]]:
        """Where a file of each digest should be, by the manifests of all versions that have one."""
        found: dict[str, list[tuple[Path, Entry]]] = {}
        for version in self._versions():
            for entry in version.manifest.files:
                found.setdefault(entry.sha256, []).append((version.path, entry))
        return found

    def _versions(self) -> Iterator[Version]:
        for name in kept.version_names(self.root):
            try:
                if _is_folder(self.root / VERSIONS / name):
                    yield kept.read_version(self.root / VERSIONS / name)
            except (MemosError, OSError):
                continue

    def _tags(self) -> Iterator[_Step]:
        folder = self.root / TAGS
        for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
            target = kept.tag_target(folder / name)
            if (folder / name).is_symlink() and not (target and (self.root / VERSIONS / target).is_dir()):
                message = "a tag of a version that is gone; removed"
                yield _Step(Repair("tag", str(folder / name), message), partial(os.unlink, folder / name))

    def _leavings(self) -> Iterator[_Step]:
        try:
            found = recovery.leftovers(self.root, kept.current_name(self.root))
        except MemosError:
            # only a plan comes here: what is past a pointer that is not set yet is put aside, and not removed
            found = replace(recovery.leftovers(self.root, self._chosen), versions=())
        for name in found.versions:
            yield self._removal("unpublished", self.root / VERSIONS / name, "was never published; removed")
        for name in found.staging:
            yield self._removal("staging", self.root / STAGING / name, "left by work that was cut short; removed")
        for place in recovery.temporaries(self.root):
            yield self._removal("staging", place, "left by a write that was cut short; removed")

    def _removal(self, kind: str, place: Path, message: str) -> _Step:
        return _Step(Repair(kind, str(place), message), lambda: disk.remove_tree(place))

    def _is_whole(self, name: str) -> bool:
        """Whether a version has a good manifest and every file it lists, byte for byte, or can have them again."""
        path = self.root / VERSIONS / name
        try:
            return _is_folder(path) and self._holds(path, kept.read_version(path).manifest)
        except (MemosError, OSError):
            return False

    def _holds(self, top: Path, manifest: Manifest) -> bool:
        """Whether all that a manifest lists is below `top`, or can be put back there."""
        return all(self._is_as_listed(top, entry) or self._donor(entry) for entry in manifest.files)

    def _is_as_listed(self, top: Path, entry: Entry) -> bool:
        place = top / entry.path
        try:
            facts = os.lstat(place)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size != entry.size or _leads_away(top, entry.path):
                return False
            key = (facts.st_dev, facts.st_ino)
            if key not in self.hashes:
                self.hashes[key] = hash_file(place)
        except OSError:
            return False
        return self.hashes[key] == entry.sha256


def _stale_note(root: Path) -> Iterator[_Step]:
    place = root / locks.HOLDER_NAME
    if locks.has_stale_note(root):
        message = "the note of a writer that is gone; its lock ended with it; removed"
        yield _Step(Repair("lock", str(place), message), lambda: place.unlink(missing_ok=True))


def _read_manifest(folder: Path) -> bytes:
    """The manifest in a folder; raises OSError for anything but an ordinary file of a fitting size."""
    place = folder / MANIFEST_NAME
    facts = os.lstat(place)
    if not (_is_folder(folder) and stat.S_ISREG(facts.st_mode) and facts.st_size <= MANIFEST_LIMIT_BYTES):
        raise OSError(f"no manifest at {place}")
    return place.read_bytes()


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def _leads_away(top: Path, path: str) -> bool:
    """Whether a folder on the way to a file is a link: it could lead out of the cube, and nothing is written there."""
    folders = path.split("/")[:-1]
    return any(top.joinpath(*folders[:depth]).is_symlink() for depth in range(1, len(folders) + 1))


def _link(donor: Path, fresh: Path) -> bool:
    try:
        os.link(donor, fresh, follow_symlinks=False)
    except OSError:
        return False
    return True
