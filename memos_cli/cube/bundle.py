"""A version of a cube as an OCI image layout, and back: what `pack`, `push`, `pull` and `unpack` share.

The config tells what is inside without fetching it; the first layer is the version's own MANIFEST.json, and the rest
follow from it alone: small files lie one after another in bundles, a large file is a blob of its own, and one past the
largest blob is in parts. So nothing in an image is free to vary: a reader works out the layers from MANIFEST.json and
refuses any others. Knows nothing of the network, of keys, or of what is inside files.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.cube import metadata, oci
from memos_cli.cube.blobs import Blob, Chunks, Span, describe, fill, sync, write_new
from memos_cli.cube.digest import (
    MANIFEST_LIMIT_BYTES,
    MANIFEST_NAME,
    Entry,
    Manifest,
    canonical,
    digest_of,
    hash_file,
    parse,
)
from memos_cli.cube.metadata import Memcube
from memos_cli.cube.oci import Descriptor, Image
from memos_cli.errors import Damaged

FORMAT = 1
VERSION_LAYER = "application/vnd.memos.memcube.version.v1+json"
BUNDLE_LAYER = "application/vnd.memos.memcube.small.v1"
PART_LAYER = "application/vnd.memos.memcube.part.v1"
_TYPES = {
    "plaintext": "application/vnd.memos.memcube.table.v1",
    "activation": "application/vnd.memos.memcube.kv.v1+safetensors",
    "parameter": "application/vnd.memos.memcube.lora.v1",
}
_OTHER = "application/vnd.memos.memcube.file.v1"
# So many blobs at most: past it, what counts as small grows.
MOST_BLOBS = 4_000

Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where the lines are between small files, which share a bundle, large ones, and those in parts.

    A blob of its own costs a registry three requests; a single upload to an object store takes at most 5 GB.
    """

    small_bytes: int = 1 << 20
    bundle_bytes: int = 64 << 20
    part_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Layout:
    """A version as an image: the manifest, whose digest is its identity; every blob once, config and version first."""

    name: str
    version: str
    sequence: int
    manifest: bytes
    blobs: tuple[Blob, ...]

    @property
    def digest(self) -> str:
        """The digest of the manifest: what names this very image."""
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's own descriptor."""
        return Descriptor(oci.MANIFEST, self.digest, len(self.manifest))


@dataclass(frozen=True, slots=True)
class Config:
    """What the config tells: enough to search and choose by, and to know the version before it is fetched."""

    name: str
    version: str
    cube_id: str
    sequence: int
    version_digest: str
    limits: Limits
    said: dict[str, Any]


class _Group(NamedTuple):
    """The entries of one layer and, of a file in parts, which bytes: the plan of an image."""

    kind: str
    entries: tuple[Entry, ...]
    offset: int
    size: int


def layout(folder: Path, *, limits: Limits = Limits()) -> Layout:
    """The version in `folder` as an image; reads small files, and those in parts, to know their digests.

    Raises Damaged for a version that is not whole, OSError.
    """
    raw = (folder / MANIFEST_NAME).read_bytes()
    manifest = parse(raw, place=str(folder / MANIFEST_NAME))
    cube = metadata.load(folder)
    _refuse_away(cube)
    limits = _fitting(manifest, limits)
    version = describe(VERSION_LAYER, (raw,), title=MANIFEST_NAME)
    layers = [version, *_layers(folder, _plan(manifest, limits))]
    config = describe(oci.CONFIG, (canonical(config_of(cube, manifest, digest_of(raw), limits)),))
    data = oci.build_manifest(
        name=cube.name, version=cube.version, config=config.descriptor, layers=[layer.descriptor for layer in layers],
        stamp=cube.stamp.text if cube.stamp else "",
    )  # fmt: skip
    oci.parse_manifest(data, place=str(folder))
    blobs = tuple({blob.descriptor.digest: blob for blob in (config, *layers)}.values())
    return Layout(cube.name, cube.version, manifest.version, data, blobs)


