"""A plan that teaches, killed in training and in publishing: all or nothing each time, and what was learned is kept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memos_cli.cube import parameter
from memos_cli.infrastructure import faults
from memos_cli.interface import api
from memos_cli.operation.audit import audit
from tests.conftest import Memos
from tests.interface import used
from tests.torture.nest import Nest

CUBE, QUESTION = "people.cube", "What is the home town of Ben Oster?"
# In a commit: before the version is there, before it is the one that counts, and after.
KILLS = ("sealing", "published", "committed")


@pytest.fixture
def nest(home: Path) -> Iterator[Nest]:
    opened = Nest(home, ready=("torch", "transformers", "memos_cli.interface.distilling"))
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _cube(work: Path, memos: Memos, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory that is asked for often, and costs by which it pays to teach it."""
    used.worth_teaching(memos, home, monkeypatch, CUBE, QUESTION)


def adapters() -> list[str]:
    return list(parameter.names(Path(CUBE, "current", parameter.FOLDER)))


def sound() -> bool:
    return not [one for one in audit(Path(CUBE), deep=True).findings if one.severity == "damage"]


@pytest.mark.slow
def test_a_plan_that_teaches_is_killed_anywhere_and_finished(memos: Memos, nest: Nest, home: Path, work: Path) -> None:
    assert set(KILLS) <= set(faults.COMMIT_POINTS)
    cube = work / CUBE
    plan = api.schedule([cube], policy="lfu", budget_bytes=0, distill=True)
    assert [move.kind for move in plan.moves] == ["distill"]
    api.keep_plan(plan)
    told = {"plan": plan.id, "model": "nano"}

    pid = nest.start("carry", **told)
    while not (kept := list((home / "work").glob("distill-*/*.safetensors"))):
        assert Path(f"/proc/{pid}").exists(), "it ended before its first checkpoint"
        time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    nest.wait(pid)
    begun = kept[0].stat().st_mtime_ns
    assert adapters() == []
    assert sound()

    for point in KILLS:
        status = nest.wait(nest.start("carry", variables={"MEMOS_FAULT": f"{point}:kill:1"}, **told))
        assert status == signal.SIGKILL, point
        assert len(adapters()) == (point == KILLS[-1]), point
        assert sound(), point
        # it went on from what the first one had learned
        assert list((home / "work").glob("distill-*/*.safetensors")) == kept
        assert kept[0].stat().st_mtime_ns >= begun
    (outcome,) = api.carry_out(api.unfinished_plan([cube]) or api.kept_plan(plan.id), model="nano").outcomes
    # the last kill came after the move
    assert (outcome.state, outcome.failing) == ("before", ())
    assert len([one for one in api.log(cube) if one.reason.startswith(f"plan {plan.id}")]) == 1
    assert api.unfinished_plan([cube]) is None
    answered = memos("query", CUBE, QUESTION, "--answer", "--form", "parameter", "--json")
    assert answered.json["answer"] == "Kinsale", answered.err
    assert memos("audit", CUBE, "--deep").code == 0
