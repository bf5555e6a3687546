"""Reading a cube's versions: which is current, which are kept, and holding one while it is read.

Nothing here writes or waits. `current` is read once; who has a version keeps it, whatever is published
meanwhile. Knows files and manifests, not memories.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from memos_cli.cube.digest import MANIFEST_LIMIT_BYTES, MANIFEST_NAME, Manifest, digest_of, parse
from memos_cli.cube.migrate import find_format
from memos_cli.errors import Damaged, MemosError, NotFound
from memos_cli.infrastructure import disk, locks

CURRENT = "current"
VERSIONS = "versions"
STAGING = "staging"
TAGS = "tags"
LOG = "log"

VERSION_NAME = re.compile(r"(\d{8})-([0-9a-f]{16})")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

_ATTEMPTS = 200
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Version:
    """One published version: its number, its digest (`sha256:<hex>` of MANIFEST.json), where it lies."""

    number: int
    digest: str
    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who changes a cube, by what operation, when (ISO 8601 with offset) and why; goes into the manifest."""

    operation: str
    actor: dict[str, str]
    time: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version that stays as it is until the reader lets go of it."""

    root: Path
    version: Version
    path: Path


def version_name(number: int, digest: str) -> str:
    """The folder of a version: its number and the first 16 hex digits of its digest."""
    return f"{number:08d}-{digest.removeprefix('sha256:')[:16]}"


def version_number(name: str) -> int:
    """The number in the name of a version's folder."""
    return int(name[:8])


def locate(root: Path) -> Path:
    """The real path of the cube at `root`.

    Raises NotFound when nothing is there, Damaged when it is not a cube or is of an older format.
    """
    if not os.path.lexists(root):
        raise NotFound(f"no cube at {root}", hint=f"memos ingest {root} SOURCE... makes one; memos list shows yours")
    if not root.is_dir():
        raise Damaged(f"expected a cube, which is a folder, found something else at {root}", hint="memos list")
    real = Path(os.path.realpath(root))
    if not os.path.lexists(real / CURRENT):
        raise _not_a_cube(real)
    check_folders(real)
    return real


def check_folders(root: Path) -> None:
    """Raises Damaged when one of the cube's own folders is a link or a file; one that is missing will do."""
    for name in (VERSIONS, STAGING, TAGS, LOG):
        _check_folder(root / name)


def _not_a_cube(root: Path) -> MemosError:
    if find_format(root) == 0:
        return Damaged(f"the cube {root} has an older format", hint=f"memos migrate {root}")
    if (root / VERSIONS).is_dir() and version_names(root):
        return Damaged(
            f"the cube {root} has versions but no pointer `current` to one of them",
            hint=f"memos doctor {root} --repair",
        )
    return Damaged(f"{root} is a folder but not a cube: it has no `current`", hint="memos list")


def current_name(root: Path) -> str:
    """The folder name that `current` points to; raises Damaged unless it is a version of this very cube."""
    name = _pointed_to(root)
    _check_folder(root / VERSIONS)
    while not os.path.lexists(root / VERSIONS / name):
        # A commit and its sweep may have come between our two looks.
        before, name = name, _pointed_to(root)
        if name == before:
            raise _dangling(root, name)
    _check_folder(root / VERSIONS / name)
    return name


def _pointed_to(root: Path) -> str:
    try:
        target = os.readlink(root / CURRENT)
    except FileNotFoundError as error:
        raise _not_a_cube(root) from error
    except OSError as error:
        raise Damaged(
            f"expected {root / CURRENT} to be a link into versions/, found no link (a copy that followed links?)",
            hint=f"memos doctor {root} --repair; copy cubes with: cp -a",
        ) from error
    folder, _, name = target.partition("/")
    if folder != VERSIONS or VERSION_NAME.fullmatch(name) is None:
        raise Damaged(
            f"expected {root / CURRENT} to point to versions/<number>-<digest>, found {target!r}",
            hint=f"memos doctor {root} --repair",
        )
    return name


def _dangling(root: Path, name: str) -> Damaged:
    hint = f"memos doctor {root} --repair" if version_names(root) else "take a copy of the cube"
    return Damaged(f"the current version of {root}, versions/{name}, is missing", hint=hint)


