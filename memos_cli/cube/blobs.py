"""Blobs: bytes known by their digest, wherever they lie; read once, in pieces, and checked as they go by.

Knows nothing of cubes or archives.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.cube.oci import TITLE, Descriptor
from memos_cli.errors import Damaged

_READ_BYTES = 1 << 20
# So many pieces may be in use at once: what is slow at times, the hash or the disk, does not stop the other at once.
_PIECES = 4
_SYNC_THREADS = 8


class Span(NamedTuple):
    """Bytes that lie in a file."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob and where its bytes come from, in order."""

    descriptor: Descriptor
    sources: tuple[Span | bytes, ...]

    def chunks(self) -> Iterator[memoryview]:
        """The bytes in pieces, each good until the next is asked for. Raises Damaged at the end for any other bytes."""
        hasher = hashlib.sha256()
        if self.descriptor.size > _READ_BYTES:
            yield from _hashed_aside(hasher, read(self.sources, kept=_PIECES))
        else:
            for piece in read(self.sources):
                hasher.update(piece)
                yield piece
        if hasher.hexdigest() != self.descriptor.hex:
            found = hasher.hexdigest()[:16]
            raise Damaged(
                f"{_name(self.sources)}: expected the digest {self.descriptor.hex[:16]}, found {found}",
                hint="memos audit CUBE --deep",
            )


def _hashed_aside(hasher: Any, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    """These pieces, of which several are good at a time; a thread hashes them while whoever asked uses them."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as beside:
        for piece in pieces:
            waiting.append(beside.submit(hasher.update, piece))
            yield piece
            # the next piece is read into the buffer of the oldest
            if len(waiting) == _PIECES:
                waiting.popleft().result()


def describe(
    media_type: str,
    sources: tuple[Span | bytes, ...],
    *,
    title: str = "",
    hashed: Callable[[int, str], None] | None = None,
    beside: Any = None,
) -> Blob:
    """A blob of these bytes, which are read to know their digest.

    `hashed` hears the number and the sha256 of each source by itself; `beside` is a hash that takes them in too.
    """
    hasher, size = hashlib.sha256(), 0
    for index, source in enumerate(sources):
        own = hashlib.sha256() if hashed else None
        for piece in read((source,)):
            for each in (hasher, own, beside):
                if each is not None:
                    each.update(piece)
            size += len(piece)
        if hashed and own:
            hashed(index, own.hexdigest())
    said = {TITLE: title} if title else {}
    return Blob(Descriptor(media_type, f"sha256:{hasher.hexdigest()}", size, said), sources)


def read(sources: Iterable[Span | bytes], *, kept: int = 1) -> Iterator[memoryview]:
    """The bytes of these, in order; the last `kept` pieces are good at any time. Raises Damaged, OSError."""
    buffers = itertools.cycle([memoryview(bytearray(_READ_BYTES)) for _ in range(kept)])
    for source in sources:
        if isinstance(source, bytes):
            yield memoryview(source)
        else:
            yield from _read_span(source, buffers)


def _read_span(span: Span, buffers: Iterator[memoryview]) -> Iterator[memoryview]:
    left = span.size
    with open(span.path, "rb", buffering=0) as stream:
        stream.seek(span.offset)
        while left:
            buffer = next(buffers)
            count = stream.readinto(buffer[: min(left, len(buffer))])
            if not count:
                raise Damaged(
                    f"{span.path}: expected {left:,} bytes more, found its end", hint="memos audit CUBE --deep"
                )
            yield buffer[:count]
            left -= count


def _name(sources: Sequence[Span | bytes]) -> str:
    return str(next((source.path for source in sources if isinstance(source, Span)), "a small blob"))


class Chunks:
    """Bytes that come in pieces, taken in other pieces."""

    def __init__(self, chunks: Iterator[memoryview]) -> None:
        self._chunks, self._held = chunks, bytearray()

    def take(self, size: int) -> bytes:
        while len(self._held) < size:
            piece = next(self._chunks, None)
            if piece is None:
                raise Damaged(f"expected {size:,} bytes more in a bundle, found its end")
            self._held += piece
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def end(self) -> None:
        if self._held or any(len(piece) for piece in self._chunks):
            raise Damaged("expected the end of a bundle, found more bytes")


def write_new(target: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Puts these bytes into a file that was not there; `sync` makes them last. Raises OSError."""
    with open(target, "xb", buffering=0) as stream:
        fill(stream, chunks)


def fill(stream: Any, chunks: Iterable[bytes | memoryview]) -> None:
    """Puts these bytes behind those of an open, unbuffered file. Raises OSError."""
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[stream.write(view) :]


def sync(paths: Sequence[Path]) -> None:
    """Makes the content of these files survive a power cut; several wait together, which takes less time. OSError."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
