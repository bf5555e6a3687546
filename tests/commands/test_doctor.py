"""memos doctor as a person calls it: what is wrong, what would be repaired, the repair, and what is left."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import Memos


@pytest.fixture
def cube(work: Path, memos: Memos) -> str:
    """Two versions whose files share nothing, as a copy that does not know hard links has them."""
    (work / "a.md").write_text("- The spare key is with Ruth.\n")
    memos("ingest", "made.cube", "a.md", "--embedder", "none")
    (work / "a.md").write_text("- The spare key is with Ruth.\n- The door is green.\n")
    memos("ingest", "made.cube", "a.md")
    shutil.copytree("made.cube", "a.cube", symlinks=True)
    return "a.cube"


def last_line() -> dict[str, object]:
    return json.loads(Path("a.cube/log/access.jsonl").read_text().splitlines()[-1])  # type: ignore[no-any-return]


def test_a_healthy_cube(cube: str, memos: Memos) -> None:
    for arguments in ([], ["--repair"], ["--repair", "--dry-run"]):
        done = memos("doctor", cube, *arguments)
        assert done.code == 0, done.err
        assert done.out.startswith("healthy")
    assert memos("doctor", "none.cube").code == 3


def test_a_lost_pointer_is_found_and_put_back(cube: str, memos: Memos) -> None:
    target = os.readlink("a.cube/current")
    Path("a.cube/current").unlink()
    done = memos("query", cube, "spare key")
    assert done.code == 4
    assert f"try: memos doctor {Path(cube).resolve()} --repair" in done.err
    done = memos("doctor", cube)
    assert done.code == 9
    assert done.lines[0].split("\t")[:2] == ["would repair", "pointer"]
    assert "try: memos doctor a.cube --repair" in done.err
    assert not Path("a.cube/current").is_symlink()
    assert memos("doctor", cube, "--repair", "--dry-run").code == 9
    assert not Path("a.cube/current").is_symlink()
    done = memos("doctor", cube, "--repair", "--json")
    assert done.code == 0, done.err
    assert [each["kind"] for each in done.json["repairs"]] == ["pointer"]
    assert (done.json["repaired"], done.json["findings"]) == (True, [])
    assert os.readlink("a.cube/current") == target
    assert last_line()["verb"] == "repair"
    assert "Ruth" in memos("query", cube, "spare key").out


def test_a_file_that_another_version_has_is_put_back_and_one_that_none_has_is_not(cube: str, memos: Memos) -> None:
    shared = sorted(Path("a.cube/versions").glob("00000003-*/plaintext/memories.lance/data/*.lance"))
    before = sorted(Path("a.cube/versions").glob("00000002-*/plaintext/memories.lance/data/*.lance"))
    both = [path for path in shared if path.name in {other.name for other in before}]
    own = [path for path in shared if path not in both]
    assert both or own
    for path in both:
        path.unlink()
    if both:
        assert memos("doctor", cube, "--repair").code == 0
        assert all(path.exists() for path in both)
    Path("a.cube/current/memcube.toml").unlink()
    done = memos("doctor", cube, "--repair")
    assert done.code == 4
    assert "missing-file" in done.out
    assert f"try: memos rollback {Path(cube).resolve()} to a version without findings" in done.err
    assert memos("rollback", cube, "2").code == 0
    assert "Ruth" in memos("query", cube, "spare key").out


def test_whose_the_cube_is_decides_even_when_it_is_broken(cube: str, memos: Memos, home: Path) -> None:
    Path("a.cube/current").unlink()
    for name in ("identity.pub", "identity.key"):  # somebody else, with a key of their own
        (home / "keys" / name).unlink()
    done = memos("doctor", cube, "--repair")
    assert done.code == 5
    assert not Path("a.cube/current").is_symlink()
    assert (last_line()["verb"], last_line()["outcome"]) == ("repair", "denied")


@pytest.mark.long
def test_a_repair_waits_for_a_writer(cube: str, memos: Memos) -> None:
    from memos_cli.infrastructure import locks

    with locks.writing(Path("a.cube"), operation="ingest"):
        done = memos("doctor", cube, "--repair", "--lock-timeout", "0.05")
    assert done.code == 8
    assert f"process {os.getpid()}" in done.err
