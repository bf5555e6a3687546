"""Packages on their way: only what is missing travels, each byte is hashed as it goes by, and a stop costs little.

Up: blobs, then signatures, then the manifest, then its tag, so that nothing is published before all of it is there.
Down: each blob into a partial file that the next process goes on with, renamed when its digest is right.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from memos_cli.cube.digest import digest_of
from memos_cli.errors import Damaged, Interrupted, NotFound
from memos_cli.infrastructure.disk import remove_tree, sync
from memos_cli.infrastructure.store.transport import MANIFEST_TYPE, Blob, Content, Named, Progress, Transport
from memos_cli.infrastructure.store.wire import Dropped, Wire

THREADS = 4
PARTIAL = ".part"
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is pushed: a manifest with its blobs, and manifests that are said of it under tags of their own."""

    version: str
    manifest: bytes
    artifact_type: str
    blobs: Sequence[tuple[Blob, Content]]
    said: Sequence[tuple[str, Parcel]] = ()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a push did: blobs and bytes that travelled, blobs that were there."""

    digest: str
    blobs: int
    bytes: int
    there: int


def push(transport: Transport, parcel: Parcel, *, progress: Progress | None = None, dry_run: bool = False) -> Sent:
    """Publishes a parcel. Raises Taken when its version is another one there, StoreFailed, Damaged."""
    _check_free(transport, parcel)
    everything = [*parcel.blobs, *(pair for _, said in parcel.said for pair in said.blobs)]
    needed = list({blob.digest: (blob, content) for blob, content in everything}.values())
    missing = _missing(transport, needed)
    size = sum(blob.size for blob, _ in missing)
    if not dry_run:
        tally = _Tally(size, progress)
        _in_threads(lambda pair: transport.write(pair[0], pair[1], tally.add), missing, tally)
        for tag, said in parcel.said:
            transport.tag(tag, said.manifest, media_type=MANIFEST_TYPE, artifact_type=said.artifact_type, replace=True)
        transport.tag(None, parcel.manifest, media_type=MANIFEST_TYPE, artifact_type=parcel.artifact_type, replace=True)
        transport.tag(
            parcel.version, parcel.manifest, media_type=MANIFEST_TYPE, artifact_type=parcel.artifact_type, replace=False
        )
        tally.end()
    return Sent(parcel.digest, len(missing), size, len(needed) - len(missing))


def _check_free(transport: Transport, parcel: Parcel) -> None:
    """Raises Taken before anything travels, when the version is published as something else."""
    from memos_cli.infrastructure.store.transport import Taken

    try:
        there = transport.manifest(parcel.version)
    except NotFound:
        return
    if there.digest != parcel.digest:
        raise Taken.by(transport.place, parcel.version, there.digest, parcel.digest)


def _missing(transport: Transport, pairs: Sequence[tuple[Blob, Content]]) -> list[tuple[Blob, Content]]:
    with ThreadPoolExecutor(THREADS) as pool:
        there = list(pool.map(lambda pair: transport.has(pair[0]), pairs))
    return [pair for pair, found in zip(pairs, there, strict=True) if not found]


def verified(transport: Transport, name: str) -> Named:
    """The manifest under a tag or digest; under a digest it is that very one. Raises Damaged, NotFound."""
    found = transport.manifest(name)
    if name.startswith("sha256:") and found.digest != name:
        raise Damaged(f"{transport.place}: expected the manifest {name}, found one of {found.digest}; nothing is kept")
    return found


def small(transport: Transport, blob: Blob, *, limit_bytes: int) -> bytes:
    """A short blob whole, when it is the right one. Raises Damaged, NotFound, StoreFailed."""
    if not 0 <= blob.size <= limit_bytes:
        raise Damaged(f"{transport.place}: expected at most {limit_bytes:,} bytes as {blob.short}, found {blob.size:,}")
    data = bytearray()
    with closing(transport.read(blob, 0).pieces) as pieces:
        for piece in pieces:
            data += piece
            if len(data) > blob.size:
                break
    if len(data) != blob.size or digest_of(bytes(data)) != blob.digest:
        raise _other_bytes(transport.place, blob, digest_of(bytes(data)), len(data))
    return bytes(data)


def fetch(
    transport: Transport, blobs: Iterable[Blob], folder: Path, *, wire: Wire, progress: Progress | None = None
) -> int:
    """Puts each blob into `folder` under its hex, verified; returns the bytes that travelled.

    What an earlier process brought is hashed and kept. Raises Damaged for wrong bytes, of which none are kept.
    """
    wanted = list({blob.digest: blob for blob in blobs}.values())
    os.makedirs(folder, exist_ok=True)
    tally = _Tally(sum(blob.size for blob in wanted), progress)
    before = tally.done
    travelled: list[int] = []
    _in_threads(lambda blob: travelled.append(_Download(transport, blob, folder, wire, tally).run()), wanted, tally)
    sync(folder)
    tally.end()
    return sum(travelled) - before


class _Download:
    """One blob on its way down."""

    def __init__(self, transport: Transport, blob: Blob, folder: Path, wire: Wire, tally: _Tally) -> None:
        self.transport, self.blob, self.wire, self.tally = transport, blob, wire, tally
        self.target = folder / blob.hex
        self.partial = folder / f"{blob.hex}{PARTIAL}"
        self.seen = hashlib.sha256()
        self.size = 0
        self.travelled = 0

    def run(self) -> int:
        """The bytes that travelled for it."""
        if self.target.exists():
            self._take_up(self.target)
            if self.size == self.blob.size and self.seen.hexdigest() == self.blob.hex:
                return 0
            self.target.unlink()
        resumed = self._take_up(self.partial) > 0
        self._receive()
        if self.seen.hexdigest() != self.blob.hex and resumed:
            # what an earlier run left may have been of a bad connection: once more from nothing
            self._begin_anew()
            self._receive()
        if self.seen.hexdigest() != self.blob.hex:
            self.partial.unlink(missing_ok=True)
            raise _other_bytes(self.transport.place, self.blob, f"sha256:{self.seen.hexdigest()}", self.size)
        sync(self.partial)
        os.rename(self.partial, self.target)
        return self.travelled

    def _take_up(self, path: Path) -> int:
        """Hashes what is there already; how many bytes that is."""
        self.seen, self.size = hashlib.sha256(), 0
        if not path.is_file() or path.stat().st_size > self.blob.size:
            remove_tree(path)
            return 0
        with open(path, "rb", buffering=0) as stream:
            while piece := stream.read(1 << 20):
                self.seen.update(piece)
                self.size += len(piece)
        self.tally.add(self.size)
        return self.size

    def _begin_anew(self) -> None:
        self.tally.add(-self.size)
        self.partial.unlink(missing_ok=True)
        self.seen, self.size = hashlib.sha256(), 0

    def _receive(self) -> None:
        """Reads until all is there. Raises StoreFailed when nothing comes for as long as the wire waits."""
        until, attempt = time.monotonic() + self.wire.retry_seconds, 0
        while self.size < self.blob.size or not self.partial.exists():
            before = self.size
            try:
                self._read_on()
                if self.size < self.blob.size:
                    raise Dropped(f"{self.transport.place} ends {self.blob.short} at {self.size:,} of "
                                  f"{self.blob.size:,} bytes")  # fmt: skip
            except Dropped as error:
                if self.size > before:
                    until, attempt = time.monotonic() + self.wire.retry_seconds, 0
                if not self.wire.wait(until, attempt, error):
                    raise
                attempt += 1

    def _read_on(self) -> None:
        stream = self.transport.read(self.blob, self.size)
        if stream.start != self.size:
            self._begin_anew()
            if stream.start:
                raise Dropped(f"{self.transport.place} sends bytes from {stream.start:,} on, which nobody asked for")
        with closing(stream.pieces) as pieces, open(self.partial, "ab", buffering=0) as target:
            for piece in pieces:
                if self.size + len(piece) > self.blob.size:
                    self.partial.unlink(missing_ok=True)
                    raise _other_bytes(self.transport.place, self.blob, "more bytes", self.size + len(piece))
                target.write(piece)
                self.seen.update(piece)
                self.size += len(piece)
                self.travelled += len(piece)
                self.tally.add(len(piece))


def _other_bytes(place: str, blob: Blob, found: str, size: int) -> Damaged:
    return Damaged(
        f"{place}: expected {blob.digest} ({blob.size:,} bytes), got {found} ({size:,} bytes); nothing of it is kept",
        hint="the store is damaged or not honest: take the package from another source",
    )


class _Tally:
    """Bytes of several threads, told as one; and the word to stop."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.done = total, 0
        self.stop = threading.Event()
        self._progress, self._lock = progress, threading.Lock()

    def add(self, count: int) -> None:
        """Raises Interrupted when another thread has failed."""
        if self.stop.is_set():
            raise Interrupted("stopped, since another part failed")
        with self._lock:
            self.done += count
            if self._progress:
                self._progress(min(self.done, self.total - 1), self.total, "")

    def end(self) -> None:
        if self._progress:
            self._progress(self.total, self.total, "")


def _in_threads(work: Callable[[Item], object], items: Sequence[Item], tally: _Tally) -> None:
    """`work` on every item; the first to fail stops the others and is what is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            tally.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def referrer_tag(digest: str) -> str:
    """The tag under which what is said of a manifest is found, in registries without a list of referrers too."""
    return digest.replace(":", "-", 1)


def from_bytes(data: bytes) -> tuple[Blob, Content]:
    """A short blob that is held in memory."""

    def content(offset: int) -> Iterator[bytes]:
        yield data[offset:]

    return Blob(digest_of(data), len(data)), content
