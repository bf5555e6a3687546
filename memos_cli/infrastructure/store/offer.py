"""What a store offers of a package: its versions, which of them were taken back, and what one of them is.

A version that was yanked stays where it is, so that what depends on it still works, but nothing chooses it any more. A
yank is a small manifest under the tag `yanked-<version>`, in whatever store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memos_cli.cube import bundle, oci, semver
from memos_cli.cube.blobs import Span, read
from memos_cli.cube.bundle import Config
from memos_cli.cube.digest import MANIFEST_LIMIT_BYTES, Manifest, canonical, digest_of
from memos_cli.cube.digest import parse as parse_version
from memos_cli.cube.oci import Descriptor, Image
from memos_cli.cube.semver import Range
from memos_cli.errors import Damaged, NotFound, Usage
from memos_cli.infrastructure.store import transfer
from memos_cli.infrastructure.store.reference import Reference, is_name
from memos_cli.infrastructure.store.transfer import Parcel
from memos_cli.infrastructure.store.transport import Blob, Content, Named, Piece, Transport

YANKED = "yanked-"
YANK = "application/vnd.memos.yank.v1"
WHY = "dev.memos.yanked"
WHY_LIMIT_CHARACTERS = 500
ENVELOPES_LIMIT = 16
REQUIRES_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a package, the newest first, and those that may have been taken back."""

    all: tuple[str, ...]
    marked: frozenset[str]


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of a package in a store, as far as its small parts tell: nothing large was fetched."""

    reference: Reference
    transport: Transport
    manifest: bytes
    image: Image
    config: Config
    envelopes: tuple[bytes, ...]

    def blobs(self) -> list[Blob]:
        """All that must travel to have it."""
        return [Blob(one.digest, one.size) for one in self.image.blobs]

    def version_manifest(self) -> Manifest:
        """The version's own manifest, which is its first layer. Raises Damaged."""
        first = self.image.layers[0]
        data = transfer.small(self.transport, Blob(first.digest, first.size), limit_bytes=MANIFEST_LIMIT_BYTES)
        return parse_version(data, place=f"{self.reference}: the version's manifest")


def versions(transport: Transport) -> Versions:
    """What is there. Raises NotFound when there is no such package."""
    tags = transport.tags()
    found = semver.newest_first(tags)
    if not found:
        raise NotFound(f"no package at {transport.place}", hint=f"memos search --source {_store_of(transport.place)}")
    return Versions(tuple(found), frozenset(tag.removeprefix(YANKED) for tag in tags if tag.startswith(YANKED)))


def newest(transport: Transport, wanted: Range, *, pre: bool = False) -> str:
    """The newest version in a range that was not taken back. Raises NotFound."""
    known = versions(transport)
    for text in candidates(known, wanted, pre=pre):
        if text not in known.marked or yanked(transport, text) is None:
            return text
    raise NotFound(
        f"{transport.place} has no version that is {wanted}; it has {', '.join(known.all[:8])}",
        hint=f"memos info {transport.place}",
    )


def candidates(known: Versions, wanted: Range, *, pre: bool = False) -> list[str]:
    """The versions in a range, the newest first; pre-releases only when asked for, or when there is nothing else."""
    parsed = [(text, version) for text in known.all if (version := semver.parse(text)) is not None]
    fitting = [text for text, version in parsed if wanted.holds(version)]
    if pre or not (fitting or wanted.conditions):
        return [text for text, version in parsed if wanted.spans(version)]
    return fitting


def yanked(transport: Transport, version: str) -> str | None:
    """Why a version was taken back; None when it was not."""
    try:
        said = transport.manifest(f"{YANKED}{version}").data
    except NotFound:
        return None
    value = oci.parse_object(said, place=f"{transport.place}:{YANKED}{version}")
    notes = value.get("annotations")
    why = notes.get(WHY) if isinstance(notes, dict) else None
    return str(why)[:WHY_LIMIT_CHARACTERS] if why is not None else None


def yank(transport: Transport, version: str, *, why: str | None) -> None:
    """Takes a version back, or with None lets it be chosen again. Raises NotFound when there is none."""
    transport.manifest(version)
    empty, content = transfer.from_bytes(b"{}")
    config = Descriptor(oci.EMPTY, empty.digest, empty.size)
    notes = {} if why is None else {WHY: why or "no reason was given"}
    data = canonical(
        {
            "schemaVersion": 2, "mediaType": oci.MANIFEST, "artifactType": YANK, "config": config.as_json(),
            "layers": [config.as_json()], "annotations": notes,
        }
    )  # fmt: skip
    if not transport.has(empty):
        transport.write(empty, content, lambda sent: None)
    transport.tag(f"{YANKED}{version}", data, media_type=oci.MANIFEST, artifact_type=YANK, replace=True)


