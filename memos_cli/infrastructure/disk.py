"""Files on disk: the one way to write them, cheap clones of a tree, durability, and disk errors in words.

Versions share files through hard links, so a file that is opened for writing changes every version that
has it; mode 0444 does not stop root. Everything is therefore written by `write_bytes`: a new file beside
the old one, then a rename.

Knows nothing of cubes and versions.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from memos_cli.errors import Damaged, MemosError
from memos_cli.infrastructure import faults

# Lance rewrites its hint in place, and the metadata changes with nearly every version: copied, never linked.
COPIED_NAMES = frozenset({"memcube.toml", "latest_version_hint.json"})
SYNC_THREADS = 8
STEADY_BYTES = 8 << 20

Item = TypeVar("Item")
Result = TypeVar("Result")

_NO_LINKS = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_ODD = frozenset({errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR})
# Lance reports the system's error as text: "... (os error 28)".
_RUST_ERROR = re.compile(r"os error (\d+)")


def random_hex(size_bytes: int) -> str:
    """`size_bytes` random bytes in hex, for names that no other process takes."""
    return os.urandom(size_bytes).hex()


def is_writable(folder: Path) -> bool:
    """Whether `folder` takes new files; one without any write bit does not, not even from root."""
    return os.access(folder, os.W_OK | os.X_OK) and os.stat(folder).st_mode & 0o222 != 0


def write_bytes(path: Path, data: bytes, *, durable: bool = False, mode: int = 0o666) -> None:
    """Put `data` at `path` whole or not at all; `durable` syncs the file (not its folder). Raises OSError.

    `mode` says who may open it, as far as the user's mask lets them.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{random_hex(4)}.tmp")
    try:
        _write_new(temporary, data, durable=durable, mode=mode)
        faults.point("write_rename")
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _write_new(path: Path, data: bytes, *, durable: bool, mode: int) -> None:
    with open(path, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags, mode)) as stream:
        view = memoryview(data)
        half = len(view) // 2
        _write_all(stream.fileno(), view[:half])
        faults.point("write_half")
        _write_all(stream.fileno(), view[half:])
        if durable:
            os.fsync(stream.fileno())


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


class Steady:
    """A new file that the disk works on while it is written, so that the sync at its end has little to wait for."""

    def __init__(self, stream: io.FileIO) -> None:
        self._stream, self._size, self._begun = stream, 0, 0

    def write(self, data: memoryview) -> int:
        """Writes to the end of the file; how many bytes it took. Raises OSError."""
        count = self._stream.write(data)
        self._size += count
        if self._size - self._begun >= STEADY_BYTES and hasattr(os, "posix_fadvise"):
            # pages that are not on disk yet are not dropped: writing them is begun, and nothing waits for it
            os.posix_fadvise(self._stream.fileno(), self._begun, self._size - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self._size
        return count


def sync(path: Path | str) -> None:
    """Make a file's content, or a folder's list of names, survive a power cut; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folders(top: Path) -> None:
    """Sync `top` and every folder below it, the deepest first."""
    for folder, _, _ in os.walk(top, topdown=False):
        sync(folder)


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` done on each of `items`, in their order; raises what the first to fail raised.

    For work that waits for the disk: syncs that wait together share one commit of the file system's journal,
    which makes eight of them 10 ms instead of 25.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(SYNC_THREADS, len(items))) as pool:
        return list(pool.map(work, items))


def link_tree(source: Path, target: Path, paths: Iterable[str]) -> bool:
    """Make `target` hold the files `paths` of `source` without copying them, where the file system can.

    A file is copied when it is one of COPIED_NAMES or when a link is refused; False when one was refused.
    Raises OSError, also for a file that `target` has already.
    """
    made: set[str] = set()
    linked = True
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in made:
            os.makedirs(os.path.join(target, folder), exist_ok=True)
            made.add(folder)
        places = os.path.join(source, path), os.path.join(target, path)
        if name in COPIED_NAMES:
            _copy(*places)
        else:
            linked = _link_or_copy(*places) and linked
    return linked


def _link_or_copy(source: str, target: str) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(source, target)
        return False
    return True


def _copy(source: str, target: str) -> None:
    # Imported here, as below, since reading a cube copies and removes nothing.
    import shutil

    shutil.copyfile(source, target, follow_symlinks=False)


def inodes(top: Path) -> dict[str, int]:
    """The inode of every file below `top` by its posix path; told by the folders alone, so it is quick."""
    found: dict[str, int] = {}
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    found[path] = entry.inode()
    return found


def walk_files(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below `top` as (posix path, lstat), sorted by path within its folder.

    Raises Damaged for anything that is not a regular file or a folder: links, devices and pipes have no
    place in a cube.
    """
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(top, folder)) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                pending.append(path)
            elif stat.S_ISREG(facts.st_mode):
                yield path, facts
            else:
                raise Damaged(f"expected only files and folders in {top}, found {stat.filemode(facts.st_mode)} {path}")


def measure_tree(top: Path) -> Iterator[os.stat_result]:
    """The facts about whatever lies below `top`, folders left out; nothing is odd enough to stop it."""
    for folder, _, names in os.walk(top):
        for name in names:
            with suppress(FileNotFoundError):
                yield os.lstat(os.path.join(folder, name))


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, or a file or link; what is gone already is no error."""
    import shutil

    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        # Somebody else finished the same clean-up between our look and our unlink.
        if os.path.lexists(path):
            remove_tree(path)


@contextmanager
def guard(root: Path) -> Iterator[None]:
    """Turn the disk's refusals about `root` into errors that say what to do; let all others pass."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        told = explain(error, root)
        if told is None:
            raise
        raise told from error


def explain(error: OSError | RuntimeError, root: Path) -> MemosError | None:
    """What a disk error means for the cube at `root`; None when it concerns something else."""
    code = _code_of(error)
    if code is None or not _concerns(error, root):
        return None
    place = getattr(error, "filename", None) or root
    if code in _FULL:
        return MemosError(
            f"no space left to write {place}; the cube is as it was",
            hint=f"free some space (old versions go with: memos gc {root}), then run the command again",
        )
    if code in _READ_ONLY:
        return MemosError(
            f"cannot write {place}: {os.strerror(code).lower()}",
            hint=f"work on a copy in a folder you can write: cp -a {root} COPY.cube",
        )
    if code == errno.EIO:
        return MemosError(f"the disk failed at {place}: {error}", hint=f"memos audit {root} --deep")
    if code in _ODD:
        return Damaged(f"expected an ordinary cube folder at {root}, found {place}: {os.strerror(code).lower()}")
    return None


def _code_of(error: OSError | RuntimeError) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _RUST_ERROR.search(str(error))
    return int(found[1]) if found else None


def _concerns(error: OSError | RuntimeError, root: Path) -> bool:
    """Whether the error is about a path in `root`; an error that names no path is, when the disk is full or failing."""
    names = [getattr(error, "filename", None), getattr(error, "filename2", None)]
    named = [os.path.abspath(os.fsdecode(name)) for name in names if isinstance(name, str | bytes | os.PathLike)]
    if not named:
        return _code_of(error) in _FULL | {errno.EIO, errno.EROFS}
    top = os.path.realpath(root)
    return any(os.path.realpath(name) == top or os.path.realpath(name).startswith(top + os.sep) for name in named)
