"""Plans that are killed while they are carried out: whole moves only, and the next run does the rest."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from memos_cli.cube import activation
from memos_cli.infrastructure import faults
from memos_cli.interface import api, planning
from memos_cli.operation.audit import audit
from tests.torture import jobs
from tests.torture.nest import Nest

TEXTS = ("The badge opens the gate.", "The visitor code is walnut.", "The alarm rings at ten.")
# What every move passes, and what those that make and take away do.
POINTS = (*faults.COMMIT_POINTS, *faults.TRAIL_POINTS, "converted", "released", "moved")
FEW = ("committed",)


def files(cube: Path) -> frozenset[str]:
    return frozenset(activation.memory_of(path) for path in activation.find(cube / "current" / "activation"))


@pytest.fixture
def cube(tmp_path: Path, home: Path) -> Path:
    """A cube of which one memory is held and never used, and two are used and not held."""
    jobs.add(str(tmp_path / "a.cube"), *TEXTS)
    api.convert(str(tmp_path / "a.cube"), ids=[jobs.live(str(tmp_path / "a.cube"))[TEXTS[2]].id])
    for _ in range(9):
        for text in TEXTS[:2]:
            api.query(tmp_path / "a.cube", text, k=1)
    return tmp_path / "a.cube"


@pytest.mark.parametrize("point", [pytest.param(one, marks=() if one in FEW else pytest.mark.slow) for one in POINTS])
@pytest.mark.parametrize("hit", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_plan_that_is_killed_leaves_whole_moves_and_is_finished(
    point: str, hit: int, cube: Path, nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "GROUP", 1)
    # without a margin for what has just come: the one that is held goes
    monkeypatch.setattr("memos_cli.operation.schedule.STAY_DAYS", 0.0)
    plan = api.schedule([cube], policy="lfu", estimate=True)
    assert [move.kind for move in plan.moves] == ["demote", "promote", "promote"]
    api.keep_plan(plan)
    states = [files(cube)]
    for move in plan.moves:
        named = {item.id for item in move.items}
        states.append(states[-1] - named if move.kind == "demote" else states[-1] | named)
    status = nest.wait(nest.start("carry", plan=plan.id, variables={"MEMOS_FAULT": f"{point}:kill:{hit}"}))
    assert status in (0, signal.SIGKILL)
    assert files(cube) in states
    assert not [one for one in audit(cube, deep=True).findings if one.severity != "notice"]
    if status:
        done = api.carry_out(api.unfinished_plan([cube]) or api.kept_plan(plan.id))
        assert len(done.outcomes) == 3
    assert files(cube) == states[-1]
    made = [entry.reason for entry in api.log(cube) if entry.reason.startswith(f"plan {plan.id}")]
    assert len(made) == len(set(made)) == 3
    assert api.unfinished_plan([cube]) is None