def open_offer(transport: Transport, reference: Reference) -> Offer:
    """The version that a reference pins, by tag or digest. Raises NotFound, Damaged, StoreFailed."""
    named = transfer.verified(transport, reference.digest or str(reference.version))
    image = oci.parse_manifest(named.data, place=str(reference))
    if image.name != reference.name:
        raise Damaged(f"{reference} is a package called {image.name}", hint="a package is called as its cube is")
    if reference.version is not None and image.version != reference.version:
        raise Damaged(f"{reference} is version {image.version} of {image.name}: its tag was moved")
    blob = Blob(image.config.digest, image.config.size)
    said = transfer.small(transport, blob, limit_bytes=oci.CONFIG_LIMIT_BYTES)
    config = bundle.parse_config(said, place=f"{reference}: the config")
    if (config.name, config.version) != (image.name, image.version):
        raise Damaged(f"{reference}: its config tells of {config.name} {config.version}")
    found = reference.at(version=image.version, digest=reference.digest)
    return Offer(found, transport, named.data, image, config, envelopes(transport, named))


def requires(config: Config) -> dict[str, str]:
    """The packages that one needs, and in which versions. Raises Damaged for what is no list of them."""
    said = config.said.get("requires", {})
    if not isinstance(said, dict) or len(said) > REQUIRES_LIMIT:
        raise Damaged(f"{config.name} {config.version}: expected at most {REQUIRES_LIMIT} packages that it requires")
    for name, needed in said.items():
        try:
            if not is_name(name):
                raise Usage(f"{name[:80]!r} is no name")
            semver.parse_range(needed if isinstance(needed, str) else "?")
        except Usage as error:
            raise Damaged(f"{config.name} {config.version} requires what is no package: {error.message}") from error
    return dict(said)


def envelopes(transport: Transport, named: Named) -> tuple[bytes, ...]:
    """The envelopes that sign a manifest, as they lie; none when nobody says anything of it. Raises Damaged."""
    found: dict[str, bytes] = {}
    for digest in filter(None, named.notes.get(oci.SIGNATURES, "").split(",")):
        found[digest] = transfer.verified(transport, digest).data
    try:
        said = transport.manifest(transfer.referrer_tag(named.digest))
    except NotFound:
        return tuple(found.values())
    for one in oci.parse_referrer(said.data, subject=named.digest, place=f"{transport.place}: signatures"):
        if one.digest not in found:
            blob = Blob(one.digest, one.size)
            found[one.digest] = transfer.small(transport, blob, limit_bytes=oci.INDEX_LIMIT_BYTES)
    if len(found) > ENVELOPES_LIMIT:
        raise Damaged(f"{transport.place}: expected at most {ENVELOPES_LIMIT} signatures, found {len(found)}")
    return tuple(found.values())


def parcel(
    manifest: bytes, version: str, blobs: Sequence[tuple[Descriptor, Content]], signatures: Sequence[bytes]
) -> Parcel:
    """What is pushed of an image: its blobs, and its signatures under the tag that points to them."""
    said = []
    if signatures:
        described = Descriptor(oci.MANIFEST, digest_of(manifest), len(manifest))
        pairs = [transfer.from_bytes(data) for data in (b"{}", *signatures)]
        referrer = Parcel(version, oci.build_referrer(described, signatures), oci.SIGNATURE, pairs)
        said.append((transfer.referrer_tag(described.digest), referrer))
    sent = [(Blob(one.digest, one.size), content) for one, content in blobs]
    return Parcel(version, manifest, oci.ARTIFACT, sent, said)


def with_known(transport: Transport, manifest: bytes, signatures: Sequence[bytes]) -> tuple[bytes, ...]:
    """The signatures, and those that the store has of the same manifest: one more never takes another away."""
    try:
        named = transport.manifest(digest_of(manifest))
        known = envelopes(transport, named)
    except (NotFound, Damaged):
        known = ()
    return tuple(dict.fromkeys((*known, *signatures)))


def content_of(sources: Sequence[Span | bytes]) -> Content:
    """The content of a blob that lies in these sources."""

    def content(offset: int) -> Iterator[Piece]:
        return read(_from(sources, offset))

    return content


def _from(sources: Sequence[Span | bytes], offset: int) -> Iterator[Span | bytes]:
    for source in sources:
        size = len(source) if isinstance(source, bytes) else source.size
        if offset >= size:
            offset -= size
            continue
        cut = source[offset:] if isinstance(source, bytes) else Span(source.path, source.offset + offset, size - offset)
        yield cut
        offset = 0


def _store_of(place: str) -> str:
    return place.rpartition("/")[0]
