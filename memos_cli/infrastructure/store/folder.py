"""A tree of files in a folder: `file://`, the store that any shared disk is.

A blob is written beside its place and renamed once it is whole, synced and right; what an interrupted push left is
hashed again and gone on with. One push at a time writes a file, and index.json is swapped under a lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from memos_cli.cube.digest import sha256_hex
from memos_cli.errors import MemosError, NotFound, StoreFailed
from memos_cli.infrastructure.disk import sync, write_bytes
from memos_cli.infrastructure.store.transport import PIECE_BYTES, Outgoing, Stream

LOCK = ".lock"
PARTIAL = ".part"


class Folder:
    """The files below a folder."""

    def __init__(self, root: Path, *, place: str) -> None:
        self._root, self.place = root, place

    def size(self, path: str) -> int | None:
        with _telling(self.place):
            try:
                return os.stat(self._root / path).st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read(self, path: str, offset: int) -> Stream:
        if self.size(path) is None:
            raise NotFound(f"no {path} in {self.place}")
        return Stream(offset, self._pieces(path, offset))

    def write(self, path: str, out: Outgoing, sent: Callable[[int], None]) -> None:
        target = self._root / path
        partial = target.with_name(f".{target.name}{PARTIAL}")
        with _telling(self.place):
            os.makedirs(target.parent, exist_ok=True)
            with _alone(partial) as descriptor:
                if not target.exists():
                    self._fill(descriptor, out, sent)
                    os.rename(partial, target)
                    sync(target.parent)
                else:
                    partial.unlink(missing_ok=True)

    def small(self, path: str, limit_bytes: int) -> tuple[bytes, str] | None:
        with _telling(self.place):
            try:
                with open(self._root / path, "rb") as stream:
                    data = stream.read(limit_bytes + 1)
            except (FileNotFoundError, NotADirectoryError):
                return None
        if len(data) > limit_bytes:
            raise StoreFailed(f"{self.place}/{path}: expected at most {limit_bytes:,} bytes, found more")
        return data, sha256_hex(data)

    def swap(self, path: str, data: bytes, state: str | None) -> bool:
        with _telling(self.place):
            os.makedirs(self._root, exist_ok=True)
            with _alone(self._root / LOCK, keep=True):
                now = self.small(path, len(data) + (64 << 20))
                if (now[1] if now else None) != state:
                    return False
                write_bytes(self._root / path, data, durable=True)
                os.chmod(self._root / path, 0o644)
                sync(self._root)
        return True

    def folders(self) -> Sequence[str]:
        with _telling(self.place):
            try:
                with os.scandir(self._root) as found:
                    return sorted(entry.name for entry in found if entry.is_dir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _pieces(self, path: str, offset: int) -> Generator[bytes, None, None]:
        with _telling(self.place), open(self._root / path, "rb", buffering=0) as stream:
            stream.seek(offset)
            while piece := stream.read(PIECE_BYTES):
                yield piece

    def _fill(self, descriptor: int, out: Outgoing, sent: Callable[[int], None]) -> None:
        """Brings the partial file to its full size; what is there already counts when it is the right bytes."""
        there = min(os.fstat(descriptor).st_size, out.blob.size)
        if there and not _is_start(descriptor, there, out):
            there = 0
        os.ftruncate(descriptor, there)
        os.lseek(descriptor, there, os.SEEK_SET)
        for piece in out.pieces(there, out.blob.size - there):
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
            sent(len(piece))
        out.check()
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)


def _is_start(descriptor: int, length: int, out: Outgoing) -> bool:
    """Whether the file begins as what is sent does."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    for piece in out.pieces(0, length):
        found = os.read(descriptor, len(piece))
        if found != piece:
            return False
    return True


@contextmanager
def _alone(path: Path, *, keep: bool = False) -> Iterator[int]:
    """An open file that no other push has; waits for one that does, and never keeps a name that was taken away."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with suppress(OSError):  # a file system without locks: the last rename wins, and content is by digest
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if keep or _is_named(path, descriptor):
            break
        os.close(descriptor)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_named(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _telling(place: str) -> Iterator[None]:
    """The disk's refusals in words."""
    try:
        yield
    except OSError as error:
        if isinstance(error, MemosError):
            raise
        why = (error.strerror or type(error).__name__).lower()
        hint = "free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        raise StoreFailed(f"{place}: {error.filename or 'the disk'}: {why}", hint=hint) from error
