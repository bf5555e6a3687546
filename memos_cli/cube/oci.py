"""The OCI side of a packed cube: descriptors, the image manifest, the config, the layout's two small files.

All JSON here is canonical (`digest.canonical`), so that equal cubes have equal manifests, whose digest is their
identity wherever they lie. Reading is strict: what is not as `memos` writes it is Damaged before any of it is used.
Knows nothing of files, archives or the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memos_cli.cube.digest import canonical, digest_of
from memos_cli.errors import Damaged

ARTIFACT = "application/vnd.memos.memcube.v1"
CONFIG = "application/vnd.memos.memcube.config.v1+json"
SIGNATURE = "application/vnd.memos.signature.v1"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
REF_NAME = "org.opencontainers.image.ref.name"
# Of the manifest's descriptor in index.json: the digests of the envelopes that sign it, with a comma between.
SIGNATURES = "dev.memos.signatures"
# Of the image manifest: whom this copy was made for, as its maker signed it.
STAMP = "dev.memos.stamp"

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
MANIFEST_LIMIT_BYTES = 4 << 20
INDEX_LIMIT_BYTES = 64 << 10
CONFIG_LIMIT_BYTES = 256 << 10
LAYER_LIMIT = 10_000
BLOB_LIMIT_BYTES = 8**11 - 1
SIGNATURE_LIMIT = 16

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"application/[a-z0-9.+-]{1,100}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SEMVER = re.compile(r"(?:0|[1-9]\d{0,8})\.(?:0|[1-9]\d{0,8})\.(?:0|[1-9]\d{0,8})(?:-[0-9A-Za-z.-]{1,100})?", re.ASCII)
_TEXT = re.compile(r"[\x20-\x7e]{0,600}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob as a manifest names it."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def hex(self) -> str:
        """The digest without `sha256:`."""
        return self.digest.removeprefix("sha256:")

    def as_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**value, "annotations": dict(self.annotations)} if self.annotations else value


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest that was read: what it says of itself, its config, its layers in order."""

    digest: str
    size: int
    name: str
    version: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    stamp: str = ""

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All it needs besides itself, the config first, each once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())

    @property
    def size_bytes(self) -> int:
        """The bytes of all blobs together, the manifest not counted."""
        return sum(blob.size for blob in self.blobs)


def build_manifest(
    *, name: str, version: str, config: Descriptor, layers: Sequence[Descriptor], stamp: str = ""
) -> bytes:
    """The image manifest of a cube; `stamp` says whom this copy is for, "" for nobody in particular."""
    stamped = {STAMP: stamp} if stamp else {}
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": config.as_json(),
            "layers": [layer.as_json() for layer in layers],
            "annotations": {TITLE: name, VERSION: version, **stamped},
        }
    )


def parse_manifest(data: bytes, *, place: str = "the manifest") -> Image:
    """The cube's image that `build_manifest` wrote. Raises Damaged, naming `place`, for anything else."""
    value = _object(data, MANIFEST_LIMIT_BYTES, place)
    _expect(value.keys() == {"schemaVersion", "mediaType", "artifactType", "config", "layers", "annotations"}, place,
            "the fields of a memcube's manifest")  # fmt: skip
    _expect(type(value["schemaVersion"]) is int and value["schemaVersion"] == 2, place, "schemaVersion 2")
    _expect(value["mediaType"] == MANIFEST, place, f"the media type {MANIFEST}")
    _expect(value["artifactType"] == ARTIFACT, place, f"the artifact type {ARTIFACT}")
    config = _descriptor(value["config"], place)
    _expect(config.media_type == CONFIG and config.size <= CONFIG_LIMIT_BYTES, place, f"a config of type {CONFIG}")
    _expect(isinstance(value["layers"], list) and 1 <= len(value["layers"]) <= LAYER_LIMIT, place,
            f"1 to {LAYER_LIMIT:,} layers")  # fmt: skip
    layers = tuple(_descriptor(layer, place) for layer in value["layers"])
    said = _annotations(value["annotations"], place)
    _expect({TITLE, VERSION} <= said.keys() <= {TITLE, VERSION, STAMP}, place, "a name and a version as annotations")
    stamp = said.get(STAMP, "")
    # both become parts of paths
    _expect(_NAME.fullmatch(said[TITLE]), place, "a name of letters, digits, '.', '_' and '-'")
    _expect(_SEMVER.fullmatch(said[VERSION]), place, "a version such as 1.4.0")
    image = Image(digest_of(data), len(data), said[TITLE], said[VERSION], config, layers, stamp)
    again = build_manifest(name=image.name, version=image.version, config=config, layers=layers, stamp=stamp)
    _expect(again == data, place, "canonical JSON (sorted, without spaces or repeated keys)")
    return image


def build_index(manifest: bytes, *, version: str, signatures: Sequence[bytes] = ()) -> bytes:
    """index.json of a layout that holds one cube and the envelopes that sign it."""
    said = {REF_NAME: version}
    if signatures:
        said[SIGNATURES] = ",".join(digest_of(envelope) for envelope in signatures)
    entry = {
        **Descriptor(MANIFEST, digest_of(manifest), len(manifest), said).as_json(),
        "artifactType": ARTIFACT,
    }
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})


