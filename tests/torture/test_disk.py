"""The real program on a disk that is full, and under strace: nothing is lost, and nothing is pointed to unsynced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from memos_cli.infrastructure import disk, vault
from memos_cli.interface import frame
from memos_cli.operation.audit import audit
from tests.conftest import Memos
from tests.infrastructure.test_vault import ROOT, _mounted, _split_at_the_swap, _synced


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    yield from _mounted(tmp_path / "small", ["mount", "-t", "tmpfs", "-o", "size=6m", "none"])


def _fill(path: Path) -> None:
    """Writes until nothing more fits."""
    with open(path, "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
@pytest.mark.parametrize("ended", [False, True])
def test_a_gc_frees_a_full_disk(ended: bool, small_disk: Path, work: Path, memos: Memos) -> None:
    """Also where something has ended, which a version of its own would tell."""
    cube = small_disk / "a.cube"
    (work / "a.md").write_text("".join(f"- Note {n} is about the boiler.\n" for n in range(300)))
    assert memos("ingest", cube, "a.md", "--embedder", "none").code == 0
    if ended:
        desk = frame.desk(None)
        with frame.changing(desk, cube, "edit") as draft:
            ids = [row["id"] for row in draft.whole.rows(columns=["id"], limit=1).to_pylist()]
            draft.whole.change(ids, expires_at=frame.now() - timedelta(days=1))
            draft.commit({})
    assert memos("reindex", cube, "--embedder", "none").code == 0
    with pytest.raises(OSError, match="No space"):
        _fill(small_disk / "ballast")
    done = memos("gc", cube, "--keep", "1", "--yes", "--json")
    assert done.code == 0, done.err
    assert (done.json["freed_bytes"] > 0, len(done.json["expired"])) == (True, ended)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk_keeps_the_old_version_and_recovers_after_gc(
    small_disk: Path, work: Path, memos: Memos, figure: Callable[[str], None]
) -> None:
    cube = small_disk / "a.cube"
    (work / "a.md").write_text("".join(f"- Note {n} is about the boiler.\n" for n in range(300)))
    assert memos("ingest", cube, "a.md", "--embedder", "none").code == 0
    for _ in range(5):  # each writes the table anew
        assert memos("reindex", cube, "--embedder", "none").code == 0
    before = vault.current_version(cube)
    with pytest.raises(OSError, match="No space"):
        _fill(small_disk / "ballast")
    (work / "b.md").write_text("".join(f"- A new note, number {n}.\n" for n in range(2000)))
    done = memos("ingest", cube, "b.md")
    assert done.code == 1
    assert "no space left" in done.err
    assert "memos gc" in done.err
    assert vault.current_version(cube) == before
    assert not [one for one in audit(cube, deep=True).findings if one.severity == "damage"]
    assert "boiler" in memos("query", cube, "boiler").out
    done = memos("gc", cube, "--keep", "1", "--yes", "--json")
    assert done.code == 0, done.err
    (work / "b.md").write_text("- A new note.\n")
    assert memos("ingest", cube, "b.md").code == 0
    assert "new note" in memos("query", cube, "new note").out
    assert not audit(cube, deep=True).findings
    freed = done.json["freed_bytes"]
    figure(f"6 MB disk: old version kept when full, {freed:,} bytes given back by gc, written again")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_all_that_an_ingest_writes_is_synced_before_the_pointer_moves(
    work: Path, memos: Memos, home: Path, figure: Callable[[str], None]
) -> None:
    (work / "a.md").write_text("- One note.\n")
    assert memos("ingest", "a.cube", "a.md", "--embedder", "none").code == 0
    old = set(vault.current_version(Path("a.cube")).manifest.entries())
    (work / "b.md").write_text("- Another note.\n")
    trace = ["strace", "-f", "-y", "-s", "4096", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o", "log"]
    done = subprocess.run(
        [*trace, sys.executable, "-m", "memos_cli", "ingest", "a.cube", "b.md"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    before, after = _split_at_the_swap(Path("log").read_text())
    synced = {re.sub(r"^.*/tree(/|$)", "", path) for path in _synced(before) if "/staging/" in path}
    version = vault.current_version(Path("a.cube"))
    inherited = old - set(disk.COPIED_NAMES)
    files = {path for path, _ in disk.walk_files(version.path)}
    shared = {path for path in files & inherited if path.rpartition("/")[2] not in disk.COPIED_NAMES}
    fresh = files - shared - {"MANIFEST.json"}
    folders = {os.path.relpath(folder, version.path) for folder, _, _ in os.walk(version.path)} - {"."} | {""}
    assert fresh
    assert not fresh - synced
    assert not folders - synced
    assert any("MANIFEST.json" in path for path in synced)
    root = Path("a.cube").resolve()
    assert str(root / "versions") in _synced(before)
    assert str(root) in _synced(after)
    figure(f"an ingest: {len(fresh)} new files and {len(folders)} folders synced before the pointer moved, 0 after")
