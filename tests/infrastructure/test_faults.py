"""Every fault point of the vault, with every kind of fault: the cube is exactly the old or the new one."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memos_cli.errors import MemosError, Usage
from memos_cli.infrastructure import faults, vault
from tests.infrastructure.cubes import STAMP, assert_sound, commit, content, current, fill, in_child, make

KILLED = signal.SIGKILL
FAILED = 1 << 8
PUBLISHED = frozenset({"committed", "root_synced"})
CREATE_POINTS = [point for point in faults.COMMIT_POINTS if point not in ("locked", "recovered", "cloned")]
FAULTS = ("kill", "enospc", "eio")


@pytest.fixture(autouse=True)
def _forget_hits() -> Iterator[None]:
    faults.reset()
    yield
    faults.reset()


def run(work: Callable[[], object], fault: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The child's status of doing `work` with a fault injected."""
    with monkeypatch.context() as patch:
        patch.setenv(faults.VARIABLE, fault)
        return in_child(work)


def armed(point: str, kind: str) -> str:
    """The fault at the first hit that matters: the first write is only the note of who holds the lock."""
    return f"{point}:{kind}:{2 if point.startswith('write_') else 1}"


def is_tidy(root: Path) -> bool:
    """Whether nothing of an interrupted change is left to see."""
    left = {"current", "versions", "staging", "lock", "tags"}
    return set(os.listdir(root)) <= left and not os.listdir(root / "staging")