def parse_index(data: bytes, *, place: str = "index.json") -> tuple[Descriptor, tuple[str, ...]]:
    """The manifest's descriptor and the digests of the envelopes that sign it. Raises Damaged."""
    value = _object(data, INDEX_LIMIT_BYTES, place)
    _expect(value.keys() == {"schemaVersion", "mediaType", "manifests"}, place, "the fields of an index")
    _expect(isinstance(value["manifests"], list) and len(value["manifests"]) == 1, place, "exactly one manifest")
    entry = value["manifests"][0]
    _expect(isinstance(entry, dict) and entry.get("artifactType") == ARTIFACT, place, f"the type {ARTIFACT}")
    found = _descriptor({key: entry[key] for key in entry if key != "artifactType"}, place)
    _expect(found.media_type == MANIFEST and found.size <= MANIFEST_LIMIT_BYTES, place, "an image manifest")
    _expect(found.annotations.keys() <= {REF_NAME, SIGNATURES} and REF_NAME in found.annotations, place,
            "the version and signatures as annotations")  # fmt: skip
    signatures = tuple(filter(None, found.annotations.get(SIGNATURES, "").split(",")))
    _expect(all(map(_DIGEST.fullmatch, signatures)) and len(set(signatures)) == len(signatures), place,
            "digests of signatures, each once")  # fmt: skip
    _expect(len(signatures) <= SIGNATURE_LIMIT, place, f"at most {SIGNATURE_LIMIT} signatures")
    again = canonical(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**found.as_json(), "artifactType": ARTIFACT}]}
    )
    _expect(again == data, place, "canonical JSON of an index as memos writes it")
    return found, signatures


def build_referrer(manifest: Descriptor, envelopes: Sequence[bytes]) -> bytes:
    """The manifest of the signatures of another, for registries: its `subject` is the one that is signed."""
    layers = [Descriptor(ENVELOPE, digest_of(envelope), len(envelope)).as_json() for envelope in envelopes]
    subject = Descriptor(manifest.media_type, manifest.digest, manifest.size).as_json()
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": SIGNATURE,
            "config": Descriptor(EMPTY, digest_of(b"{}"), 2).as_json(),
            "layers": layers,
            "subject": subject,
        }
    )


def parse_referrer(data: bytes, *, subject: str, place: str = "the signatures") -> tuple[Descriptor, ...]:
    """The envelopes that a manifest of signatures names. Raises Damaged unless its subject has the digest `subject`."""
    value = _object(data, INDEX_LIMIT_BYTES, place)
    _expect(value.get("artifactType") == SIGNATURE, place, f"the artifact type {SIGNATURE}")
    _expect(_descriptor(value.get("subject"), place).digest == subject, place, f"signatures of {subject[:23]}")
    layers = value.get("layers", [])
    _expect(isinstance(layers, list) and 1 <= len(layers) <= SIGNATURE_LIMIT, place, "some signatures")
    found = tuple(_descriptor(layer, place) for layer in layers)
    _expect(all(one.media_type == ENVELOPE and one.size <= INDEX_LIMIT_BYTES for one in found), place, "envelopes")
    return found


def parse_object(data: bytes, *, place: str, limit_bytes: int = CONFIG_LIMIT_BYTES) -> dict[str, Any]:
    """A canonical JSON object. Raises Damaged for anything else: floats, repeated keys, white space, too large."""
    value = _object(data, limit_bytes, place)
    _expect(canonical(value) == data, place, "canonical JSON (sorted, without spaces or repeated keys)")
    return value


def _object(data: bytes, limit_bytes: int, place: str) -> dict[str, Any]:
    _expect(len(data) <= limit_bytes, place, f"at most {limit_bytes:,} bytes, found {len(data):,}")
    try:
        value = json.loads(data.decode("utf-8"))
    # Thousands of digits raise ValueError, deep nesting RecursionError.
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{place}: expected JSON in UTF-8, found otherwise ({type(error).__name__})") from error
    _expect(isinstance(value, dict), place, f"an object, found a {type(value).__name__}")
    found: dict[str, Any] = value
    return found


def _descriptor(value: Any, place: str) -> Descriptor:
    _expect(isinstance(value, dict), place, "an object as a descriptor")
    _expect({"mediaType", "digest", "size"} <= value.keys() <= {"mediaType", "digest", "size", "annotations"}, place,
            "mediaType, digest and size in each descriptor")  # fmt: skip
    media_type, digest, size = value["mediaType"], value["digest"], value["size"]
    _expect(isinstance(media_type, str) and _MEDIA_TYPE.fullmatch(media_type), place, "a media type of memos")
    _expect(isinstance(digest, str) and _DIGEST.fullmatch(digest), place, f"sha256:<64 hex>, found {digest!r:.90}")
    _expect(type(size) is int and 0 <= size <= BLOB_LIMIT_BYTES, place, f"a size in bytes, found {size!r:.40}")
    return Descriptor(media_type, digest, size, _annotations(value.get("annotations", {}), place))


def _annotations(value: Any, place: str) -> dict[str, str]:
    _expect(isinstance(value, dict) and len(value) <= 8, place, "a few annotations")
    for key, text in value.items():
        _expect(_TEXT.fullmatch(key) and isinstance(text, str), place, "texts as annotations")
        longer = key in (SIGNATURES, STAMP) and text.isascii() and text.isprintable() and len(text) < 4_000
        _expect(_TEXT.fullmatch(text) or longer, place, "printable ASCII as annotations")
    return dict(value)


def _expect(held: object, place: str, expected: str) -> None:
    if not held:
        raise Damaged(
            f"{place}: expected {expected}", hint="get it again from who made it, or audit the store it is from"
        )