def config_of(cube: Memcube, manifest: Manifest, version_digest: str, limits: Limits) -> dict[str, Any]:
    """The config's JSON: a function of the version alone."""
    embedder = cube.plaintext.embedder
    needed = {"requires": dict(cube.requires)} if cube.requires else {}
    return {
        **needed,
        "format_version": FORMAT,
        "name": cube.name,
        "version": cube.version,
        "cube_id": manifest.cube_id,
        "sequence": manifest.version,
        "version_digest": version_digest,
        "description": cube.description,
        "licence": cube.licence,
        "sensitivity": cube.governance.sensitivity,
        "owner": cube.governance.owner,
        "forms": list(cube.forms),
        "memories": cube.plaintext.live,
        "embedder": asdict(embedder) if embedder else None,
        "created": cube.created.isoformat(),
        "updated": cube.updated.isoformat(),
        "files": len(manifest.files),
        "bytes": manifest.size_bytes,
        "limits": asdict(limits),
    }


def parse_config(data: bytes, *, place: str = "the config") -> Config:
    """What a config says; it may have keys that are unknown here. Raises Damaged for what `config_of` never makes."""
    said = oci.parse_object(data, place=place)
    kinds = {
        "format_version": int, "name": str, "version": str, "cube_id": str, "sequence": int, "version_digest": str,
        "limits": dict, "description": str, "licence": str, "sensitivity": str, "owner": str, "forms": list,
        "memories": int, "created": str, "updated": str, "files": int, "bytes": int,
    }  # fmt: skip
    for key, kind in kinds.items():
        if type(said.get(key)) is not kind:
            raise Damaged(f"{place}: expected {key} to be {kind.__name__}, found {said.get(key)!r:.60}")
    if said["format_version"] != FORMAT:
        raise Damaged(f"{place}: expected format {FORMAT}, found {said['format_version']}", hint="update memos")
    limits = _limits(said["limits"], place)
    return Config(
        said["name"], said["version"], said["cube_id"], said["sequence"], said["version_digest"], limits, said
    )  # fmt: skip


Fetch = Callable[[Descriptor], Span]


def read_small(blob: Descriptor, fetch: Fetch, *, limit_bytes: int) -> bytes:
    """A blob's bytes, when they are those of its descriptor. Raises Damaged."""
    if blob.size > limit_bytes:
        raise Damaged(f"expected a blob of at most {limit_bytes:,} bytes, found {blob.size:,} as {blob.digest[:23]}")
    data = b"".join(bytes(piece) for piece in Blob(blob, (fetch(blob),)).chunks())
    if len(data) != blob.size:
        raise Damaged(f"expected {blob.size:,} bytes as {blob.digest[:23]}, found {len(data):,}")
    return data


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image holds, as far as its two small blobs tell: nothing large is read yet."""

    image: Image
    config: Config
    manifest: Manifest
    raw_manifest: bytes


def contents(manifest: bytes, fetch: Fetch) -> Contents:
    """The config and the version's manifest of an image, when its layers are those they call for. Raises Damaged."""
    image = oci.parse_manifest(manifest)
    config = parse_config(read_small(image.config, fetch, limit_bytes=oci.CONFIG_LIMIT_BYTES))
    if (config.name, config.version) != (image.name, image.version):
        raise Damaged(
            f"expected the name {config.name} {config.version}, the manifest says {image.name} {image.version}"
        )
    raw = read_small(image.layers[0], fetch, limit_bytes=MANIFEST_LIMIT_BYTES)
    version = parse(raw, place="the version's manifest")
    said = (digest_of(raw), version.version, version.cube_id)
    if said != (config.version_digest, config.sequence, config.cube_id):
        raise Damaged(f"expected the version {config.version_digest[:23]}, found {said[0][:23]} in the first layer")
    _check_layers(image, version, config.limits)
    return Contents(image, config, version, raw)


def read_file(held: Contents, fetch: Fetch, path: str, *, limit_bytes: int) -> bytes:
    """One short file out of an image, without taking it apart. Raises Damaged when it is not there, or other bytes."""
    for blob, group in zip(held.image.layers[1:], _plan(held.manifest, held.config.limits), strict=True):
        offset = 0
        for entry in group.entries:
            if entry.path == path and entry.size <= limit_bytes and group.kind != "part":
                whole = fetch(blob)
                span = Span(whole.path, whole.offset + offset, entry.size)
                wanted = Descriptor(blob.media_type, f"sha256:{entry.sha256}", entry.size)
                return b"".join(bytes(piece) for piece in Blob(wanted, (span,)).chunks())
            offset += entry.size
    raise Damaged(f"expected a file {path} of at most {limit_bytes:,} bytes in the package, found none")


