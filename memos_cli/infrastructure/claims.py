"""What is made beside its place and renamed: held while its maker lives, and cleared away once it does not.

Whoever makes something at `NAME` does so at `.NAME.<process>-<hex>.tmp` in the same folder, and holds a lock on that
until it is renamed or removed. The lock ends with the process, however it ends: so a name that can be locked is of
nobody who lives, in this machine's processes, containers and users alike. Where there are no locks nothing is cleared.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memos_cli.errors import MemosError
from memos_cli.infrastructure import disk, locks


@contextmanager
def folder_beside(place: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """A new folder beside `place`, held until the end; when it is still there then, it is removed. Raises OSError."""
    with _held(place, lambda temporary: os.mkdir(temporary, mode)) as temporary:
        yield temporary


@contextmanager
def file_beside(place: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """A new, empty file beside `place`; otherwise as `folder_beside`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with _held(place, lambda temporary: os.close(os.open(temporary, flags, mode))) as temporary:
        yield temporary


def clear(place: Path) -> list[Path]:
    """Removes what processes that are gone left beside `place`, and says what; never what a live one holds."""
    return _clear_all(place.parent, re.escape(place.name))


def clear_all(folder: Path, *, beginning: str) -> list[Path]:
    """The same for every place in `folder` whose name begins so."""
    return _clear_all(folder, rf"{re.escape(beginning)}.*")


def _clear_all(folder: Path, name: str) -> list[Path]:
    pattern = re.compile(rf"\.{name}\.\d+-[0-9a-f]{{8}}\.tmp", re.DOTALL)
    try:
        names = sorted(found for found in os.listdir(folder) if pattern.fullmatch(found))
    except OSError:
        return []
    return [path for path in (folder / found for found in names) if _clear(path)]


@contextmanager
def _held(place: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    temporary, descriptor = _claim(place, make)
    try:
        yield temporary
    finally:
        with suppress(OSError, MemosError):
            if _is_at(temporary, descriptor):
                disk.remove_tree(temporary)
        os.close(descriptor)


def _claim(place: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    """A name of one's own beside `place`, and its lock."""
    while True:
        temporary = place.with_name(f".{place.name}.{os.getpid()}-{disk.random_hex(4)}.tmp")
        make(temporary)
        with suppress(FileNotFoundError):
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            # before it had its lock another process may have taken it for a dead one's
            if locks.share(descriptor) and _is_at(temporary, descriptor):
                return temporary, descriptor
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _clear(path: Path) -> bool:
    """Removes what is at `path` when nobody holds it; whether it did."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not locks.seize(descriptor):
            return False
        with suppress(OSError, MemosError):
            disk.remove_tree(path)
        return not os.path.lexists(path)
    finally:
        os.close(descriptor)
