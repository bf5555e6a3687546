"""The archive of a packed cube: an OCI image layout as one plain file, equal bytes for equal images.

Written as a stream, read where it lies. Knows nothing of what is inside blobs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from memos_cli.cube import oci, ustar
from memos_cli.cube.blobs import Span, read
from memos_cli.cube.bundle import Layout, Progress
from memos_cli.cube.digest import digest_of
from memos_cli.cube.oci import Descriptor, Image
from memos_cli.errors import Damaged


class Writer(Protocol):
    """What bytes are written to; it tells how many it took."""

    def write(self, data: memoryview, /) -> int | None: ...


def write(image: Layout, stream: Writer, *, signatures: Sequence[bytes] = (), progress: Progress | None = None) -> int:
    """Writes the archive of an image and of the envelopes that sign it, equal bytes for equal ones; returns how many.

    Raises Damaged, in the middle of writing, for a file that has changed; OSError.
    """
    done = 0
    for piece in pieces(image, signatures=signatures, progress=progress):
        view = memoryview(piece)
        done += len(view)
        while view:
            view = view[stream.write(view) or 0 :]
    return done


def pieces(
    image: Layout, *, signatures: Sequence[bytes] = (), progress: Progress | None = None
) -> Iterator[bytes | memoryview]:
    """The bytes that `write` writes, each piece good until the next is asked for."""
    index = oci.build_index(image.manifest, version=image.version, signatures=signatures)
    small = [("oci-layout", oci.LAYOUT_FILE), ("index.json", index), (_blob_name(image.digest), image.manifest)]
    envelopes = {digest_of(envelope): envelope for envelope in signatures}
    small += [(_blob_name(digest), envelope) for digest, envelope in sorted(envelopes.items())]
    config, version, *rest = image.blobs
    blobs = [config, version, *sorted(rest, key=lambda blob: blob.descriptor.digest)]
    for name, data in small:
        yield ustar.header(name, len(data)) + data + ustar.padding(len(data))
    whole, done = sum(blob.descriptor.size for blob in blobs), 0
    for blob in blobs:
        yield ustar.header(_blob_name(blob.descriptor.digest), blob.descriptor.size)
        for chunk in blob.chunks():
            yield chunk
            done += len(chunk)
            if progress:
                progress(done, whole, image.name)
        yield ustar.padding(blob.descriptor.size)
    yield ustar.END


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive whose names and small parts were checked: the image, its manifest's bytes, its signatures' envelopes.

    No blob of it is verified yet but the manifest and the envelopes.
    """

    path: Path
    image: Image
    manifest: bytes
    signatures: tuple[bytes, ...]
    spans: dict[str, Span]

    def fetch(self, blob: Descriptor) -> Span:
        """Where the blob's bytes lie."""
        return self.spans[blob.digest]


def open_archive(path: Path) -> Archive:
    """The archive at `path`: entries exactly those that its index and manifest call for. Raises Damaged, OSError."""
    with open(path, "rb") as stream:
        entries = ustar.scan(stream, place=path)
        if list(entries)[:2] != ["oci-layout", "index.json"]:
            raise Damaged(f"{path}: expected oci-layout and index.json as the first entries, found others")
        spans = {name: Span(path, entry.offset, entry.size) for name, entry in entries.items()}
        if _small(spans.pop("oci-layout"), 64) != oci.LAYOUT_FILE:
            raise Damaged(f"{path}: expected an OCI image layout 1.0.0, found another oci-layout")
        found, signed = oci.parse_index(_small(spans.pop("index.json"), oci.INDEX_LIMIT_BYTES), place=f"{path}: index")
        blobs = {f"sha256:{name.rpartition('/')[2]}": span for name, span in spans.items()}
        manifest = _verified(blobs, found.digest, oci.MANIFEST_LIMIT_BYTES, path)
        image = oci.parse_manifest(manifest, place=f"{path}: manifest")
        envelopes = tuple(_verified(blobs, digest, oci.INDEX_LIMIT_BYTES, path) for digest in signed)
    _check_entries(path, image, found, blobs, signed)
    return Archive(path, image, manifest, envelopes, blobs)


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _small(span: Span, limit_bytes: int) -> bytes:
    if span.size > limit_bytes:
        raise Damaged(f"{span.path}: expected at most {limit_bytes:,} bytes, found {span.size:,}")
    return b"".join(bytes(piece) for piece in read((span,)))


def _verified(blobs: dict[str, Span], digest: str, limit_bytes: int, path: Path) -> bytes:
    if digest not in blobs:
        raise Damaged(f"{path}: expected the blob {digest[:23]}, found none")
    data = _small(blobs[digest], limit_bytes)
    if digest_of(data) != digest:
        raise Damaged(f"{path}: expected the blob {digest[:23]}, found other bytes under its name")
    return data


def _check_entries(
    path: Path, image: Image, found: Descriptor, blobs: dict[str, Span], signed: tuple[str, ...]
) -> None:
    """Whether the archive has all that its manifest names, and nothing else."""
    if found.size != image.size or found.annotations[oci.REF_NAME] != image.version:
        raise Damaged(f"{path}: expected the index to tell the manifest's size and version, found others")
    wanted = {found.digest, *signed, *(blob.digest for blob in image.blobs)}
    if wanted != blobs.keys():
        raise Damaged(
            f"{path}: expected {len(wanted):,} blobs, found {len(wanted ^ blobs.keys()):,} missing or too many"
        )
    for blob in image.blobs:
        if blobs[blob.digest].size != blob.size:
            raise Damaged(
                f"{path}: expected {blob.size:,} bytes as {blob.digest[:23]}, found {blobs[blob.digest].size:,}"
            )
