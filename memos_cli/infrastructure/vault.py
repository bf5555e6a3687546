"""MemVault: where cubes are kept. Names, versions, and change that happens whole or not at all.

A cube is a folder; what is read is an immutable version, what is changed is a draft of the next one. One
writer at a time, readers never wait. Every function takes the cube's root and raises the errors of
memos_cli.errors: NotFound, Damaged, Locked, and MemosError when the disk refuses (full, read-only, failing).

Knows files, digests and versions; knows nothing of memories.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli.cube.digest import MANIFEST_NAME, Manifest, parse
from memos_cli.errors import Damaged, MemosError, NotFound, Usage
from memos_cli.infrastructure import disk, drops, faults, locks, origin
from memos_cli.infrastructure.disk import write_bytes
from memos_cli.infrastructure.draft import Draft, Lineage, next_lineage, publish
from memos_cli.infrastructure.marks import TREE
from memos_cli.infrastructure.recovery import (
    CREATING_NAME,
    KEEP_VERSIONS,
    POINTER_NAME,
    Cleaned,
    Swept,
    _recover,
    recover,
    sweep,
)
from memos_cli.infrastructure.versions import (
    CURRENT,
    NAME,
    STAGING,
    TAGS,
    VERSIONS,
    Snapshot,
    Stamp,
    Version,
    current_name,
    current_version,
    find,
    locate,
    read_version,
    snapshot,
    tags,
    version_names,
    version_number,
    versions,
)

__all__ = [
    "CUBES",
    "KEEP_VERSIONS",
    "Cleaned",
    "Draft",
    "Sizes",
    "Snapshot",
    "Stamp",
    "Swept",
    "Vault",
    "Version",
    "check_tag",
    "count_versions",
    "create",
    "current_number",
    "current_version",
    "draft",
    "locate",
    "measure",
    "read_manifest",
    "recover",
    "rollback",
    "snapshot",
    "sweep",
    "tag",
    "tags",
    "untag",
    "versions",
    "withdraw",
    "write_bytes",
]

CUBES = "cubes"
SUFFIX = ".cube"
# What a creation that was cut short may leave at the root.
_OWN_NAMES = frozenset({POINTER_NAME, STAGING, VERSIONS, TAGS, "log", locks.LOCK_NAME, locks.HOLDER_NAME, origin.FILE})


@dataclass(frozen=True, slots=True)
class Vault:
    """The cubes that have names: folders under `home`/cubes."""

    home: Path

    def path(self, name_or_path: str) -> Path:
        """Where a cube lies: a path when it has a `/` or ends in .cube, otherwise a name; raises Usage for a bad one.

        Says nothing of whether there is a cube.
        """
        if "/" in name_or_path or name_or_path.endswith(SUFFIX):
            return Path(name_or_path)
        if NAME.fullmatch(name_or_path) is None:
            raise Usage(
                f"expected a cube's name (letters, digits, . _ -, no dot first), found {name_or_path!r:.120}",
                hint="a path has a / or ends in .cube, such as ./team.cube",
            )
        return self.home / CUBES / f"{name_or_path}{SUFFIX}"

    def cubes(self) -> list[Path]:
        """The cubes that have names, sorted; folders without a `current` are none."""
        folder = self.home / CUBES
        found = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
        return [path for path in found if os.path.lexists(path / CURRENT)]

    def pointers(self) -> dict[str, str]:
        """Where `current` of each cube that has a name leads, by name: the names of folders, of which none is opened.

        A thousand take a few milliseconds. What has no name, or does not point to a version of its own, is left out.
        """
        found = {}
        with suppress(OSError), os.scandir(self.home / CUBES) as entries:
            for entry in entries:
                name = entry.name.removesuffix(SUFFIX)
                if name == entry.name or NAME.fullmatch(name) is None:
                    continue
                with suppress(OSError):
                    folder, _, version = os.readlink(f"{entry.path}/{CURRENT}").partition("/")
                    if folder == VERSIONS:
                        found[name] = version
        return found

    def pointer(self, name: str) -> str:
        """Where `current` of the cube with this name leads; "" when it leads nowhere."""
        try:
            return os.readlink(self.path(name) / CURRENT).rpartition("/")[2]
        except OSError:
            return ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a cube holds on disk: of its current version, and of all that are kept (shared files counted once)."""

    files: int
    current_bytes: int
    versions: int
    all_bytes: int


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the version in a folder, wherever it lies. Raises Damaged, OSError."""
    return parse((folder / MANIFEST_NAME).read_bytes(), place=str(folder / MANIFEST_NAME))


def current_number(root: Path) -> int:
    """The number of the current version, by its name alone, so that a damaged one has a number too."""
    return version_number(current_name(locate(root)))


def create(
    root: Path,
    *,
    stamp: Stamp,
    write: Callable[[Path], None],
    cube_id: str | None = None,
    summary: Mapping[str, Any] | None = None,
    beside: Collection[str] = (),
    lock_timeout: float = locks.TIMEOUT_SECONDS,
) -> Version:
    """Make a cube whose first version is what `write` puts into the folder it is given.

    Raises Usage when something is there already, other than the names `beside` (files of an older format);
    on any error nothing of it is left behind.
    """
    _refuse_obstacle(root)
    fresh = not root.exists()
    with disk.guard(root):
        os.makedirs(root, exist_ok=True)
        real = Path(os.path.realpath(root))
        try:
            with locks.writing(real, operation=stamp.operation, timeout_seconds=lock_timeout):
                _claim(real, beside)
                try:
                    _prepare(real)
                    return _publish_first(real, stamp, write, cube_id or disk.random_hex(16), summary or {})
                finally:
                    _settle(real, fresh, beside)
        finally:
            # Succeeds only when the folder was made here and nothing got into it.
            with suppress(OSError):
                os.rmdir(real)


def is_free(root: Path) -> bool:
    """Whether a cube can be made at `root`: nothing is there, or no more than a creation left that was cut short."""
    try:
        _refuse_obstacle(root)
        if root.exists():
            _claim(root, ())
    except (Usage, Damaged):
        return False
    return True


def withdraw(root: Path, made: Version) -> None:
    """Remove a cube whose only version is `made`, and nothing that was published since.

    Raises Locked, at once, when a writer is at work: then it is no longer only its maker's.
    """
    root = locate(root)
    with disk.guard(root), locks.writing(root, operation="withdraw", timeout_seconds=0):
        if current_version(root).digest == made.digest:
            disk.remove_tree(root)


def _refuse_obstacle(root: Path) -> None:
    if root.is_symlink() and not root.exists():
        raise Damaged(f"{root} is a link that leads nowhere", hint=f"rm {root}")
    if root.exists() and not root.is_dir():
        raise Usage(f"cannot make a cube at {root}: a file is there already", hint="give the cube another name")


def _claim(root: Path, beside: Collection[str]) -> None:
    """Make sure that the folder is empty, or holds no more than a creation that was cut short."""
    names = {name for name in os.listdir(root) if not name.endswith(".tmp")} - set(beside)
    begun = os.path.lexists(root / STAGING / CREATING_NAME)
    if CURRENT in names:
        raise Usage(f"there is a cube at {root} already", hint=f"memos show {root}")
    if names - _OWN_NAMES or (VERSIONS in names and os.listdir(root / VERSIONS) and not begun):
        raise Usage(f"cannot make a cube in {root}: the folder is not empty", hint="give the cube a folder of its own")


def _prepare(root: Path) -> None:
    disk.remove_tree(root / origin.FILE)
    for name in (VERSIONS, STAGING):
        disk.remove_tree(root / name)
        os.mkdir(root / name)
    # As long as this file is there, versions without `current` are leavings and not a damaged cube.
    write_bytes(root / STAGING / CREATING_NAME, b"", durable=True)
    disk.sync(root / STAGING)
    disk.sync(root)
    faults.point("create_marked")


def _publish_first(
    root: Path, stamp: Stamp, write: Callable[[Path], None], cube_id: str, summary: Mapping[str, Any]
) -> Version:
    tree = root / STAGING / f"first-{disk.random_hex(4)}" / TREE
    os.makedirs(tree)
    write(tree)
    lineage = Lineage(cube_id=cube_id, number=1, parent=None)
    version = publish(root, tree, known={}, lineage=lineage, stamp=stamp, summary=summary)
    disk.sync(root.parent)
    return version


def _settle(root: Path, fresh: bool, beside: Collection[str]) -> None:
    """Leave a published cube tidy, and of a failed creation nothing."""
    with suppress(OSError, MemosError):
        if os.path.lexists(root / CURRENT):
            _recover(root)
        elif fresh:
            disk.remove_tree(root)
        else:
            for name in set(os.listdir(root)) - set(beside):
                disk.remove_tree(root / name)


@contextmanager
def draft(
    root: Path,
    *,
    stamp: Stamp,
    resume: str | None = None,
    base: int | None = None,
    keep: int | None = KEEP_VERSIONS,
    lock_timeout: float = locks.TIMEOUT_SECONDS,
) -> Iterator[Draft]:
    """A working copy of the current version (or of `base`), under the writer's lock; see Draft.

    With `resume`, a checkpoint made under the same key on the same current version is taken up, and left for
    the next run when this one ends without a commit. `keep` versions survive the sweep that follows a
    commit (None: no sweep). Raises Locked, Damaged, NotFound, MemosError.
    """
    root = locate(root)
    _check_key(resume, base)
    with disk.guard(root), locks.writing(root, operation=stamp.operation, timeout_seconds=lock_timeout):
        faults.point("locked")
        _recover(root)
        current = current_name(root)
        source = read_version(root / VERSIONS / _not_dropped(root, find(root, base)))
        work = Draft(
            root,
            base=source,
            lineage=_lineage(root, current, source),
            stamp=stamp,
            key=resume or f"draft-{disk.random_hex(8)}",
            resumable=resume is not None,
            keep=keep,
        )
        try:
            work.open()
            yield work
        finally:
            work.close()


def _not_dropped(root: Path, name: str) -> str:
    """The name of a version, unless it is one that is only there because somebody still reads it."""
    if name in drops.pending(root):
        raise NotFound(f"version {version_number(name)} holds what was forgotten for good", hint=f"memos log {root}")
    return name


def _check_key(resume: str | None, base: int | None) -> None:
    if resume is not None and (NAME.fullmatch(resume) is None or base is not None):
        raise Usage(f"expected a plain name and no base version to resume by, found {resume!r:.120}")


def _lineage(root: Path, current: str, source: Version) -> Lineage:
    """Where the next version stands; its parent is None when the current version's manifest is damaged."""
    if source.path.name == current:
        return next_lineage(source.manifest, source.digest)
    try:
        before = read_version(root / VERSIONS / current)
    except Damaged:
        # Going back to a sound version is the way out of a damaged one, so the chain may begin anew here.
        return Lineage(cube_id=source.manifest.cube_id, number=version_number(current) + 1, parent=None)
    return next_lineage(before.manifest, before.digest)


