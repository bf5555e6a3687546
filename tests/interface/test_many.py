"""A verb over many cubes: each by itself, in this process or several, and one that goes wrong stops no other."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import IO

import pytest

from memos_cli.console import plain
from memos_cli.cube import metadata
from memos_cli.errors import NotFound, Usage
from memos_cli.interface import api, many
from memos_cli.interface.interruption import caught
from memos_cli.interface.many import Each, jobs_for, worst
from memos_cli.operation import calibrate
from tests.conftest import Memos, Start, ok
from tests.test_schemas import validate

NAMES = ("one", "three", "two")


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Three small cubes with names."""

    def build(memos: Memos) -> None:
        for name in NAMES:
            Path(f"{name}.md").write_text(f"- The word of {name} is {name}.\n")
            ok(memos("ingest", name, f"{name}.md", "--embedder", "none"))

    return Start.make(tmp_path_factory.mktemp("many"), cache, build)


@pytest.fixture
def vault(start: Start, home: Path, work: Path) -> Path:
    start.copy(home, work)
    return home


def break_(home: Path, name: str) -> None:
    """Flips the cube's metadata, so that it cannot be opened."""
    path = home / "cubes" / f"{name}.cube" / "current" / metadata.FILE
    path.write_bytes(path.read_bytes() + b"\n# more\n")


def close(home: Path, name: str) -> None:
    (home / "policy.toml").write_text(
        f'[[access.rules]]\nname = "shut"\neffect = "forbid"\nverbs = ["any"]\ncubes = ["{name}"]\n'
    )


def outcomes(found: list[Each]) -> dict[str, str]:
    return {one.cube: one.outcome for one in found}


