"""The digests of all files of a cube, computed by an engine before an audit compares them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from memos_cli.cube import digest
from memos_cli.errors import MemosError
from memos_cli.infrastructure import disk
from memos_cli.infrastructure import versions as kept
from memos_cli.infrastructure.engine import Engine

# Files that a worker is given at once: few big ones, or many small ones.
GROUP_BYTES, GROUP_FILES = 64 << 20, 1000
Identity = tuple[int, int]


def hash_all(root: Path, on: Engine) -> dict[Identity, str]:
    """The sha256 of every file of every version, by device and inode; what cannot be read is left out."""
    groups = list(_groups(_files(Path(os.path.abspath(root)))))
    named = ([str(path) for _, path, _ in group] for group in groups)
    found: dict[Identity, str] = {}
    for group, digests in zip(groups, on.map(hash_group, named, setup=nothing), strict=True):
        found |= {identity: one for (identity, _, _), one in zip(group, digests, strict=True) if one}
    return found


def nothing() -> None:
    """What a worker needs to hash."""


def hash_group(held: None, paths: Sequence[str]) -> list[str]:
    """The sha256 of each file, "" for one that cannot be read."""
    return [_hash(Path(path)) for path in paths]


def _hash(path: Path) -> str:
    try:
        return digest.hash_file(path)
    except OSError:
        return ""


def _files(root: Path) -> Iterator[tuple[Identity, Path, int]]:
    """Every file once, under one of its names; the audit itself tells what is odd among them."""
    met: set[Identity] = set()
    for name in kept.version_names(root):
        version = root / kept.VERSIONS / name
        with suppress(MemosError, OSError):
            for path, facts in disk.walk_files(version):
                identity = (facts.st_dev, facts.st_ino)
                if identity not in met:
                    met.add(identity)
                    yield identity, version / path, facts.st_size


def _groups(files: Iterator[tuple[Identity, Path, int]]) -> Iterator[list[tuple[Identity, Path, int]]]:
    group: list[tuple[Identity, Path, int]] = []
    size = 0
    for one in files:
        group.append(one)
        size += one[2]
        if size >= GROUP_BYTES or len(group) >= GROUP_FILES:
            yield group
            group, size = [], 0
    if group:
        yield group