def rollback(
    root: Path,
    number: int,
    *,
    stamp: Stamp,
    keep: int | None = KEEP_VERSIONS,
    lock_timeout: float = locks.TIMEOUT_SECONDS,
) -> Version:
    """Publish version `number` again, as the newest: nothing is lost. Raises NotFound when it is not kept."""
    with draft(root, stamp=stamp, base=number, keep=keep, lock_timeout=lock_timeout) as work:
        return work.commit({"rolled_back_to": number})


def tag(root: Path, name: str, number: int | None = None, *, lock_timeout: float = locks.TIMEOUT_SECONDS) -> Version:
    """Give a version (the current one by default) a name that keeps it from being swept; moves an existing tag."""
    check_tag(name)
    root = locate(root)
    with disk.guard(root), locks.writing(root, operation="tag", timeout_seconds=lock_timeout):
        version = read_version(root / VERSIONS / find(root, number))
        (root / TAGS).mkdir(exist_ok=True)
        temporary = root / TAGS / f".{name}.{disk.random_hex(4)}.tmp"
        os.symlink(f"../{VERSIONS}/{version.path.name}", temporary)
        faults.point("tag_written")
        os.replace(temporary, root / TAGS / name)
        faults.point("tag_moved")
        disk.sync(root / TAGS)
        disk.sync(root)
    return version