@pytest.mark.many(4)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("point", faults.COMMIT_POINTS)
def test_a_fault_in_a_commit_leaves_the_old_or_the_new_version(
    point: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    make(root, commits=2)
    before = content(root)
    status = run(lambda: commit(root), armed(point, kind), monkeypatch)
    assert status == (KILLED if kind == "kill" else FAILED)
    assert current(root) == (4 if point in PUBLISHED else 3)
    if point not in PUBLISHED:
        assert content(root) == before
    if kind != "kill":
        assert is_tidy(root)
    assert_sound(root)
    assert commit(root).number == current(root)
    assert_sound(root)
    assert is_tidy(root)


# The first write is the note of who holds the lock, then three parts of the memory, then the manifest.
@pytest.mark.many(2)
@pytest.mark.parametrize("nth", range(1, 6))
@pytest.mark.parametrize("point", ["write_half", "write_rename"])
def test_a_kill_in_any_write_leaves_the_old_version(
    point: str, nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    make(root)
    assert run(lambda: commit(root), f"{point}:kill:{nth}", monkeypatch) == KILLED
    assert assert_sound(root) == 1
    assert commit(root).number == 2
    assert is_tidy(root)


@pytest.mark.many(3)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("point", [*faults.CREATE_POINTS, *CREATE_POINTS])
def test_a_fault_in_the_making_of_a_cube_leaves_none_or_a_whole_one(
    point: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    status = run(lambda: make(root), armed(point, kind), monkeypatch)
    assert status == (KILLED if kind == "kill" else FAILED)
    if point in PUBLISHED:
        assert assert_sound(root) == 1
        assert commit(root).number == 2
        assert is_tidy(root)
    else:
        assert kind == "kill" or not root.exists()
        make(root)
        assert assert_sound(root) == 1


@pytest.mark.many(2)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("point", faults.SWEEP_POINTS)
def test_a_fault_in_a_sweep_takes_no_version_that_is_kept(
    point: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    make(root, commits=4)
    run(lambda: vault.sweep(root, keep=2), f"{point}:{kind}", monkeypatch)
    assert assert_sound(root) == 5
    assert {4, 5} <= {version.number for version in vault.versions(root)}
    vault.sweep(root, keep=2)
    assert [version.number for version in vault.versions(root)] == [5, 4]
    assert is_tidy(root)


@pytest.mark.many(2)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("point", faults.SWEEP_POINTS)
def test_a_failing_sweep_does_not_fail_the_commit_before_it(
    point: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    make(root, commits=3)
    status = run(lambda: commit(root, keep=2), f"{point}:{kind}", monkeypatch)
    assert status == (KILLED if kind == "kill" else 0)
    assert assert_sound(root) == 5


@pytest.mark.many(3)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("point", faults.TAG_POINTS)
def test_a_fault_in_tagging_leaves_the_old_or_the_new_tag(
    point: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    make(root, commits=1)
    vault.tag(root, "good", 1)
    run(lambda: vault.tag(root, "good", 2), f"{point}:{kind}", monkeypatch)
    assert vault.tags(root) == {"good": 2 if point == "tag_moved" else 1}
    commit(root)
    assert os.listdir(root / "tags") == ["good"]


@pytest.mark.many(3)
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("point", faults.CHECKPOINT_POINTS)
def test_a_fault_in_a_checkpoint_keeps_this_one_or_the_one_before(
    point: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    make(root)

    def work() -> None:
        with vault.draft(root, stamp=STAMP, resume="job") as draft:
            for number in (2, 3):
                fill(draft.path, number)
                draft.checkpoint({"done": number})

    run(work, f"{point}:{kind}:2", monkeypatch)
    with vault.draft(root, stamp=STAMP, resume="job") as draft:
        expected = 3 if point in ("checkpoint_marked", "checkpoint_swapped") else 2
        assert draft.progress == {"done": expected}
        assert len(os.listdir(draft.path / "activation")) == expected
        for number in range(expected + 1, 5):
            fill(draft.path, number)
        draft.commit()
    assert assert_sound(root) == 2
    assert is_tidy(root)


def _kill_now_and_then(root: Path, *, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    last = current(root)
    progress = 0

    def work() -> None:
        while True:
            commit(root, keep=3)

    for kill in range(kills):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(3)
        if kill == 0:  # however busy the machine is, one kill comes after a commit
            while current(root) == last:
                time.sleep(0.005)
        time.sleep(chance.uniform(0.01, 0.12))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == KILLED
        found = assert_sound(root)
        assert found >= last
        progress += found > last
        last = found
    assert progress
    vault.recover(root)
    assert is_tidy(root)


@pytest.mark.long
def test_kills_at_random_moments_never_damage_the_cube(tmp_path: Path) -> None:
    make(tmp_path / "a.cube")
    _kill_now_and_then(tmp_path / "a.cube", kills=15, seed=7)


@pytest.mark.slow
def test_many_kills_at_random_moments_never_damage_the_cube(tmp_path: Path) -> None:
    make(tmp_path / "a.cube")
    _kill_now_and_then(tmp_path / "a.cube", kills=150, seed=11)


def test_the_registry_names_every_point_and_each_of_the_vault_is_in_the_code() -> None:
    package = Path(faults.__file__).parent.parent
    text = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    used = set(re.findall(r"faults\.point\(\"(\w+)\"\)", text))
    assert used <= set(faults.POINTS)
    assert set(faults.POINTS) - set(faults.OPERATION_POINTS) <= used


@pytest.mark.parametrize("text", ["nowhere:kill", "locked:melt", "locked", "locked:kill:x"])
def test_a_fault_that_does_not_exist_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, text)
    with pytest.raises(Usage):
        faults.point("locked")


def test_a_fault_hits_only_its_point_and_only_the_nth_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults.VARIABLE, "ingest_batch:enospc:3")
    faults.point("locked")
    faults.point("ingest_batch")
    faults.point("ingest_batch")
    with pytest.raises(OSError, match="injected at ingest_batch"):
        faults.point("ingest_batch")
    faults.point("ingest_batch")


def test_a_delay_only_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "DELAY_SECONDS", 0.01)
    monkeypatch.setenv(faults.VARIABLE, "locked:delay")
    begin = time.monotonic()
    faults.point("locked")
    assert time.monotonic() - begin >= 0.01


def test_a_point_costs_next_to_nothing_when_no_fault_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    begin = time.perf_counter()
    for _ in range(1000):
        faults.point("locked")
    assert time.perf_counter() - begin < 0.05


@pytest.mark.parametrize("point", sorted(PUBLISHED))
def test_an_error_past_the_commit_point_says_that_the_version_is_published(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a.cube")
    monkeypatch.setenv(faults.VARIABLE, f"{point}:eio")
    with pytest.raises(MemosError, match="is published, but the disk did not confirm it"):
        commit(tmp_path / "a.cube")
    assert current(tmp_path / "a.cube") == 2


def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a.cube")
    monkeypatch.setenv(faults.VARIABLE, "sealed:enospc")
    with pytest.raises(MemosError, match="no space left") as caught:
        commit(tmp_path / "a.cube")
    assert caught.value.exit_code == 1
    assert "memos gc" in str(caught.value.hint)
