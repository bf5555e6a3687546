"""Repairs of cubes that lost something: all that can be put right is, and nothing is invented or lost."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from memos_cli.errors import Damaged, Locked, NotFound
from memos_cli.infrastructure import faults, locks, repair, vault
from tests.infrastructure.cubes import assert_sound, commit, content, current, in_child, make
from tests.infrastructure.test_faults import FAULTS, run


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """Three versions whose files share nothing, as a copy that does not know hard links has them."""
    make(tmp_path / "made.cube", commits=2)
    return Path(shutil.copytree(tmp_path / "made.cube", tmp_path / "a.cube", symlinks=True))


def kinds(done: tuple[repair.Repair, ...]) -> list[str]:
    return [each.kind for each in done]


def newest(cube: Path) -> Path:
    return vault.versions(cube)[0].path


def lose(version: Path, number: int) -> None:
    """Damages all files of a version that have the content of `number`, so that none is left there to repair it by."""
    there = f"{number}".encode() * 700
    for path in [path for path in version.rglob("*") if path.is_file() and path.read_bytes() == there]:
        path.chmod(0o644)
        path.write_bytes(b"x" * 700)


def drop_pointer(cube: Path) -> None:
    (cube / "current").unlink()


def point_nowhere(cube: Path) -> None:
    (cube / "current").unlink()
    (cube / "current").symlink_to("versions/00000009-0123456789abcdef")


def point_out(cube: Path) -> None:
    (cube / "current").unlink()
    (cube / "current").symlink_to("/etc")


def follow_links(cube: Path) -> None:
    target = os.path.realpath(cube / "current")
    (cube / "current").unlink()
    shutil.copytree(target, cube / "current")


def follow_links_alone(cube: Path) -> None:
    """As a copy of `current` alone, which is a folder then, without the version that it is."""
    target = os.path.realpath(cube / "current")
    (cube / "current").unlink()
    os.rename(target, cube / "current")


def test_a_sound_cube_needs_nothing(cube: Path) -> None:
    before = sorted(str(path) for path in cube.rglob("*"))
    assert repair.plan(cube) == ()
    assert sorted(str(path) for path in cube.rglob("*")) == before
    assert repair.repair(cube) == ()
    assert assert_sound(cube) == 3


@pytest.mark.parametrize("harm", [drop_pointer, point_nowhere, point_out, follow_links, follow_links_alone])
def test_a_broken_pointer_leads_to_the_newest_version_again(cube: Path, harm: Callable[[Path], None]) -> None:
    harm(cube)
    assert kinds(repair.plan(cube)) == ["pointer"]
    assert kinds(repair.repair(cube)) == ["pointer"]
    assert assert_sound(cube) == 3
    assert len(vault.versions(cube)) == 3
    assert repair.plan(cube) == ()
    assert commit(cube).number == 4


def test_a_version_that_is_lost_leaves_the_one_before(cube: Path) -> None:
    shutil.rmtree(newest(cube))
    repair.repair(cube)
    assert assert_sound(cube) == 2


@pytest.mark.parametrize("part", ["plaintext/data/0001.lance", "plaintext", "activation/0002.kv.safetensors"])
def test_missing_files_come_back_from_another_version(cube: Path, part: str) -> None:
    before = content(cube)
    place = newest(cube) / part
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    done = repair.plan(cube)
    assert set(kinds(done)) == {"file"}
    assert repair.repair(cube) == done
    assert content(cube) == before
    assert repair.plan(cube) == ()


def test_a_damaged_file_is_replaced_by_a_sound_one_and_linked(cube: Path) -> None:
    place = newest(cube) / "plaintext/data/0001.lance"
    place.chmod(0o644)
    place.write_bytes(b"2" * 700)
    assert kinds(repair.repair(cube)) == ["file"]
    assert place.stat().st_nlink == 2
    assert assert_sound(cube) == 3


def test_a_file_that_is_damaged_everywhere_is_left_and_not_invented(tmp_path: Path) -> None:
    make(tmp_path / "a.cube", commits=2)  # hard links: one file in all versions
    for version in vault.versions(tmp_path / "a.cube"):
        lose(version.path, 1)
    assert repair.repair(tmp_path / "a.cube") == ()
    assert (newest(tmp_path / "a.cube") / "plaintext/data/0001.lance").read_bytes() == b"x" * 700


def test_a_newer_version_that_is_not_whole_is_put_aside(cube: Path) -> None:
    lose(newest(cube), 3)
    name = newest(cube).name
    drop_pointer(cube)
    assert kinds(repair.plan(cube)) == ["aside", "pointer"]
    repair.repair(cube)
    assert assert_sound(cube) == 2
    (aside,) = os.listdir(cube / "aside")
    assert aside.startswith(name)
    assert (cube / "aside" / aside / "plaintext/data/0003.lance").read_bytes() == b"x" * 700


def test_files_come_back_before_the_pointer_is_chosen(cube: Path) -> None:
    (newest(cube) / "plaintext/data/0001.lance").unlink()
    drop_pointer(cube)
    assert kinds(repair.plan(cube)) == ["file", "pointer"]
    repair.repair(cube)
    assert assert_sound(cube) == 3


def test_leavings_go_and_what_can_be_taken_up_stays(cube: Path) -> None:
    from tests.infrastructure.test_vault import _begin

    _begin(cube, "job", 4)
    (cube / "staging" / "rest").mkdir()
    (cube / ".lock.holder.1-0a.tmp").write_text("")
    (cube / ".current.new").symlink_to("x")
    (cube / "lock.holder").write_text("{}")
    (cube / "tags").mkdir(exist_ok=True)
    (cube / "tags" / "gone").symlink_to("../versions/00000099-0123456789abcdef")
    shutil.copytree(newest(cube), cube / "versions" / "00000004-0123456789abcdef")
    planned = repair.plan(cube)
    assert sorted(kinds(planned)) == ["lock", "staging", "staging", "staging", "tag", "unpublished"]
    assert repair.repair(cube) == planned
    assert os.listdir(cube / "staging") == ["job"]
    assert assert_sound(cube) == 3


def test_a_repair_waits_for_a_writer_and_then_says_who_it_is(cube: Path) -> None:
    with locks.writing(cube, operation="ingest"):
        assert not locks.has_stale_note(cube)
        with pytest.raises(Locked, match=f"process {os.getpid()}"):
            repair.repair(cube, lock_timeout=0.01)
    (cube / "lock.holder").write_text("{}")
    assert locks.has_stale_note(cube)


def test_nothing_is_written_through_a_link_in_a_version(cube: Path, tmp_path: Path) -> None:
    """A hostile cube: a folder of a version is a link, and a file below it asks to be put back."""
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(newest(cube) / "plaintext" / "data")
    (newest(cube) / "plaintext" / "data").symlink_to(outside)
    repair.repair(cube)
    assert os.listdir(outside) == []


@pytest.mark.parametrize("name", ["versions", "staging", "tags", "log"])
def test_a_link_in_the_place_of_a_folder_stops_a_repair(cube: Path, tmp_path: Path, name: str) -> None:
    if (cube / name).exists():
        (cube / name).rename(tmp_path / "elsewhere")
    (cube / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged):
        repair.repair(cube)


def test_what_is_no_cube_is_refused(tmp_path: Path, cube: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotFound):
        repair.plan(tmp_path / "none")
    with pytest.raises(Damaged, match="no version"):
        repair.plan(tmp_path / "folder")
    drop_pointer(cube)
    for version in (cube / "versions").iterdir():
        for number in (1, 2, 3):
            lose(version, number)
    with pytest.raises(Damaged, match="no version is whole"):
        repair.repair(cube)


@pytest.mark.many(3)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize(
    ("point", "harm"),
    [
        ("repair_linked", lambda cube: (newest(cube) / "plaintext/data/0001.lance").unlink()),
        ("repair_pointed", drop_pointer),
        ("repair_moved", follow_links_alone),
        ("repair_aside", lambda cube: (lose(newest(cube), 3), drop_pointer(cube))),
    ],
)
def test_a_repair_that_is_cut_short_is_done_by_the_next(
    point: str, harm: Callable[[Path], object], kind: str, cube: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(cube)
    faults.reset()
    status = run(lambda: repair.repair(cube), f"{point}:{kind}", monkeypatch)
    assert status == (signal.SIGKILL if kind == "kill" else 1 << 8)
    assert in_child(lambda: repair.repair(cube)) == 0
    assert repair.plan(cube) == ()
    assert assert_sound(cube) == current(cube) == (2 if point == "repair_aside" else 3)
    assert not os.listdir(cube / "staging")