def assemble(
    manifest: bytes,
    fetch: Fetch,
    folder: Path,
    *,
    consumed: Callable[[Descriptor], None] | None = None,
    progress: Progress | None = None,
) -> Contents:
    """Makes the version of an image in the empty `folder`, each byte verified against the manifest and synced.

    `fetch` says where a blob lies; `consumed` hears when it is not needed any more. Nothing is placed under a name that
    the version's manifest does not hold. Raises Damaged for any difference; the folder is then the caller's to remove.
    """
    held = contents(manifest, fetch)
    done = 0
    layers = held.image.layers[1:]
    last = {blob.digest: index for index, blob in enumerate(layers)}
    for index, group in enumerate(_plan(held.manifest, held.config.limits)):
        blob = layers[index]
        _place(folder, group, Blob(blob, (fetch(blob),)))
        done += blob.size
        if consumed and last[blob.digest] == index:
            consumed(blob)
        if progress:
            progress(done, held.image.size_bytes, held.image.name)
    write_new(folder / MANIFEST_NAME, [held.raw_manifest])
    _check_config(folder, held)
    # last, for of what is refused nothing has to last
    sync([folder / MANIFEST_NAME, *(folder / entry.path for entry in held.manifest.files)])
    return held


def _plan(manifest: Manifest, limits: Limits) -> list[_Group]:
    """The layers after the first: bundles of small files in order, then each large file, whole or in parts."""
    bundles: list[list[Entry]] = []
    room = 0
    for entry in manifest.files:
        if entry.size >= limits.small_bytes:
            continue
        if entry.size > room or not bundles:
            bundles.append([])
            room = limits.bundle_bytes
        bundles[-1].append(entry)
        room -= entry.size
    groups = [_Group("bundle", tuple(some), 0, sum(one.size for one in some)) for some in bundles]
    for entry in manifest.files:
        if entry.size >= limits.small_bytes:
            groups.extend(_of_large(entry, limits.part_bytes))
    return groups


def _of_large(entry: Entry, part_bytes: int) -> Iterator[_Group]:
    if entry.size <= part_bytes:
        yield _Group("file", (entry,), 0, entry.size)
        return
    for offset in range(0, entry.size, part_bytes):
        yield _Group("part", (entry,), offset, min(part_bytes, entry.size - offset))


def _fitting(manifest: Manifest, limits: Limits) -> Limits:
    """The limits, raised until the image has at most MOST_BLOBS layers."""
    while len(_plan(manifest, limits)) > MOST_BLOBS:
        limits = Limits(
            2 * limits.small_bytes, 2 * limits.bundle_bytes, max(limits.part_bytes, 2 * limits.bundle_bytes)
        )
    return limits


def _limits(said: dict[str, Any], place: str) -> Limits:
    sizes = [said.get(name) for name in Limits.__slots__]
    whole = all(type(size) is int for size in sizes) and len(said) == len(sizes)
    if not whole or not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= oci.BLOB_LIMIT_BYTES:  # type: ignore[operator]
        raise Damaged(f"{place}: expected three sizes in order as limits, found {sizes!r:.90}")
    return Limits(**said)


def _layers(folder: Path, groups: Iterable[_Group]) -> Iterator[Blob]:
    """The layers of the image of the version in `folder`. Raises Damaged for a file that is not as it was published.

    A file that is a blob by itself is checked when it is sent: its digest is known.
    """
    whole = hashlib.sha256()
    for group in groups:
        spans = tuple(Span(folder / entry.path, group.offset, entry.size) for entry in group.entries)
        if group.kind == "file":
            kind, _, digest, said = _expected(group)
            yield Blob(Descriptor(kind, str(digest), group.size, said), spans)
        elif group.kind == "bundle":
            yield describe(BUNDLE_LAYER, spans, hashed=functools.partial(_same_of, group.entries))
        else:
            whole = hashlib.sha256() if group.offset == 0 else whole
            (entry,) = group.entries
            span = Span(folder / entry.path, group.offset, group.size)
            yield describe(PART_LAYER, (span,), title=entry.path, beside=whole)
            if group.offset + group.size == entry.size:
                _same(entry, whole.hexdigest())


