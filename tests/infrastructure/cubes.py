"""Small cubes of plain files for the vault's tests, a check that a cube is sound, and running things in a child."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

from memos_cli.cube.digest import MANIFEST_NAME, hash_file
from memos_cli.errors import MemosError
from memos_cli.infrastructure import disk, vault

STAMP = vault.Stamp("ingest", {"key": "ed25519:00", "user": "tester"}, "2026-01-31T12:00:00Z", "a test")


def fill(tree: Path, number: int) -> None:
    """Three parts that all carry the same number, so that a mixture of two versions shows."""
    for part in ("memcube.toml", f"plaintext/data/{number:04d}.lance", f"activation/{number:04d}.kv.safetensors"):
        (tree / part).parent.mkdir(parents=True, exist_ok=True)
        vault.write_bytes(tree / part, f"{number}".encode() * 700)


def make(root: Path, *, commits: int = 0) -> vault.Version:
    """A cube whose version n holds the parts of numbers 1 to n."""
    version = vault.create(root, stamp=STAMP, write=lambda tree: fill(tree, 1))
    for _ in range(commits):
        version = commit(root)
    return version


def commit(root: Path, *, keep: int | None = 10, lock_timeout: float = 5.0) -> vault.Version:
    """One more version."""
    with vault.draft(root, stamp=STAMP, keep=keep, lock_timeout=lock_timeout) as draft:
        fill(draft.path, draft.base.number + 1)
        return draft.commit({"added": 1})


def content(root: Path, number: int | None = None) -> dict[str, bytes]:
    """The files of a version by path."""
    with vault.snapshot(root, number) as snapshot:
        return {path: (snapshot.path / path).read_bytes() for path in snapshot.version.manifest.entries()}


def current(root: Path) -> int:
    """The number of the current version."""
    return vault.current_version(vault.locate(root)).number


def assert_sound(root: Path) -> int:
    """Every kept version is exactly what its manifest says, and of one piece; returns the current number."""
    for version in vault.versions(root):
        expected = {entry.path: (entry.size, entry.sha256) for entry in version.manifest.files}
        found = {
            path: (facts.st_size, hash_file(version.path / path))
            for path, facts in disk.walk_files(version.path)
            if path != MANIFEST_NAME
        }
        assert found == expected
        for part in ("plaintext/data", "activation"):
            numbers = [int(name[:4]) for name in os.listdir(version.path / part)]
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
        newest = len(os.listdir(version.path / "activation"))
        assert (version.path / "memcube.toml").read_bytes() == f"{newest}".encode() * 700
    return current(root)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child; its exit status as waitpid gives it (0, 1 << 8 for a MemosError, 9 for a kill)."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            work()
            status = 0
        except MemosError:
            status = 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]
