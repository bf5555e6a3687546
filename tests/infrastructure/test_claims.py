"""What a killed process left beside a place is cleared away; what a live one is making is not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memos_cli.infrastructure import claims, faults
from tests.conftest import Memos
from tests.infrastructure.cubes import in_child

KILLED = signal.SIGKILL


def left(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".tmp"))


def started(work: Callable[[], object], folder: Path, count: int) -> int:
    """A process that has made its own beside a place in `folder`, where there are `count` then."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(3)
    while len(left(folder)) < count:
        time.sleep(0.01)
    time.sleep(0.05)
    return pid


def hold(place: Path, *, folder: bool) -> None:
    with claims.folder_beside(place) if folder else claims.file_beside(place) as temporary:
        if folder:
            (temporary / "inner").mkdir()
            (temporary / "inner" / "file").write_text("half")
        time.sleep(60)


@pytest.mark.parametrize("folder", [True, False])
def test_only_what_nobody_holds_is_cleared(folder: bool, tmp_path: Path) -> None:
    place = tmp_path / "team.cube"
    dead = started(lambda: hold(place, folder=folder), tmp_path, 1)
    os.kill(dead, signal.SIGKILL)
    os.waitpid(dead, 0)
    live = started(lambda: hold(place, folder=folder), tmp_path, 2)
    try:
        (kept,) = [name for name in left(tmp_path) if f".{live}-" in name]
        others = [".other.cube.1-00000000.tmp", ".team.cube.1-0.tmp", ".team.cube.x-00000000.tmp", "team.cube.tmp"]
        for name in others:
            (tmp_path / name).write_text("not ours")
        assert [path.name.split("-")[0] for path in claims.clear(place)] == [f".team.cube.{dead}"]
        assert set(left(tmp_path)) == {kept, *others}
        assert claims.clear(place) == []
    finally:
        os.kill(live, signal.SIGKILL)
        os.waitpid(live, 0)
    assert [path.name for path in claims.clear_all(tmp_path, beginning="team")] == [kept]


def test_a_link_in_the_place_of_a_leaving_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / ".a.1-00000000.tmp").symlink_to(tmp_path / "precious")
    assert claims.clear(tmp_path / "a") == []
    assert (tmp_path / "precious" / "file").read_text() == "kept"


def test_what_is_finished_stays_and_what_is_not_goes(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with claims.folder_beside(place) as temporary:
        temporary.rename(place)
    assert place.is_dir()
    with claims.file_beside(tmp_path / "b", mode=0o600) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.long
@pytest.mark.many(1)
@pytest.mark.parametrize("kind", ["kill", "enospc", "eio"])
def test_an_unpack_that_died_is_cleared_by_the_next(
    kind: str, memos: Memos, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a.md").write_text("- One thought.\n")
    memos("ingest", "a.cube", "a.md", "--embedder", "none")
    memos("pack", "a.cube", "-o", "a.memcube")
    for point in faults.ARRIVAL_POINTS:
        there = work / f"{point}.cube"
        with monkeypatch.context() as patch:
            patch.setenv(faults.VARIABLE, f"{point}:{kind}")
            faults.reset()
            status = in_child(lambda place=there: memos("unpack", "a.memcube", place).code and os._exit(1))
        assert (status == KILLED) == (kind == "kill")
        # all of it is there, or nothing but a leaving
        assert there.exists() == (point == "arrived")
        assert len(left(work)) == (kind == "kill" and point == "arriving")
        done = memos("unpack", "a.memcube", there)
        assert done.code == (2 if point == "arrived" else 0), done.err
        assert left(work) == []
        assert memos("audit", there, "--deep").code == 0