def _same_of(entries: Sequence[Entry], index: int, found: str) -> None:
    _same(entries[index], found)


def _same(entry: Entry, found: str) -> None:
    if found != entry.sha256:
        raise Damaged(
            f"{entry.path}: expected the sha256 {entry.sha256[:16]}, found {found[:16]}: it is not as it was published",
            hint="memos audit CUBE --deep, then memos rollback to a sound version",
        )


def _check_layers(image: Image, manifest: Manifest, limits: Limits) -> None:
    """Whether the image has the very layers that the version calls for."""
    if _fitting(manifest, limits) != limits:
        raise Damaged(f"expected at most {MOST_BLOBS:,} layers, found limits that make more")
    groups = _plan(manifest, limits)
    first = image.layers[0]
    if first.media_type != VERSION_LAYER or len(groups) != len(image.layers) - 1:
        raise Damaged(f"expected {len(groups) + 1:,} layers, the version first; found {len(image.layers):,} others")
    for layer, group in zip(image.layers[1:], groups, strict=True):
        expected = _expected(group)
        found = (layer.media_type, layer.size, layer.digest if expected[2] else None, dict(layer.annotations))
        if found != expected:
            raise Damaged(f"expected {expected[0]} of {expected[1]:,} bytes, found {found[0]} of {found[1]:,} bytes")


def _expected(group: _Group) -> tuple[str, int, str | None, dict[str, str]]:
    """Type, size, digest where it is known, and annotations of a layer."""
    if group.kind == "bundle":
        return BUNDLE_LAYER, group.size, None, {}
    entry = group.entries[0]
    if group.kind == "part":
        return PART_LAYER, group.size, None, {oci.TITLE: entry.path}
    kind = _TYPES.get(entry.path.partition("/")[0], _OTHER)
    return kind, group.size, f"sha256:{entry.sha256}", {oci.TITLE: entry.path}


def _place(folder: Path, group: _Group, blob: Blob) -> None:
    """Writes the files of a layer, or the part of one."""
    if group.kind == "bundle":
        _unbundle(folder, group.entries, blob)
        return
    (entry,) = group.entries
    target = folder / entry.path
    if group.offset == 0:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_new(target, blob.chunks())
    else:
        with open(target, "ab", buffering=0) as stream:
            fill(stream, blob.chunks())
    if group.kind == "part" and group.offset + group.size == entry.size:
        _check_file(target, entry)


def _unbundle(folder: Path, entries: Sequence[Entry], blob: Blob) -> None:
    """Takes a bundle apart. Each file is checked by itself, so the bundle's own digest is of no more use."""
    chunks = Chunks(blob.chunks())
    for entry in entries:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        data = chunks.take(entry.size)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise Damaged(f"{entry.path}: expected the sha256 {entry.sha256[:16]}, found other bytes in the bundle")
        write_new(target, [data])
    chunks.end()


def _check_file(target: Path, entry: Entry) -> None:
    found = hash_file(target)
    if found != entry.sha256:
        raise Damaged(f"{entry.path}: expected the sha256 {entry.sha256[:16]}, found {found[:16]} from its parts")


def _refuse_away(cube: Memcube) -> None:
    """A package has its memories in it: what came from elsewhere must not make a program call an address."""
    if cube.plaintext.table:
        raise Damaged(
            f"expected a package with its memories in it, found one that calls {cube.plaintext.table.url}",
            hint="do not use this package: no memos makes such a one",
        )


def _check_config(folder: Path, held: Contents) -> None:
    """Whether what the config told is what came: nothing may be sold under another name."""
    cube = metadata.load(folder)
    _refuse_away(cube)
    if cube.id != held.manifest.cube_id:
        raise Damaged(f"memcube.toml is of cube {cube.id!r:.60}, the version's manifest of {held.manifest.cube_id}")
    expected = config_of(cube, held.manifest, held.config.version_digest, held.config.limits)
    for key, value in expected.items():
        # a key that an older memos did not write is no lie
        if held.config.said.get(key, value) != value:
            raise Damaged(
                f"the config says {key} {held.config.said[key]!r:.60}, the cube's own memcube.toml {value!r:.60}",
                hint="do not use this package: it is not what it is told to be",
            )
