"""What a way to a store must be able to do, and the bytes that travel on it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memos_cli.errors import Damaged, StoreFailed

PIECE_BYTES = 1 << 20
MANIFEST_LIMIT_BYTES = 4 << 20
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Piece = bytes | memoryview
# The bytes of a blob from an offset to its end, each piece good until the next is asked for; may be asked again.
Content = Callable[[int], Iterator[Piece]]
# (bytes done, bytes in all or None, what)
Progress = Callable[[int, int | None, str], None]


def check_digest(digest: object, *, place: str) -> str:
    """`digest` itself. Raises Damaged unless it is `sha256:` and 64 hex digits: it becomes a path."""
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise Damaged(f"{place}: expected sha256:<64 hex> as a digest, found {str(digest)[:80]!r}")
    return digest


@dataclass(frozen=True, slots=True)
class Blob:
    """Some bytes by their digest (`sha256:<hex>`) and size."""

    digest: str
    size: int

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def short(self) -> str:
        """For people."""
        return self.digest[:19]


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes that arrive, and from which offset on, for a server may not know ranges. Who stops early closes them."""

    start: int
    pieces: Generator[bytes, None, None]


@dataclass(frozen=True, slots=True)
class Named:
    """A manifest under a tag: its bytes as they came, their digest, and what a layout's index notes of it."""

    data: bytes
    digest: str
    media_type: str
    notes: Mapping[str, str] = field(default_factory=dict)


class Taken(StoreFailed):
    """A version is published already, and is what it is for good."""

    @classmethod
    def by(cls, place: str, name: str, found: str, wanted: str) -> Taken:
        return cls(
            f"{place}:{name} is published already, as {found}, and this is {wanted}: a version never changes",
            hint="publish it under a new version, such as: memos pack CUBE --version X.Y.Z",
        )


class Transport(Protocol):
    """One package in one store. Raises StoreFailed when the store does not do it, NotFound for what it has not.

    What is read is not verified here; `transfer` does that for blobs, and whoever reads a manifest by digest.
    """

    @property
    def place(self) -> str:
        """The package as a reference without version, for people."""

    def has(self, blob: Blob) -> bool:
        """Whether the store holds the blob in its full size."""

    def read(self, blob: Blob, offset: int) -> Stream:
        """The bytes of a blob from `offset` on, or from 0 when the store cannot begin there."""

    def write(self, blob: Blob, content: Content, sent: Callable[[int], None]) -> None:
        """Puts a blob whole or not at all, going on where an earlier try ended; `sent` hears how many bytes went."""

    def manifest(self, name: str) -> Named:
        """The manifest under a tag or digest."""

    def tags(self) -> Sequence[str]:
        """All tags, in no order. Empty when there is no such package."""

    def tag(self, name: str | None, data: bytes, *, media_type: str, artifact_type: str = "", replace: bool) -> None:
        """Puts a manifest, and gives it a name. Raises Taken when the name has another manifest and not `replace`."""


class Files(Protocol):
    """Named bytes: what a store that is a tree of files is made of. Paths are relative, with `/`."""

    @property
    def place(self) -> str:
        """The tree as a reference, for people."""

    def size(self, path: str) -> int | None:
        """How many bytes a file has; None when there is none."""

    def read(self, path: str, offset: int) -> Stream:
        """A file's bytes from `offset` on, or from 0. Raises NotFound."""

    def write(self, path: str, out: Outgoing, sent: Callable[[int], None]) -> None:
        """Puts a file whole or not at all, after `out.check()`."""

    def small(self, path: str, limit_bytes: int) -> tuple[bytes, str] | None:
        """A short file and a word for the state it is in; None when there is none."""

    def swap(self, path: str, data: bytes, state: str | None) -> bool:
        """Replaces a short file that is in `state` (None: is not there); False when it is in another one by now."""

    def folders(self) -> Sequence[str]:
        """The names of the folders at the top."""


class Outgoing:
    """The bytes of a blob on their way out, each hashed once, however often it must be sent."""

    def __init__(self, blob: Blob, content: Content) -> None:
        self.blob = blob
        self._content = content
        self._seen = hashlib.sha256()
        self._hashed = 0

    def pieces(self, start: int, length: int) -> Iterator[Piece]:
        """`length` bytes from `start` on. Raises Damaged when there are fewer."""
        self._hash_to(start)
        at = start
        for piece in _first(self._content(start), length):
            fresh = at + len(piece) - self._hashed
            if fresh > 0:
                self._seen.update(piece if fresh == len(piece) else piece[-fresh:])
                self._hashed += fresh
            at += len(piece)
            yield piece
        if at != start + length:
            raise self._changed(f"{at} bytes of {self.blob.size}")

    def checked(self, start: int) -> Iterator[Piece]:
        """The bytes from `start` to the end, the last piece held back until all of it is known to be right."""
        last = b""
        for piece in self.pieces(start, self.blob.size - start):
            if last:
                yield last
            last = bytes(piece)  # the next piece may come in the same buffer
        self.check()
        yield last

    def check(self) -> None:
        """Returns when all bytes were those of the digest. Raises Damaged when the source has changed meanwhile."""
        self._hash_to(self.blob.size)
        if self._seen.hexdigest() != self.blob.hex:
            raise self._changed(f"sha256:{self._seen.hexdigest()}")

    def _hash_to(self, end: int) -> None:
        if end > self._hashed:
            for piece in _first(self._content(self._hashed), end - self._hashed):
                self._seen.update(piece)
                self._hashed += len(piece)

    def _changed(self, found: str) -> Damaged:
        return Damaged(
            f"expected to send {self.blob.digest}, found {found}: the source changed, and nothing was published",
            hint="memos audit --deep of the cube that is sent",
        )


def _first(pieces: Iterable[Piece], length: int) -> Iterator[Piece]:
    left = length
    for piece in pieces if length else ():
        if len(piece) >= left:
            yield piece if len(piece) == left else piece[:left]
            return
        left -= len(piece)
        yield piece
