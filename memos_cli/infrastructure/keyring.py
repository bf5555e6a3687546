"""Keys for keyed hashes: 32 random bytes in `$MEMOS_HOME/keys`, made on first use, that never leave the home.

What is hashed with one can be recognised by this home and guessed by nobody else. Knows nothing of what is hashed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from memos_cli.errors import Damaged, MemosError

FOLDER = "keys"
KEY_BYTES = 32


def secret(home: Path, name: str) -> bytes:
    """The key in the file `name` of the home's keys, made on first use. Raises Damaged, MemosError."""
    path = home / FOLDER / name
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = _make(path)
    except OSError as error:
        raise MemosError(f"{path} cannot be read: {error.strerror}", hint=f"chmod 600 {path}") from error
    if len(key) != KEY_BYTES:
        raise Damaged(f"{path}: expected {KEY_BYTES} bytes, found {len(key)}", hint=f"rm {path}  (a new one is made)")
    return key


def _make(path: Path) -> bytes:
    """Make the key once; of two processes at a time, both get the one that was first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, os.urandom(KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A link, unlike a rename, does not replace a key that another process made meanwhile.
        with suppress(FileExistsError):
            os.link(temporary, path)
        os.unlink(temporary)
        return path.read_bytes()
    except OSError as error:
        raise MemosError(
            f"no key {path.name} could be made in {path.parent}: {error.strerror}",
            hint="export MEMOS_HOME=/a/folder/you/can/write",
        ) from error
