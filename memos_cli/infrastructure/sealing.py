"""Files for the eyes of some: age encryption to recipients, and back with an identity.

Says who can begin to read a file, not who wrote it. What is decrypted is whole or is not there: age finds a change only
where it reaches it, after it has given out what comes before. Knows nothing of what is inside.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from memos_cli.errors import Damaged, MemosError, NotAllowed, NotFound, Usage

MAGIC = b"age-encryption.org/v1\n"
_FILE_LIMIT_BYTES = 256 << 10
MOST_RECIPIENTS = 100


def is_sealed(path: Path) -> bool:
    """Whether the file at `path` begins as an encrypted one. Raises OSError."""
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def parse_recipients(words: Sequence[str]) -> list[Any]:
    """The recipients in some words: age1..., an ssh public key, or a file with one of them a line. Raises Usage."""
    found = [recipient for word in words for recipient in _recipients_of(word)]
    if len(found) > MOST_RECIPIENTS:
        raise Usage(f"a file is for at most {MOST_RECIPIENTS} recipients, found {len(found)}")
    return found


def read_identity(path: Path) -> list[Any]:
    """The identities in a file, as age-keygen or ssh-keygen writes it. Raises NotFound, Usage."""
    import pyrage

    text = _text(path)
    found: list[Any] = []
    with suppress(pyrage.IdentityError, ValueError):
        if "PRIVATE KEY-----" in text:
            found.append(pyrage.ssh.Identity.from_buffer(text.encode()))
        else:
            found += [pyrage.x25519.Identity.from_str(line) for line in _lines(text)]
    if not found:
        raise Usage(
            f"{path} holds no identity: expected AGE-SECRET-KEY-1... or an ssh key", hint="age-keygen -o key.txt"
        )
    return found


def encrypt(pieces: Iterator[bytes | memoryview], stream: BinaryIO, recipients: Sequence[Any]) -> None:
    """Writes these bytes to `stream`, to be read by any of the recipients alone."""
    import pyrage

    pyrage.encrypt_io(_Pieces(pieces), stream, list(recipients))


def decrypt(path: Path, stream: BinaryIO, identities: Sequence[Any]) -> None:
    """Writes what is in the encrypted file at `path` to `stream`; what was written is of no use when this raises.

    Raises NotAllowed when it is for none of the identities, Damaged when it was changed.
    """
    import pyrage

    try:
        with open(path, "rb") as source:
            pyrage.decrypt_io(source, stream, list(identities))
    except pyrage.DecryptError as error:
        if "No matching" in str(error):
            raise NotAllowed(f"{path} is encrypted, and not for this identity", hint="-i with another key") from error
        raise Damaged(f"{path}: it was changed or cut short after it was encrypted ({error})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damaged(f"{path}: it was changed or cut short after it was encrypted ({error})") from error


def _recipients_of(word: str) -> list[Any]:
    lines = [word] if word.startswith(("age1", "ssh-")) else list(_lines(_text(Path(word))))
    return [_recipient(line) for line in lines]


def _recipient(line: str) -> Any:
    import pyrage

    try:
        if line.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(line)
        return pyrage.x25519.Recipient.from_str(line)
    except (pyrage.RecipientError, ValueError) as error:
        raise Usage(f"a recipient is age1..., an ssh public key or a file of them, found {line[:80]!r}") from error


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read(_FILE_LIMIT_BYTES).decode("utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"no file of keys at {str(path)[:200]}", hint="age-keygen -o key.txt makes one") from error
    except UnicodeDecodeError as error:
        raise Usage(f"{path} is no text of keys") from error
    except OSError as error:
        raise MemosError(f"{path} cannot be read: {error.strerror}") from error


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file to read."""

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._pieces, self._held = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer when a piece ends; none at the end."""
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held = memoryview(piece)
        taken = bytes(self._held[:size] if size >= 0 else self._held)
        self._held = self._held[len(taken) :]
        return taken
