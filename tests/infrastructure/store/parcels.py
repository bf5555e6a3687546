"""Parcels of plain bytes, for tests of the ways they travel."""

from __future__ import annotations

import json
import random
from pathlib import Path

from memos_cli.infrastructure.store.transfer import Parcel, from_bytes
from memos_cli.infrastructure.store.transport import Blob, Content


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def manifest(blobs: list[Blob]) -> bytes:
    config, *layers = [{"mediaType": "application/x", "digest": blob.digest, "size": blob.size} for blob in blobs]
    return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()


def parcel(*contents: bytes, version: str = "1.0.0") -> Parcel:
    pairs = [from_bytes(data) for data in (b"{}", *contents)]
    return Parcel(version, manifest([blob for blob, _ in pairs]), "application/x", pairs)


def from_file(path: Path) -> Content:
    def content(offset: int):  # type: ignore[no-untyped-def]
        with open(path, "rb") as stream:
            stream.seek(offset)
            while piece := stream.read(1 << 16):
                yield piece

    return content