def test_each_cube_is_told_of_in_its_order(vault: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []
    found = list(api.over_many("audit", ["two", "one"], jobs=1, progress=lambda *told: seen.append(told)))
    assert [(one.cube, one.outcome, one.exit_code) for one in found] == [("two", "done", 0), ("one", "done", 0)]
    assert found[0].result.damaged is False
    assert seen == [(1, 2, "two"), (2, 2, "one")]
    assert api.in_vault() == list(NAMES)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_cube_stops_no_other(jobs: int, vault: Path) -> None:
    break_(vault, "one")
    close(vault, "three")
    found = list(api.over_many("audit", ["one", "missing", "three", "two"], jobs=jobs))
    assert outcomes(found) == {"one": "damaged", "missing": "failed", "three": "refused", "two": "done"}
    assert [one.exit_code for one in found] == [4, 3, 5, 0]
    assert found[0].hint
    summary = api.summed("audit", found, jobs=jobs, seconds=1.0)
    assert (summary.done, summary.damaged, summary.refused, summary.failed) == (1, 1, 1, 1)
    assert (summary.exit_code, summary.jobs) == (4, jobs)


def test_each_cube_has_a_plan_of_its_own(vault: Path, calibrated: None) -> None:
    planned = list(api.over_many("schedule", ["one", "two"], jobs=1, options={"estimate": True}))
    assert set(outcomes(planned).values()) == {"done"}
    assert planned[0].result.cubes[0].cube == "one"


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured here."""
    monkeypatch.setattr(calibrate, "measure", lambda *a, **k: pytest.fail("it measured"), raising=False)


@pytest.mark.long
def test_a_model_is_loaded_once_for_all_cubes(vault: Path) -> None:
    from memos_cli.runtime import model

    loads: list[str] = []
    load = model.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "load", lambda *given, **more: loads.append(more["name"]) or load(*given, **more))
        found = list(api.over_many("convert", ["one", "two"], jobs=1, options={"dry_run": True}))
    assert set(outcomes(found).values()) == {"done"}
    assert len(loads) == 1
    assert model._kept is None
    for one in found:
        validate(plain(one), "convert-each")
        validate(plain(one.result), "convert")
    validate(plain(api.summed("convert", found, jobs=1, seconds=1.0)), "convert-summary")


def test_wrong_calls_are_refused(vault: Path, tmp_path: Path) -> None:
    with pytest.raises(Usage, match="expected audit"):
        list(api.over_many("forget", ["one"]))
    with pytest.raises(Usage, match="each cube once"):
        list(api.over_many("audit", ["one", vault / "cubes" / "one.cube"]))
    with pytest.raises(NotFound, match="no cube has a name"):
        api.in_vault(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0, 0], 0), ([0, 9], 9), ([0, 9, 4], 4), ([0, 5], 10), ([5, 5], 5), ([3, 5], 3), ([9, 3], 10),
        ([0, 4, 130], 130), ([], 0),
    ],
)  # fmt: skip
def test_the_worst_decides(codes: list[int], expected: int) -> None:
    kinds = {0: "done", 9: "findings", 4: "damaged", 5: "refused", 3: "failed", 130: "interrupted"}
    assert worst([Each("a", kinds[code], code, "", "", 0.0, None) for code in codes]) == expected


def test_so_many_processes_as_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda which: set(range(4)))
    assert [jobs_for("audit", count, None) for count in (1, 8, 16, 1000)] == [1, 1, 2, 4]
    assert [jobs_for("convert", count, None) for count in (1, 3, 1000)] == [1, 3, 4]
    assert [jobs_for("audit", count, 8) for count in (0, 3, 1000)] == [1, 3, 8]


@pytest.mark.long
def test_a_process_that_dies_takes_down_only_its_cube(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "_work", _work_or_die)
    found = list(api.over_many("audit", NAMES, jobs=2))
    assert outcomes(found) == {"one": "done", "three": "failed", "two": "done"}
    assert "died" in found[1].message


def _work_or_die(name: str) -> Each:
    """In a process of the pool: as ever, but for one cube."""
    if name == "three":
        os._exit(9)
    return many._order.carry_out(name)  # type: ignore[union-attr]


def test_an_interruption_tells_the_rest(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def audit(cube: str, options: object, home: object) -> Each:
        if cube == "three":
            raise KeyboardInterrupt
        return Each(cube, "done", 0, "", "", 0.0, None)

    monkeypatch.setitem(many._WORK, "audit", audit)
    found = list(api.over_many("audit", NAMES, jobs=1))
    assert outcomes(found) == {"one": "done", "three": "interrupted", "two": "interrupted"}
    assert worst(found) == 130


@pytest.mark.many(1)
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("when", ["at work", pytest.param("telling", marks=pytest.mark.long)])
def test_ctrl_c_ends_all_processes_and_is_summed_up(when: str, jobs: str, vault: Path) -> None:
    for number in range(60):
        shutil.copytree(vault / "cubes" / "one.cube", vault / "cubes" / f"c{number:02}.cube", symlinks=True)
    command = [sys.executable, "-m", "memos_cli", "audit", "--vault", "--jobs", jobs, "--json", "--deep"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True
    )  # without a buffer, or `communicate` would not know of what `readline` has read besides
    assert process.stdout is not None
    if when == "telling":  # a line is half written when it comes, for nobody reads it
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    first = process.stdout.readline()
    if when == "telling":
        _fill(process.stdout)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, told = process.communicate(timeout=120)
    err = told.decode()
    assert process.returncode == 130, err
    *each, summary = [json.loads(line) for line in (first + out).splitlines()]
    assert summary["interrupted"] > 0
    assert (len(each), summary["cubes"], summary["exit_code"]) == (63, 63, 130)
    assert summary["done"] == sum(one["outcome"] == "done" for one in each) > 0
    assert f"{summary['interrupted']} interrupted" in err
    assert "Traceback" not in err
    assert _ends(process.pid)


def _fill(pipe: IO[bytes]) -> None:
    """Returns when a small pipe has been full for a second, so that whoever writes to it is stopped in the middle."""
    seen: list[bytes] = []
    for _ in range(1200):
        seen.append(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
        if int.from_bytes(seen[-1], sys.byteorder) > 2000 and len(set(seen[-20:])) == 1 and len(seen) >= 20:
            return
        time.sleep(0.05)
    raise AssertionError("the pipe never fills")


def test_what_is_told_of_is_not_cut_off() -> None:
    with caught() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.came
        with pytest.raises(KeyboardInterrupt), interruption:
            pytest.fail("work began")
        os.kill(os.getpid(), signal.SIGINT)
    with caught() as interruption, pytest.raises(KeyboardInterrupt), interruption:
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _ends(group: int) -> bool:
    """Whether nobody of a group of processes is left, within some seconds: Python's own helper ends a little later."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_the_commands(vault: Path, memos: Memos) -> None:
    done = ok(memos("audit", "one", "two"))
    assert [line.split("\t")[:2] for line in done.lines] == [["one", "done"], ["two", "done"]]
    assert "2 cubes: 2 done" in done.err
    close(vault, "two")
    done = memos("audit", "--vault", "--jobs", "1", "--json")
    assert done.code == 10
    *each, summary = map(json.loads, done.lines)
    for line in each:
        validate(line, "audit-each")
        if line["result"]:
            validate(line["result"], "audit")
    validate(summary, "audit-summary")
    assert summary["refused"] == 1
    assert memos("audit", "--vault", "--jobs", "1", "-q").lines == ["two"]
    planned = memos("schedule", "one", "three", "--each", "--estimate", "--json")
    assert planned.code == 0, planned.err
    for line in map(json.loads, planned.lines[:-1]):
        validate(line, "schedule-each")
        validate(line["result"], "schedule")
    validate(json.loads(planned.lines[-1]), "schedule-summary")


@pytest.mark.parametrize(
    "words",
    [
        ["audit"], ["audit", "one", "--vault"], ["audit", "one", "two", "--log"], ["audit", "--vault", "--trace"],
        ["audit", "one", "two", "--report", "a.html"], ["audit", "one", "one"], ["convert", "one", "two", "--ids", "x"],
        ["convert", "one", "two", "--to", "prompt"], ["schedule", "--vault", "--self-test"], ["schedule"],
        ["schedule", "one", "--each", "--watch", "5"], ["convert", "--vault", "--jobs", "0"],
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together(words: list[str], vault: Path, memos: Memos) -> None:
    assert memos(*words).code == 2
