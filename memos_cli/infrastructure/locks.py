"""Locks: one writer at a time, named to whoever must wait, and readers that a sweep leaves alone.

A reader never waits for a writer: it holds a shared lock on the MANIFEST.json of the version it reads, and a
sweep passes over what it cannot lock alone. All locks end with the process that holds them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from memos_cli.errors import Locked, MemosError
from memos_cli.infrastructure import mounts
from memos_cli.infrastructure.disk import is_writable, write_bytes

LOCK_NAME = "lock"
HOLDER_NAME = "lock.holder"
TIMEOUT_SECONDS = 5.0
UNSAFE_VARIABLE = "MEMOS_UNSAFE_NFS"

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EROFS, errno.EBADF, errno.EINVAL})
_HELD = frozenset({errno.EAGAIN, errno.EACCES})


@contextmanager
def writing(root: Path, *, operation: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[None]:
    """Hold the only writer's place in the cube at `root`.

    Raises Locked, naming the holder, when it is taken for longer than `timeout_seconds`; MemosError when the
    folder cannot be written at all, or lies on a network file system and nobody asked for that.
    """
    _refuse_read_only(root)
    _refuse_network(root)
    # Imported here because it costs 85 ms, which readers should not pay.
    from filelock import FileLock, Timeout

    lock = FileLock(root / LOCK_NAME, timeout=timeout_seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise Locked(
            f"cube {root} is being written by {holder(root)}",
            hint="wait for it to end, then run the command again",
        ) from error
    try:
        # The note only helps whoever must wait; on a full disk a gc must still get through.
        with suppress(OSError):
            _write_holder(root, operation)
        yield
    finally:
        with suppress(OSError):
            (root / HOLDER_NAME).unlink()
        lock.release()


def holder(root: Path) -> str:
    """The writer of the cube in words: process, machine, what it does and since when."""
    try:
        found = json.loads((root / HOLDER_NAME).read_bytes())
        pid, host, operation, since = (_plain(found[name]) for name in ("pid", "host", "operation", "since"))
        return f"process {pid} on {host} ({operation}, since {since})"
    # The holder may be between taking the lock and naming itself, or just done.
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def is_held(root: Path) -> bool:
    """Whether a writer holds the cube at this moment."""
    try:
        descriptor = os.open(root / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH, without=True)
    finally:
        os.close(descriptor)


def has_stale_note(root: Path) -> bool:
    """Whether there is a note of a writer that is gone: it was killed, and its lock ended with it."""
    return os.path.lexists(root / HOLDER_NAME) and not is_held(root)


def _plain(value: object) -> str:
    """A value from the note as it may be shown: anyone who can write the folder can write the note."""
    return "".join(letter for letter in str(value)[:80] if letter.isascii() and letter.isprintable())


def share(descriptor: int) -> bool:
    """Hold an open file against sweeps until it is closed; False when a sweep holds it.

    Where the file system has no locks, such as some network mounts, says True: there the reader relies on
    versions being kept.
    """
    return _lock(descriptor, fcntl.LOCK_SH, without=True)


def seize(descriptor: int) -> bool:
    """Hold an open file alone; False when a reader holds it, or when the file system has no locks."""
    return _lock(descriptor, fcntl.LOCK_EX, without=False)


def _lock(descriptor: int, kind: int, *, without: bool) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_LOCKS:
            return without
        raise
    return True


def _refuse_read_only(root: Path) -> None:
    if not is_writable(root):
        raise MemosError(
            f"cannot write {root}: the folder is read-only",
            hint=f"work on a copy in a folder you can write: cp -a {root} COPY.cube",
        )


def _refuse_network(root: Path) -> None:
    kind = mounts.filesystem(root)
    if kind in mounts.NETWORK and os.environ.get(UNSAFE_VARIABLE) != "1":
        raise MemosError(
            f"{root} lies on {kind}, where a writer on another machine may not see the lock; nothing was written",
            hint=f"keep the cube on a local disk, or when no other machine writes it: export {UNSAFE_VARIABLE}=1",
        )


def _write_holder(root: Path, operation: str) -> None:
    facts = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "operation": operation,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_bytes(root / HOLDER_NAME, json.dumps(facts).encode())