def untag(root: Path, name: str, *, lock_timeout: float = locks.TIMEOUT_SECONDS) -> None:
    """Take a tag away; its version may then be swept. Raises NotFound when there is no such tag."""
    check_tag(name)
    root = locate(root)
    with disk.guard(root), locks.writing(root, operation="untag", timeout_seconds=lock_timeout):
        if name not in tags(root):
            raise NotFound(f"no tag {name!r} in {root}", hint=f"memos show {root}")
        (root / TAGS / name).unlink()
        disk.sync(root / TAGS)


def check_tag(name: str) -> None:
    """Raises Usage for a name that no tag may have."""
    if NAME.fullmatch(name) is None:
        raise Usage(f"expected a tag of letters, digits, . _ - (not starting with a dot), found {name!r:.120}")


def count_versions(root: Path) -> int:
    """How many versions are kept, by the names of their folders alone."""
    newest = current_number(root)
    return sum(version_number(name) <= newest for name in version_names(root))


def measure(root: Path) -> Sizes:
    """How much the cube holds on disk, without reading its files."""
    root = locate(root)
    current = current_version(root)
    seen: dict[tuple[int, int], int] = {}
    kept = [name for name in version_names(root) if version_number(name) <= current.number]
    for name in kept:
        for facts in disk.measure_tree(root / VERSIONS / name):
            seen[facts.st_dev, facts.st_ino] = facts.st_size
    return Sizes(
        files=len(current.manifest.files),
        current_bytes=current.manifest.size_bytes,
        versions=len(kept),
        all_bytes=sum(seen.values()),
    )