def _check_folder(path: Path) -> None:
    """Refuse a link or file where the cube's own folder must be: a link could lead anywhere."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        # Whoever opens what is in it will see that it is gone, and look again.
        return
    if not stat.S_ISDIR(mode):
        raise Damaged(f"expected a folder at {path}, found {stat.filemode(mode)}")


def version_names(root: Path) -> list[str]:
    """The names of all version folders, newest first; without a look at what is in them."""
    try:
        found = os.listdir(root / VERSIONS)
    except FileNotFoundError:
        return []
    return sorted((name for name in found if VERSION_NAME.fullmatch(name)), reverse=True)


def read_version(path: Path) -> Version:
    """The version in a folder; raises Damaged when its manifest is not the one the folder is named for."""
    descriptor = _open_manifest(path)
    try:
        return _read_open(path, descriptor)
    finally:
        os.close(descriptor)


def current_version(root: Path) -> Version:
    """The version `current` points to, by its manifest alone."""
    name = current_name(root)
    while True:
        try:
            return read_version(root / VERSIONS / name)
        except NotFound:
            # A commit and its sweep may have come between our two looks.
            before, name = name, current_name(root)
            if name == before:
                raise


def versions(root: Path) -> list[Version]:
    """The versions that are kept, newest first: the current one and those before it.

    Raises Damaged when the current one cannot be read; older ones that cannot are left out, and named by an audit.
    """
    root = locate(root)
    found = [current_version(root)]
    for name in version_names(root):
        if version_number(name) < found[0].number:
            # Damaged, or taken by a sweep between our listing and our reading.
            with suppress(Damaged, NotFound):
                found.append(read_version(root / VERSIONS / name))
    return found


def find(root: Path, number: int | None) -> str:
    """The folder name of version `number`, or of the current one; raises NotFound when it is not kept."""
    current = current_name(root)
    if number is None or number == version_number(current):
        return current
    kept = [name for name in version_names(root) if version_number(name) <= version_number(current)]
    for name in kept:
        if version_number(name) == number:
            return name
    numbers = ", ".join(str(version_number(name)) for name in kept)
    raise NotFound(f"no version {number} in {root}; kept are {numbers}", hint=f"memos log {root}")


@contextmanager
def snapshot(root: Path, version: int | None = None) -> Iterator[Snapshot]:
    """Hold a version (the current one by default) so that no sweep removes it while it is read.

    Raises NotFound for a version that is not kept, Damaged for a cube that cannot be trusted: its manifest is
    checked, and the kind and size of every file, but not their content. Never waits for a writer, and needs no
    leave to write.
    """
    root = locate(root)
    with disk.guard(root):
        descriptor, path = _hold(root, version)
    try:
        found = _read_open(path, descriptor)
        stat_files(found)
        yield Snapshot(root=root, version=found, path=path)
    finally:
        os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[Version]:
    """The version in a folder, held as `snapshot` holds one, whatever `current` says; NotFound when it is swept."""
    descriptor = _open_manifest(path)
    try:
        if not (locks.share(descriptor) and _is_still(path, descriptor)):
            raise NotFound(f"version {path.name} is being removed", hint=f"memos log {path.parent.parent}")
        yield _read_open(path, descriptor)
    finally:
        os.close(descriptor)


def stat_files(version: Version) -> dict[str, os.stat_result]:
    """The facts about every file of a version, by path; raises Damaged for one that is missing, odd or of another size.

    Folders are looked at too: a link in the place of one could lead anywhere.
    """
    for folder in {entry.path.rpartition("/")[0] for entry in version.manifest.files}:
        parts = folder.split("/")
        for depth in range(1, len(parts) + 1):
            _check_folder(version.path.joinpath(*parts[:depth]))
    found = {}
    top = str(version.path)
    for entry in version.manifest.files:
        try:
            facts = os.lstat(f"{top}/{entry.path}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _unsound(version, f"{entry.path} is missing") from error
        if not stat.S_ISREG(facts.st_mode):
            raise _unsound(version, f"{entry.path} is not an ordinary file")
        if facts.st_size != entry.size:
            raise _unsound(version, f"{entry.path} has {facts.st_size} bytes, expected {entry.size}")
        found[entry.path] = facts
    return found


def _unsound(version: Version, what: str) -> Damaged:
    root = version.path.parent.parent
    return Damaged(
        f"version {version.number} of {root} is damaged: {what}",
        hint=f"memos audit {root} --deep, then memos rollback {root} to a sound version",
    )


def _hold(root: Path, number: int | None) -> tuple[int, Path]:
    """An open, shared-locked MANIFEST.json and its version's folder; looks again when a sweep was faster."""
    for _ in range(_ATTEMPTS):
        path = root / VERSIONS / find(root, number)
        try:
            descriptor = _open_manifest(path)
        except NotFound:
            continue
        if locks.share(descriptor) and _is_still(path, descriptor):
            return descriptor, path
        os.close(descriptor)
        time.sleep(_PAUSE_SECONDS)
    raise NotFound(f"version {number} of {root} was removed while it was opened", hint=f"memos log {root}")


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path / MANIFEST_NAME), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open_manifest(path: Path) -> int:
    try:
        return os.open(path / MANIFEST_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        if path.is_dir():
            raise Damaged(
                f"the version {path} has no {MANIFEST_NAME}", hint=f"memos audit {path.parent.parent}"
            ) from error
        raise NotFound(f"no version at {path}", hint=f"memos log {path.parent.parent}") from error


def _read_open(path: Path, descriptor: int) -> Version:
    size = os.fstat(descriptor).st_size
    if size > MANIFEST_LIMIT_BYTES:
        raise Damaged(f"{path / MANIFEST_NAME}: expected at most {MANIFEST_LIMIT_BYTES} bytes, found {size}")
    data = os.pread(descriptor, size, 0)
    digest = digest_of(data)
    if version_name(version_number(path.name), digest) != path.name:
        raise Damaged(
            f"{path / MANIFEST_NAME} is not the one its folder is named for: its digest is {digest[7:23]}",
            hint=f"memos audit {path.parent.parent} --deep, then memos rollback to a sound version",
        )
    manifest = parse(data, place=str(path / MANIFEST_NAME))
    if manifest.version != version_number(path.name):
        raise Damaged(f"{path / MANIFEST_NAME} says version {manifest.version}, its folder says another")
    return Version(number=manifest.version, digest=digest, path=path, manifest=manifest)


def tags(root: Path) -> dict[str, int]:
    """The tags of the cube and the number of the version each points to, sorted by name."""
    folder = root / TAGS
    found = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        target = tag_target(folder / name)
        if target is not None and NAME.fullmatch(name):
            found[name] = version_number(target)
    return found


def tag_target(path: Path) -> str | None:
    """The version folder a tag names, or None when it is not a tag as memos makes them."""
    try:
        target = os.readlink(path)
    except OSError:
        return None
    name = target.removeprefix(f"../{VERSIONS}/")
    return name if target != name and VERSION_NAME.fullmatch(name) else None
