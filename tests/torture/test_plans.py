"""Plans that are killed while they are carried out: whole moves only, and the next run does the rest."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.cube import activation
from memos_cli.infrastructure import faults
from memos_cli.interface import api, frame, planning, tending
from memos_cli.operation.audit import audit
from tests.runtime.decoders import save_parrot
from tests.torture import jobs
from tests.torture.nest import Nest

# Of these two say the same, and none was used for long.
OLD = ("The gate opens at six.", "The bell rings at noon.", "the bell rings at noon", "The cellar is dry.")
TEXTS = ("The badge opens the gate.", "The visitor code is walnut.", "The alarm rings at ten.")
# What every move passes, and what those that make and take away do.
POINTS = (*faults.COMMIT_POINTS, *faults.TRAIL_POINTS, "converted", "released", "moved")
FEW = ("committed",)


def files(cube: Path) -> frozenset[str]:
    return frozenset(activation.memory_of(path) for path in activation.find(cube / "current" / "activation"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that makes memories in a moment."""
    folder = tmp_path_factory.mktemp("model") / "parrot"
    save_parrot(folder, "idea")
    return str(folder)


@pytest.fixture
def cube(tmp_path: Path, home: Path, model: str) -> Path:
    """A cube of which one memory is held and never used, and two are used and not held."""
    jobs.add(str(tmp_path / "a.cube"), *TEXTS)
    held = jobs.live(str(tmp_path / "a.cube"))[TEXTS[2]].id
    api.convert(str(tmp_path / "a.cube"), model=model, ids=[held])
    for _ in range(9):
        for text in TEXTS[:2]:
            api.query(tmp_path / "a.cube", text, k=1)
    return tmp_path / "a.cube"


@pytest.mark.long
@pytest.mark.parametrize("point", [pytest.param(one, marks=() if one in FEW else pytest.mark.slow) for one in POINTS])
@pytest.mark.parametrize("hit", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_plan_that_is_killed_leaves_whole_moves_and_is_finished(
    point: str, hit: int, cube: Path, model: str, nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "GROUP", 1)
    # without a margin for what has just come: the one that is held goes
    monkeypatch.setattr("memos_cli.operation.schedule.STAY_DAYS", 0.0)
    plan = api.schedule([cube], model=model, policy="lfu", estimate=True)
    assert [move.kind for move in plan.moves] == ["demote", "promote", "promote"]
    api.keep_plan(plan)
    states = [files(cube)]
    for move in plan.moves:
        named = {item.id for item in move.items}
        states.append(states[-1] - named if move.kind == "demote" else states[-1] | named)
    status = nest.wait(nest.start("carry", plan=plan.id, model=model, variables={"MEMOS_FAULT": f"{point}:kill:{hit}"}))
    assert status in (0, signal.SIGKILL)
    assert files(cube) in states
    assert not [one for one in audit(cube, deep=True).findings if one.severity != "notice"]
    if status:
        done = api.carry_out(api.unfinished_plan([cube]) or api.kept_plan(plan.id), model=model)
        assert len(done.outcomes) == 3
    assert files(cube) == states[-1]
    made = [entry.reason for entry in api.log(cube) if entry.reason.startswith(f"plan {plan.id}")]
    assert len(made) == len(set(made)) == 3
    assert api.unfinished_plan([cube]) is None


def recalled(cube: Path) -> frozenset[str]:
    return frozenset(memory.id for memory in api.memories(cube))


@pytest.mark.parametrize(
    "point",
    [pytest.param(one, marks=() if one in FEW else pytest.mark.slow) for one in (*faults.COMMIT_POINTS, "moved")],
)
@pytest.mark.parametrize("hit", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_plan_of_texts_that_is_killed_leaves_whole_moves_and_is_finished(
    point: str, hit: int, tmp_path: Path, home: Path, model: str, nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for those that say the same, what nobody uses set aside, the table written anew."""
    cube = tmp_path / "a.cube"
    jobs.add(str(cube), *OLD)
    first = jobs.live(str(cube))[OLD[0]].id
    for priority in (1, 2, 9):
        api.edit(str(cube), first, marks=api.Marks(priority=priority))
    monkeypatch.setattr(tending, "LEAST_BYTES", 1)
    monkeypatch.setattr(tending, "LEAST_SHARE", 0.0)
    monkeypatch.setattr(frame, "now", lambda: datetime.now(UTC) + timedelta(days=60))
    plan = api.schedule([cube], model=model, estimate=True, merge=True, archive_days=30)
    assert [move.kind for move in plan.moves] == ["merge", "archive", "compact"]
    api.keep_plan(plan)
    states = [recalled(cube)]
    for move in plan.moves[:2]:
        states.append(states[-1] - {item.id for item in move.items})
    status = nest.wait(nest.start("carry", plan=plan.id, model=model, variables={"MEMOS_FAULT": f"{point}:kill:{hit}"}))
    assert status in (0, signal.SIGKILL)
    assert recalled(cube) in states
    assert not [one for one in audit(cube, deep=True).findings if one.severity != "notice"]
    if status:
        done = api.carry_out(api.unfinished_plan([cube]) or api.kept_plan(plan.id), model=model)
        assert len(done.outcomes) == 3
    assert recalled(cube) == states[-1] == {first}
    made = [entry.reason for entry in api.log(cube) if entry.reason.startswith(f"plan {plan.id}")]
    assert len(made) == len(set(made)) == 3
    assert api.unfinished_plan([cube]) is None
