"""The example cubes are sound wherever they are copied to, and what makes and shows them works."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Memos

BUNDLES = Path(__file__).parent.parent / "bundles"
CUBES = ("handbook", "chats", "codebase")


@pytest.fixture(params=CUBES)
def cube(request: pytest.FixtureRequest, work: Path) -> Path:
    """A copy of an example, as a clone of this repository has it: no log, no lock, no empty folder."""
    place = work / f"{request.param}.cube"
    ignored = shutil.ignore_patterns("log", "lock", "lock.holder", "staging")
    shutil.copytree(BUNDLES / place.name, place, symlinks=True, ignore=ignored)
    return place


@pytest.mark.many(1)
def test_an_example_is_sound_and_small(cube: Path, memos: Memos) -> None:
    done = memos("audit", cube, "--deep")
    # whichever test of a process comes first has the embedder made
    assert (done.code, done.err.replace("memos: preparing the embedder, once\n", "")) == (0, "")
    about = memos("show", cube, "--json").json
    assert about["versions"] == 1
    assert about["description"]
    assert about["licence"]
    assert about["size_bytes"] < 1_200_000


def test_an_example_names_no_machine(cube: Path, memos: Memos) -> None:
    sources = {line.split("\t")[2] for line in memos("list", cube).lines}
    assert all(re.match(r"(?:corpus|memos_cli)/[a-z]", place) for place in sources)
    actors = (cube / "current" / "MANIFEST.json").read_text() + (cube / "current" / "memcube.toml").read_text()
    assert '"user":"memos"' in actors
    assert 'owner_user = "memos"' in actors


@pytest.mark.many(1)
def test_an_example_is_read_where_it_cannot_be_written(cube: Path, memos: Memos, home: Path) -> None:
    folders = [cube, *(path for path in cube.rglob("*") if path.is_dir() and not path.is_symlink())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert memos("query", cube, "what is kept, and for how long?", "-k", "1", "-q").lines
        assert memos("audit", cube).code == 0
        assert not (cube / "log").exists()
        assert len(list((home / "log").glob("*.jsonl"))) == 1
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.many(1)
def test_an_example_belongs_to_nobody_and_is_copied_by_anybody(cube: Path, memos: Memos, work: Path) -> None:
    (work / "more.md").write_text("- one more thing\n")
    assert memos("ingest", cube, "more.md").code == 5
    assert memos("init", "mine.cube", "--from", cube).code == 0
    assert memos("forget", "mine.cube", "--where", "source=*").code == 0
    assert memos("list", "mine.cube").lines == []


@pytest.mark.long
def test_a_folder_that_git_ignores_is_read_when_it_is_named(memos: Memos, work: Path) -> None:
    subprocess.run(["git", "init", "-q", "."], cwd=work, check=True)
    (work / ".gitignore").write_text("/demo/\n")
    shutil.copytree(BUNDLES / "corpus" / "handbook", work / "demo" / "handbook")
    (work / "demo" / "handbook" / ".gitignore").write_text("glossary.md\n")
    done = memos("ingest", "demo/a.cube", "demo/handbook", "--embedder", "none", "--json")
    uris = [source["uri"] for source in done.json["sources"]]
    assert "handbook/security.md" in uris
    assert "handbook/glossary.md" not in uris


def test_an_empty_cube_finds_nothing(memos: Memos) -> None:
    assert memos("init", "a.cube").code == 0
    done = memos("query", "a.cube", "anything at all?")
    assert (done.code, done.out) == (0, "")
