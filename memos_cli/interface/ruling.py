"""The metadata that decides: that of a version as it was published, and as it holds for who took a cube in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from memos_cli.cube import digest, metadata
from memos_cli.cube.metadata import Memcube
from memos_cli.errors import Damaged
from memos_cli.infrastructure import origin, vault
from memos_cli.infrastructure.identity import Actor


def as_held(actor: Actor, root: Path, rules: Memcube) -> Memcube:
    """The rules as they are for who took the cube in: the copy is theirs, but not the right to hand it on."""
    came = origin.read(root)
    if came is None or came.holder != actor.key:
        return rules
    return replace(rules, governance=replace(rules.governance, owner=actor.key))


def metadata_of(version: vault.Version) -> Memcube:
    """The metadata of a version, checked against its manifest: who owns a cube is not left to a flipped bit."""
    expected = version.manifest.entries().get(metadata.FILE)
    # one that is not there, or cannot be read, is no more the published one than one that differs
    found = None
    with suppress(OSError):
        found = digest.hash_file(version.path / metadata.FILE)
    if expected is None or found != expected.sha256:
        raise Damaged(
            f"{version.path / metadata.FILE} is not the file that version {version.number} was published with",
            hint=f"memos rollback {version.path.parent.parent} to a sound version, see memos log",
        )
    return _parsed(version.path, expected.sha256)


@lru_cache(maxsize=64)
def _parsed(path: Path, sha256: str) -> Memcube:
    """The metadata of a version; the file was seen to be that of the digest. Whoever asks often reads it once."""
    return metadata.load(path)
