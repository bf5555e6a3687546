"""Plans that are killed while they are carried out: whole moves only, and the next run does the rest."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.cube import activation, parameter
from memos_cli.cube.plaintext import Memories
from memos_cli.infrastructure import faults
from memos_cli.interface import api, frame, planning, tending
from memos_cli.interface.frame import PLAINTEXT
from memos_cli.interface.planned import Planned
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
# What those who carry a plan out need, which takes longer to import than most moves take.
HEAVY = ("torch", "transformers", "memos_cli.interface.converting")


def files(cube: Path) -> frozenset[str]:
    return frozenset(activation.memory_of(path) for path in activation.find(cube / "current" / "activation"))


@pytest.fixture
def nest(home: Path) -> Iterator[Nest]:
    """A process to fork from that has what makes activation memory imported."""
    opened = Nest(home, ready=HEAVY)
    yield opened
    opened.close()


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


@pytest.mark.long
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
MOVES = ["expire", "discard", "demote", "rebuild", "promote", "reteach"]
# Each point at its first hit; and for each later move before it is published, as it is, and before it is written down.
KILLS = [
    *((point, 1) for point in POINTS),
    *((point, hit) for point in ("sealing", "committed", "moved") for hit in range(2, len(MOVES) + 1)),
]
# What a plan changes: activation files by memory and weights, and whether they are of words that have changed since;
# what is marked as expired; adapters.
State = tuple[frozenset[tuple[str, str, bool]], frozenset[str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Course:
    """A cube, the model, a plan for it, what files of words say that have changed, and the states between moves."""

    cube: Path
    model: str
    plan: Planned
    before: frozenset[str]
    states: tuple[State, ...]


def state(cube: Path, before: frozenset[str]) -> State:
    current = cube / "current"
    headers = [activation.read(path).header for path in activation.find(current / activation.FOLDER)]
    held = frozenset((one.memory, str(one.hard["weights"]), one.content in before) for one in headers)
    ended = Memories.open(current / PLAINTEXT).rows("state = 'expired'", columns=["id"])["id"].to_pylist()
    return held, frozenset(ended), tuple(parameter.names(current / parameter.FOLDER))


@pytest.fixture
def course(tmp_path: Path, home: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> Course:
    """A plan that has each kind of move that is quick and changes no text."""
    monkeypatch.setattr("memos_cli.operation.schedule.STAY_DAYS", 0.0)
    cube, mine = tmp_path / "old.cube", tmp_path / "parrot"
    shutil.copytree(model, mine)
    jobs.add(str(cube), ENDED, LEFT, HELD, CHANGED, HOT, TAUGHT)
    ids = {text: one.id for text, one in jobs.live(str(cube)).items()}
    api.convert(str(cube), model=str(mine), ids=[ids[LEFT]])
    # the same name with other weights
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
    assert [move.kind for move in plan.moves] == MOVES
    files = activation.find(cube / "current" / activation.FOLDER, memory=ids[CHANGED])
    before = frozenset(activation.read(path).header.content for path in files)
    held, ended, taught = state(cube, before)
    states: list[State] = [(held, ended, taught), (held, ended | {ids[ENDED]}, taught)]
    for gone, come in (
        ({one for one in held if one[1] != weights}, set()), ({(ids[HELD], weights, False)}, set()),
        ({(ids[CHANGED], weights, True)}, {(ids[CHANGED], weights, False)}), (set(), {(ids[HOT], weights, False)}),
    ):  # fmt: skip
        states.append((states[-1][0] - gone | come, *states[-1][1:]))
    states.append((*states[-1][:2], ()))
    assert len(set(states)) == len(MOVES) + 1
    return Course(cube, str(mine), plan, before, tuple(states))


def kill(nest: Nest, course: Course, point: str, hit: int) -> int:
    """Kills whoever carries the plan out for a copy of the cube; after how many moves. The next run does the rest."""
    cube = course.cube.with_name(f"{point}-{hit}.cube")
    shutil.copytree(course.cube, cube, symlinks=True)
    cubes = tuple(replace(one, cube=str(cube)) for one in course.plan.cubes)
    moves = tuple(replace(one, cube=str(cube)) for one in course.plan.moves)
    plan = replace(course.plan, cubes=cubes, moves=moves)
    path = api.keep_plan(plan)
    fault = {"MEMOS_FAULT": f"{point}:kill:{hit}"}
    assert nest.wait(nest.start("carry", plan=plan.id, model=course.model, variables=fault)) == signal.SIGKILL
    found = state(cube, course.before)
    assert found in course.states, (point, hit)
    assert not [one for one in audit(cube, deep=True).findings if one.severity == "damage"], (point, hit)
    done = api.carry_out(api.unfinished_plan([cube]) or api.kept_plan(plan.id), model=course.model)
    assert len(done.outcomes) == len(MOVES), (point, hit)
    assert state(cube, course.before) == course.states[-1], (point, hit)
    made = [entry.reason for entry in api.log(cube) if entry.reason.startswith(f"plan {plan.id}")]
    assert len(made) == len(set(made)) == len(MOVES), (point, hit)
    assert api.unfinished_plan([cube]) is None
    assert not path.exists()
    shutil.rmtree(cube)
    return course.states.index(found)


@pytest.mark.long
def test_a_plan_of_other_moves_that_is_killed_in_the_middle_is_finished(nest: Nest, course: Course) -> None:
    assert kill(nest, course, "committed", 4) == 4
    assert kill(nest, course, "released", 2) == 2


@pytest.mark.slow
def test_a_plan_of_other_moves_that_is_killed_anywhere_is_finished(
    nest: Nest, course: Course, figure: Callable[[str], None], scaled: Callable[[int], int]
) -> None:
    some = random.Random(1).sample(KILLS, scaled(len(KILLS)))
    after = [kill(nest, course, point, hit) for point, hit in some]
    told = ", ".join(f"{after.count(moves)} after {moves} moves" for moves in sorted(set(after)))
    figure(f"{len(some)} of {len(KILLS)} kills in a plan of {len(MOVES)} moves: {told}; 0 other, each finished")
