"""A regular file as a stream of bytes that hashes what passes and knows whether the file changed meanwhile."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

from memos_cli.errors import Damaged, MemosError, NotFound
from memos_cli.interface.sources.limits import Changed

READ_BYTES = 1 << 20


class HashedFile(io.RawIOBase):
    """The bytes of one file in order. Raises NotFound, Damaged (not a regular file) or MemosError (not readable)."""

    def __init__(self, path: Path, *, name: str) -> None:
        self._name = name
        self._path = path
        self._hash = hashlib.sha256()
        self._file = _open_regular(path, name=name)
        self._before = _identity(os.fstat(self._file.fileno()))
        self.size = self._before[1]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            count = self._file.readinto(buffer)
        except OSError as error:
            raise MemosError(f"{self._name}: reading failed ({error.strerror})") from error
        self._hash.update(memoryview(buffer)[:count])
        return count or 0

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def finish(self) -> str:
        """'sha256:<hex>' of the whole file, read to its end; raises Changed when it is not the file that was opened."""
        while self.read(READ_BYTES):
            pass
        try:
            after = _identity(os.stat(self._path))
        except OSError as error:
            raise Changed(f"{self._name}: the file vanished while it was read", "run the command again") from error
        if after != self._before:
            raise changed(self._name)
        return f"sha256:{self._hash.hexdigest()}"


def changed(name: str) -> Changed:
    """The error for a source that is not what it was."""
    return Changed(f"{name}: the file changed while it was read", "run the command again once it is at rest")


def _open_regular(path: Path, *, name: str) -> io.FileIO:
    # O_NONBLOCK: a FIFO put in the file's place must not hang the open; it is refused right after.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"{name}: no such file") from error
    except OSError as error:
        raise MemosError(f"{name}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damaged(f"{name}: not a regular file", "pipe it in and name it -")
    return io.FileIO(handle)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
