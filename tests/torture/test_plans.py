"""Plans that are killed while they are carried out: whole moves only, and the next run does the rest."""

from __future__ import annotations

import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.cube import activation, parameter
from memos_cli.infrastructure import faults
from memos_cli.interface import api, frame, planning, tending
from memos_cli.operation.audit import audit
from memos_cli.runtime.fingerprint import weights_digest
from tests.cube import adapters
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


# A memory for each kind of move that the plans above have not.
ENDED, LEFT, HELD, CHANGED, HOT, TAUGHT = (
    f"The {name} has a number of its own." for name in ("door", "boat", "lamp", "well", "oven", "clock")
)
KINDS = ["expire", "discard", "demote", "rebuild", "promote", "reteach"]
# Each point at its first hit; and each of the moves before it is made, at once after, and when it is written down.
KILLS = [
    *((point, 1) for point in POINTS),
    *(
        (point, hit)
        for point in ("sealing", "pointer_written", "committed", "moved")
        for hit in range(2, len(KINDS) + 1)
    ),
]


def state(
    cube: Path, changed: frozenset[str]
) -> tuple[frozenset[tuple[str, str, bool]], frozenset[str], tuple[str, ...]]:
    """Activation files by memory, weights and whether they are of a text that has changed; what ended; adapters."""
    current = cube / "current"
    headers = [activation.read(path).header for path in activation.find(current / "activation")]
    held = frozenset((one.memory, str(one.hard["weights"]), one.content in changed) for one in headers)
    ended = frozenset(one.id for one in api.memories(cube, where="state=expired"))
    return held, ended, tuple(parameter.names(current / parameter.FOLDER))


@pytest.mark.parametrize(
    ("point", "hit"), [pytest.param(*one, marks=() if one == ("committed", 4) else pytest.mark.slow) for one in KILLS]
)
def test_a_plan_of_every_other_move_that_is_killed_is_finished(
    point: str, hit: int, tmp_path: Path, home: Path, model: str, nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memos_cli.operation.schedule.STAY_DAYS", 0.0)
    cube, mine = tmp_path / "a.cube", tmp_path / "parrot"
    shutil.copytree(model, mine)
    jobs.add(str(cube), ENDED, LEFT, HELD, CHANGED, HOT, TAUGHT)
    ids = {text: one.id for text, one in jobs.live(str(cube)).items()}
    api.convert(str(cube), model=str(mine), ids=[ids[LEFT]])
    save_parrot(mine, "another idea")
    api.convert(str(cube), model=str(mine), ids=[ids[HELD], ids[CHANGED]])
    weights = weights_digest(mine, cache=home / "cache")
    with frame.changing(frame.desk(None), cube, "edit") as change:
        change.whole.change([ids[ENDED]], expires_at=frame.now())
        # a heading is part of what a prompt shows
        change.whole.change([ids[CHANGED]], section="Another heading")
        base = parameter.Base("parrot", {**adapters.HARD, "weights": weights}, adapters.SOFT)
        adapters.write(change.path / parameter.FOLDER, "facts", base=base, sources=(adapters.source(ids[TAUGHT]),))
        shutil.rmtree(change.path / "made", ignore_errors=True)
        change.commit({})
    api.forget(cube, ids=[ids[TAUGHT]])
    for _ in range(9):
        for text in (CHANGED, HOT):
            api.query(cube, text, k=1)
    plan = api.schedule([cube], model=str(mine), policy="lfu", estimate=True, discard=True, distill=True)
    assert [move.kind for move in plan.moves] == KINDS
    changed = frozenset(
        activation.read(path).header.content
        for path in activation.find(cube / "current" / "activation", memory=ids[CHANGED])
    )
    (held, ended, taught), states = state(cube, changed), []
    old = {one for one in held if one[1] != weights}
    states.append((held, ended, taught))
    states.append((held, ended | {ids[ENDED]}, taught))
    for gone, come in (
        (old, set()), ({(ids[HELD], weights, False)}, set()),
        ({(ids[CHANGED], weights, True)}, {(ids[CHANGED], weights, False)}), (set(), {(ids[HOT], weights, False)}),
    ):  # fmt: skip
        states.append((states[-1][0] - gone | come, *states[-1][1:]))
    states.append((*states[-1][:2], ()))
    assert len(set(states)) == len(KINDS) + 1
    api.keep_plan(plan)
    status = nest.wait(
        nest.start("carry", plan=plan.id, model=str(mine), variables={"MEMOS_FAULT": f"{point}:kill:{hit}"})
    )
    assert status in (0, signal.SIGKILL)
    assert state(cube, changed) in states
    assert not [one for one in audit(cube, deep=True).findings if one.severity not in ("notice", "warning")]
    if status:
        done = api.carry_out(api.unfinished_plan([cube]) or api.kept_plan(plan.id), model=str(mine))
        assert len(done.outcomes) == len(KINDS)
    assert state(cube, changed) == states[-1]
    made = [entry.reason for entry in api.log(cube) if entry.reason.startswith(f"plan {plan.id}")]
    assert len(made) == len(set(made)) == len(KINDS)
    assert api.unfinished_plan([cube]) is None
