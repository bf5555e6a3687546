"""Packages as somebody would forge them: at every level something is changed, and all digests above it made right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memos_cli.cube import metadata, ustar
from memos_cli.cube.bundle import BUNDLE_LAYER, VERSION_LAYER, Limits, config_of
from memos_cli.cube.digest import MANIFEST_NAME, encode, parse
from memos_cli.cube.oci import ARTIFACT, CONFIG, INDEX, LAYOUT_FILE, MANIFEST, REF_NAME, TITLE, VERSION

Change = Callable[[Any], Any]
Entries = list[tuple[bytes, bytes]]


def same(value: Any) -> Any:
    return value


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def dumped(value: Any) -> bytes:
    """Canonical JSON, or the bytes that a change gave in its place."""
    return value if isinstance(value, bytes) else encode(value)


def described(kind: str, data: bytes, **annotations: str) -> dict[str, Any]:
    value: dict[str, Any] = {"mediaType": kind, "digest": digest(data), "size": len(data)}
    return {**value, "annotations": annotations} if annotations else value


class Forger:
    """Forges packages of the version in a folder."""

    def __init__(self, folder: Path) -> None:
        self.manifest = parse((folder / MANIFEST_NAME).read_bytes())
        self.files = {entry.path: (folder / entry.path).read_bytes() for entry in self.manifest.files}
        self.cube = metadata.load(folder)

    def forge(
        self,
        *,
        files: Change = same,
        version: Change = same,
        config: Change = same,
        image: Change = same,
        index: Change = same,
        entries: Change = same,
        whole: Change = same,
        layout: bytes = LAYOUT_FILE,
    ) -> bytes:
        """An archive whose files, manifest of the version, config, image, index, entries or bytes are changed so."""
        held: dict[str, bytes] = files(dict(self.files))
        said = json.loads(self.manifest.to_bytes())
        said["files"] = [
            {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(held.items())
        ]
        raw = dumped(version(said))
        blobs = [raw, b"".join(data for _, data in sorted(held.items()))]
        told = config_of(self.cube, self.manifest, digest(raw), Limits())
        told |= {"files": len(held), "bytes": len(blobs[1])}
        about = dumped(config(told))
        picture = dumped(image(self._image(about, blobs)))
        entry = {**described(MANIFEST, picture, **{REF_NAME: self.cube.version}), "artifactType": ARTIFACT}
        listed = dumped(index({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
        small = [("oci-layout", layout), ("index.json", listed)]
        named = [(f"blobs/sha256/{digest(blob)[7:]}", blob) for blob in (picture, about, *blobs)]
        made: Entries = [(ustar.header(name, len(data)), data) for name, data in (*small, *named)]
        changed: Entries = entries(made)
        archive = b"".join(head + data + ustar.padding(len(data)) for head, data in changed) + ustar.END
        result: bytes = whole(archive)
        return result

    def _image(self, about: bytes, blobs: list[bytes]) -> dict[str, Any]:
        first = described(VERSION_LAYER, blobs[0], **{TITLE: MANIFEST_NAME})
        return {
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": ARTIFACT, "config": described(CONFIG, about),
            "layers": [first, described(BUNDLE_LAYER, blobs[1])],
            "annotations": {TITLE: self.cube.name, VERSION: self.cube.version},
        }  # fmt: skip


def header(block: bytes, at: int, data: bytes) -> bytes:
    """A header with other bytes at an offset, and its checksum made right."""
    changed = block[:at] + data + block[at + len(data) :]
    blank = changed[:148] + b" " * 8 + changed[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def set_key(key: str, value: Any) -> Change:
    return lambda held: {**held, key: value}


def without(key: str) -> Change:
    return lambda held: {name: value for name, value in held.items() if name != key}


def first_file(**changes: Any) -> Change:
    """The first file of a version's manifest, with other values."""
    return lambda held: {**held, "files": [{**held["files"][0], **changes}, *held["files"][1:]]}


def layer(number: int, **changes: Any) -> Change:
    """A layer of an image, with other values."""

    def change(held: dict[str, Any]) -> dict[str, Any]:
        layers = [dict(one) for one in held["layers"]]
        layers[number] |= changes
        return {**held, "layers": layers}

    return change


def add_file(path: str, data: bytes) -> Change:
    return lambda held: {**held, path: data}


def entry_header(number: int, at: int, data: bytes) -> Change:
    """An entry whose header has other bytes, with the right checksum."""
    return lambda made: [
        (header(head, at, data), body) if index == number else (head, body) for index, (head, body) in enumerate(made)
    ]
