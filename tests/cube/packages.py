"""Versions and archives to take apart, made without a table: the bundle knows nothing of what is inside files."""

from __future__ import annotations

from pathlib import Path

from memos_cli.cube import archive, bundle, metadata
from memos_cli.cube.digest import MANIFEST_NAME, Entry, build, sha256_hex
from memos_cli.cube.metadata import Governance

SMALL = bundle.Limits(small_bytes=100, bundle_bytes=200, part_bytes=1000)
FILES = {
    "plaintext/sources.arrow": b"ARROW1" + b"s" * 60,
    "plaintext/memories.lance/data/0101.lance": b"d" * 1000 + b"e" * 1500 + b"LANC",
    "plaintext/memories.lance/_versions/1.manifest": b"m" * 90 + b"LANC",
    "activation/m1.0123456789ab.kv.safetensors": b"k" * 900,
    "parameter/facts/memory.toml": b"a = 1\n",
}


def version(folder: Path, files: dict[str, bytes] | None = None, *, name: str = "team", number: int = 3) -> Path:
    """A version of these files in `folder`."""
    owner = Governance(owner="ed25519:" + "a" * 32)
    cube = metadata.new(name, governance=owner)
    whole = {metadata.FILE: metadata.dumps(cube), **(FILES if files is None else files)}
    for path, data in whole.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    entries = [Entry(path, len(data), sha256_hex(data)) for path, data in whole.items()]
    manifest = build(
        entries, cube_id=cube.id, version=number, parent=None, operation="init", actor={"key": "k", "user": "u"},
        time="2026-01-31T12:00:00Z",
    )  # fmt: skip
    (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    return folder


def packed(folder: Path, path: Path, *, limits: bundle.Limits = SMALL) -> bundle.Layout:
    """The archive at `path` of the version in `folder`."""
    image = bundle.layout(folder, limits=limits)
    with open(path, "wb") as stream:
        archive.write(image, stream)
    return image


def unpacked(path: Path, folder: Path) -> dict[str, bytes]:
    """The files of the archive at `path`, taken apart in `folder`."""
    opened = archive.open_archive(path)
    folder.mkdir()
    bundle.assemble(opened.manifest, opened.fetch, folder)
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
