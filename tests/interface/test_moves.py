"""The moves of a plan beside those of activation memory: texts that are merged, set aside, written anew, and taught."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.cube import activation, parameter
from memos_cli.errors import CheckFailed, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import vault
from memos_cli.interface import api, carrying, distilling, frame, performing, planning, surveying, teaching, tending
from memos_cli.interface.planned import Planned
from memos_cli.interface.results import Distilled
from memos_cli.operation import teaching as arithmetic
from memos_cli.operation.estimate import Shape
from memos_cli.operation.policies import Setting
from memos_cli.operation.teaching import Lesson, Pupil
from memos_cli.runtime.train import Recipe
from tests.conftest import Memos, Start
from tests.cube import adapters
from tests.interface import used
from tests.interface.used import ask
from tests.runtime.decoders import save_parrot

TEXT = """# H

- The badge of the north gate opens the boat shed too, from six in the morning on.
- The visitor code of the archive is walnut, and the guard at the gate knows it.
- the visitor code of the archive is walnut, and the guard at the gate knows it
- Nobody ever asks about the old piano in the cellar of the east wing.
"""
FAR = datetime.now(UTC) + timedelta(days=100)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """A cube of four memories of which two say the same."""
    return used.four_memories(tmp_path_factory.mktemp("moves"), cache, TEXT)


@pytest.fixture
def ids(start: Start, home: Path, work: Path) -> list[str]:
    start.copy(home, work)
    return [one.id for one in api.memories("a.cube")]


def moved(plan: Planned) -> dict[str, tuple[str, ...]]:
    return {move.kind: tuple(item.id for item in move.items) for move in plan.moves}


def recalled() -> list[str]:
    return [one.id for one in api.memories("a.cube")]


def reasons() -> list[str]:
    return [entry.reason for entry in api.log("a.cube")]


def later(monkeypatch: pytest.MonkeyPatch, moment: datetime = FAR) -> None:
    monkeypatch.setattr(frame, "now", lambda: moment)


# --- what is said twice


def test_what_is_said_twice_is_merged_when_that_is_asked_for(ids: list[str]) -> None:
    assert used.plan().moves == ()
    plan = used.plan(merge=True)
    ((kind, (gone,)),) = moved(plan).items()
    assert kind == "merge"
    (stays,) = {ids[1], ids[2]} - {gone}
    (item,) = plan.moves[0].items
    assert item.reason == f"the same words as memory {stays[:8]}, which stays and stands for it"
    assert "walnut" in item.text
    done = used.carry_out(plan)
    assert [(one.state, one.ids) for one in done.outcomes] == [("done", (gone,))]
    assert reasons()[0] == f"plan {plan.id} move 1: {plan.moves[0].reason}"
    assert set(recalled()) == {ids[0], stays, ids[3]}
    assert api.show_memory("a.cube", stays).state == "merged"
    assert used.plan(merge=True).moves == ()


@pytest.mark.many(1)
@pytest.mark.parametrize("fast", ["frozen", "held"])
def test_what_is_frozen_or_held_is_neither_merged_nor_set_aside(
    fast: str, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in ids:
        if fast == "frozen":
            api.edit("a.cube", one, freeze=True)
        else:
            api.edit("a.cube", one, marks=api.Marks(hold=True))
    later(monkeypatch)
    assert used.plan(merge=True, archive_days=1).moves == ()


@pytest.mark.many(1)
@pytest.mark.parametrize("rule", ["freeze", "hold"])
def test_a_cube_in_which_nothing_may_be_lost_has_no_such_move(
    rule: str, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.govern("a.cube", **{rule: True})
    later(monkeypatch)
    assert used.plan(merge=True, archive_days=1).moves == ()


# --- what nobody uses


def test_what_nobody_uses_is_set_aside_when_that_is_asked_for(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    api.edit("a.cube", ids[3], marks=api.Marks(priority=2))
    ask(1, "badge of the north gate")
    later(monkeypatch)
    assert used.plan(archive_days=101).moves == ()
    plan = used.plan(archive_days=30)
    # each step of priority doubles the patience, so 30 days are 120 for the last one
    assert set(moved(plan)["archive"]) == set(ids[:3])
    why = {item.id: item.reason for item in plan.moves[0].items}
    assert why[ids[0]] == "used once, last 100 days ago"
    assert why[ids[1]] == "never used since it was made, 100 days ago"
    used.carry_out(plan)
    assert recalled() == [ids[3]]
    before = (FAR - timedelta(days=50)).isoformat()
    assert len(api.query("a.cube", "visitor code", as_of=before).hits) == 2
    api.edit("a.cube", ids[1], archive=False)
    # what came back counts as used, so it is not set aside again at once
    assert used.plan(archive_days=30).moves == ()


@pytest.mark.long
def test_what_is_set_aside_takes_its_activation_memory_along(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    used.convert(ids=[ids[0]])
    size = sum(path.stat().st_size for path in activation.find(Path("a.cube/current/activation")))
    later(monkeypatch)
    plan = used.plan(archive_days=30)
    assert {kind: set(named) for kind, named in moved(plan).items()} == {"archive": set(ids)}
    assert plan.moves[0].bytes == -size
    assert (plan.bytes_before, plan.bytes_after) == (size, 0)
    used.carry_out(plan)
    assert list(activation.find(Path("a.cube/current/activation"))) == []


@pytest.mark.many(2)
@pytest.mark.parametrize("days", [0.0, 0.99, -3.0, float("nan"), float("inf")])
def test_odd_days_are_refused(days: float, ids: list[str]) -> None:
    with pytest.raises(Usage, match="1 day or more"):
        used.plan(archive_days=days)


@pytest.mark.long
def test_what_is_merged_is_not_set_aside_too(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch)
    plan = used.plan(merge=True, archive_days=30)
    assert [move.kind for move in plan.moves] == ["merge", "archive"]
    named = [item.id for move in plan.moves for item in move.items]
    assert sorted(named) == sorted(ids)
    done = used.carry_out(plan)
    assert [one.state for one in done.outcomes] == ["done", "done"]
    assert recalled() == []


def test_words_that_may_not_go_are_not_told(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for one in ids:
        api.edit("a.cube", one, marks=api.Marks(sensitivity="restricted"))
    later(monkeypatch)
    plan = used.plan(merge=True, archive_days=30, to="file")
    assert {item.text for move in plan.moves for item in move.items} == {""}
    path = api.keep_plan(used.plan(merge=True, archive_days=30))
    assert "walnut" not in path.read_text()


# --- a table that is full of leavings


@pytest.mark.long
def test_a_table_that_is_full_of_leavings_is_written_anew(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        api.edit("a.cube", ids[number % 4], marks=api.Marks(priority=number % 3))
    assert used.plan().moves == ()
    monkeypatch.setattr(tending, "LEAST_BYTES", 1)
    before = _size()
    plan = used.plan()
    assert moved(plan) == {"compact": ("plaintext",)}
    assert plan.moves[0].bytes < 0
    assert plan.bytes_before == plan.bytes_after == 0
    told = list(api.memories("a.cube"))
    used.carry_out(plan)
    assert _size() <= before + plan.moves[0].bytes
    assert list(api.memories("a.cube")) == told
    assert used.plan().moves == ()
    assert not [one for one in api.audit("a.cube", deep=True).findings if one.severity != "notice"]


def _size() -> int:
    return sum(path.stat().st_size for path in Path("a.cube/current/plaintext").rglob("*") if path.is_file())


# --- what is taught


SHAPE = Shape(layers=2, width=64, heads=4, kv_heads=2, head_width=16, mlp_width=128)


def test_teaching_is_reckoned_as_it_is_trained() -> None:
    recipe = Recipe()
    assert (recipe.steps, recipe.rank) == (arithmetic.STEPS, arithmetic.RANK)
    assert recipe.batch * 4 <= arithmetic.STEP_TOKENS
    known = used.Rates("measured", "nano", "w", "m", "", used.POINTS)
    price = arithmetic.lesson(known, SHAPE)
    # each token takes 10 ms
    assert price.seconds == pytest.approx(3 * 450 * arithmetic.STEP_TOKENS * 0.01)
    assert not price.measured
    assert arithmetic.lesson(known, SHAPE, took=[5.0, 7.0]) == Lesson(7.0, True, price.bytes)


def test_a_group_pays_when_it_saves_more_than_it_takes() -> None:
    pupils = [Pupil("a", 10, 0.5), Pupil("b", 4, 0.5), Pupil("never", 0, 0.5), Pupil("free", 9, 0.0)]
    setting = Setting(rent=0.0)
    for seconds, pays in ((6.0, True), (6.5, False)):
        verdict = arithmetic.judge(pupils, Lesson(seconds, True, 10), setting)
        assert ([one.id for one in verdict.pupils], verdict.pays) == (["a", "b"], pays)
    many = [Pupil(f"{number:03}", 1, 1.0) for number in range(200)]
    assert len(arithmetic.judge(many, Lesson(1, True, 10), setting).pupils) == arithmetic.MOST_TAUGHT
    assert not arithmetic.judge([], Lesson(0.0, True, 0), setting).pays
    # a gigabyte for thirty days, at five seconds a day
    assert arithmetic.judge(pupils, Lesson(0.0, True, 10**9), Setting(rent=5.0)).needed == pytest.approx(150)


@pytest.fixture
def cheap_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training takes a second."""
    monkeypatch.setattr(arithmetic, "STEPS", 1)
    monkeypatch.setattr(arithmetic, "STEP_TOKENS", 30)


def answers(published: bool, calls: list[tuple[str, tuple[str, ...]]]) -> object:
    """A training that takes no time, for what a plan does with its end."""

    def distill(cube: str, **asked: object) -> Distilled:
        calls.append((str(asked["name"]), tuple(asked["ids"])))  # type: ignore[arg-type]
        number = vault.current_version(vault.locate(Path(cube))).number
        if published:
            with frame.changing(frame.desk(None), cube, "distill", reason=str(asked["reason"])) as change:
                number = change.commit({"distilled": 1}).number
        return Distilled(
            cube, number, False, str(asked["name"]), "nano", "", (), 16, (), (), {}, () if published else ("recall",),
            published, 1, "", 0, 0, 0.0, None,
        )  # fmt: skip

    return distill


def test_a_hot_group_is_taught_when_it_pays_and_that_is_asked_for(
    ids: list[str], cheap_lessons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(40, "badge of the north gate", "visitor code of the archive")
    assert "distill" not in moved(used.plan())
    plan = used.plan(policy="lfu", budget_bytes=0, distill=True)
    taught = moved(plan)["distill"]
    assert ids[0] in taught
    assert len(taught) == 2
    (move,) = plan.moves
    assert all("of the group takes" in item.reason for item in move.items)
    assert move.saved_seconds > move.seconds > 0
    assert move.saved_seconds == pytest.approx(sum(item.expected_uses * item.saved_each for item in move.items))
    calls: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(distilling, "distill", answers(True, calls))
    done = used.carry_out(plan)
    assert calls == [(teaching.name_of(taught), taught)]
    assert [(one.state, one.ids) for one in done.outcomes] == [("done", taught)]
    assert reasons()[0].startswith(f"plan {plan.id} move 1: teach")


@pytest.mark.long
def test_a_group_that_fell_short_is_not_taught_again(
    ids: list[str], cheap_lessons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(40, "badge of the north gate", "visitor code of the archive")
    asked = {"policy": "lfu", "budget_bytes": 0, "distill": True}
    plan = used.plan(**asked)  # type: ignore[arg-type]
    monkeypatch.setattr(distilling, "distill", answers(False, []))
    (outcome,) = used.carry_out(plan).outcomes
    assert (outcome.state, outcome.ids, outcome.failing) == ("nothing", (), moved(plan)["distill"])
    again = used.plan(**asked)  # type: ignore[arg-type]
    assert again.moves == ()
    assert "fell short of the gates" in again.notes[-1]


def test_a_group_that_does_not_pay_is_told(ids: list[str]) -> None:
    ask(2, "badge of the north gate")
    plan = used.plan(policy="lfu", budget_bytes=0, distill=True)
    assert plan.moves == ()
    assert "are not worth an adapter" in plan.notes[-1]


@pytest.mark.long
def test_training_keeps_to_the_seconds_that_there_are(ids: list[str], cheap_lessons: None) -> None:
    ask(40, "badge of the north gate")
    plan = used.plan(policy="lfu", budget_bytes=0, budget_seconds=0.5, distill=True)
    assert plan.moves == ()
    assert "do not suffice to distill" in plan.notes[-1]


def test_a_stale_adapter_is_taught_anew_when_that_is_asked_for(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = used.keep_costs(frame.desk(None).home / "cache", model=used.MODEL).weights
    stale = teaching.Taught("facts", frozenset({ids[0]}), (), "memory 12 was superseded", 4000, 12.5)
    monkeypatch.setattr(surveying, "adapters_of", lambda seen, weights: (stale,))
    monkeypatch.setattr(teaching, "adapters_of", lambda seen, weights: (stale,))
    assert "--distill would teach it anew" in used.plan().notes[-1]
    plan = used.plan(distill=True)
    assert moved(plan) == {"reteach": ("facts",)}
    assert plan.moves[0].seconds == 12.5
    teaching.note_refusal(frame.desk(None), weights, stale.as_it_is, ["recall"])
    again = used.plan(distill=True)
    assert again.moves == ()
    assert "fell short of its gates" in again.notes[-1]
    # when more of what it was taught changes it is another case
    other = replace(stale, stale="memory 13 is gone")
    monkeypatch.setattr(surveying, "adapters_of", lambda seen, weights: (other,))
    assert moved(used.plan(distill=True)) == {"reteach": ("facts",)}


@pytest.mark.long
def test_an_adapter_of_which_nothing_is_left_goes(ids: list[str]) -> None:
    weights = used.keep_costs(frame.desk(None).home / "cache", model=used.MODEL).weights
    base = parameter.Base("parrot", {**adapters.HARD, "weights": weights}, adapters.SOFT)
    with frame.changing(frame.desk(None), "a.cube", "distill") as change:
        folder = change.path / parameter.FOLDER
        adapters.write(folder, "facts", base=base, sources=(adapters.source(ids[0]),))
        shutil.rmtree(change.path / "made", ignore_errors=True)
        change.commit({})
    assert "distill" not in moved(used.plan(distill=True))
    api.forget("a.cube", ids=[ids[0]])
    assert "is stale, and --distill" in used.plan().notes[-1]
    plan = used.plan(distill=True)
    assert moved(plan) == {"reteach": ("facts",)}
    assert "is not used any more: memory" in plan.moves[0].items[0].reason
    (outcome,) = used.carry_out(plan).outcomes
    assert (outcome.state, outcome.ids) == ("done", ("facts",))
    assert parameter.names(Path("a.cube/current/parameter")) == []
    assert reasons()[0].startswith(f"plan {plan.id} move 1: ")
    assert used.plan(distill=True).moves == ()


# --- what a model's other weights left behind


@pytest.mark.long
def test_what_was_made_with_other_weights_goes_when_that_is_asked_for(ids: list[str], memos: Memos) -> None:
    used.convert(ids=ids[:3])
    api.convert("a.cube", ids=ids[:1], model="nano")
    with frame.changing(frame.desk(None), "a.cube", "edit") as change:
        change.whole.change([ids[2]], legal_hold=True)
        change.commit({})
    assert "discard" not in moved(used.plan(discard=True))
    save_parrot(Path(used.MODEL), "another idea")
    weights = used.keep_costs(frame.desk(None).home / "cache", model=used.MODEL).weights
    before = {path.name for path in activation.find(Path("a.cube/current/activation"))}
    plan = used.plan()
    assert plan.moves == ()
    assert "made with other weights of parrot" in plan.notes[-1]
    assert "--discard takes it away" in plan.notes[-1]
    plan = used.plan(discard=True)
    # the one under legal hold stays, and what is for nano is of another model
    assert moved(plan) == {"discard": tuple(sorted(ids[:2]))}
    assert f"of parrot, which are {weights[:12]} here" in plan.moves[0].items[0].reason
    assert plan.bytes_after - plan.bytes_before == plan.moves[0].bytes < 0
    done = used.carry_out(plan)
    assert [(one.state, set(one.ids)) for one in done.outcomes] == [("done", set(ids[:2]))]
    left = activation.find(Path("a.cube/current/activation"))
    assert len(left) == len(before) - 2
    assert {(activation.memory_of(path), activation.read(path).header.source["model"]) for path in left} == {
        (ids[2], "parrot"), (ids[0], "nano"),
    }  # fmt: skip
    assert used.plan(discard=True).moves == ()
    # what is made with the weights there are is no part of it
    used.convert(ids=ids[:1])
    assert "discard" not in moved(used.plan(discard=True))
    assert memos("audit", "a.cube", "--deep").code == 0


@pytest.mark.long
def test_what_is_discarded_makes_room(ids: list[str]) -> None:
    used.convert(ids=ids[:2])
    save_parrot(Path(used.MODEL), "another idea")
    used.keep_costs(frame.desk(None).home / "cache", model=used.MODEL)
    ask(40, "badge of the north gate")
    free = used.plan()
    assert list(moved(free)) == ["promote"]
    room = free.bytes_after - 1
    assert used.plan(budget_bytes=room).moves == ()
    assert list(moved(used.plan(budget_bytes=room, discard=True))) == ["discard", "promote"]


# --- any of them


def test_a_plan_of_texts_is_refused_for_a_cube_that_changed(ids: list[str]) -> None:
    plan = used.plan(merge=True)
    api.edit("a.cube", ids[1], freeze=True)
    with pytest.raises(CheckFailed, match="has changed since"):
        used.carry_out(plan)


def test_who_may_only_look_carries_nothing_out(ids: list[str], home: Path) -> None:
    api.govern("a.cube", scopes={"read": "anyone"})
    plan = used.plan(merge=True)
    api.keep_plan(plan)
    (home / "keys" / "identity.pub").unlink()
    (home / "keys" / "identity.key").unlink()
    before = vault.current_version(vault.locate(Path("a.cube"))).number
    with pytest.raises(NotAllowed):
        used.carry_out(plan)
    assert vault.current_version(vault.locate(Path("a.cube"))).number == before


@pytest.mark.long
def test_a_plan_with_a_move_that_nobody_knows_is_damaged(ids: list[str]) -> None:
    plan = used.plan(merge=True)
    path = api.keep_plan(plan)
    path.write_text(path.read_text().replace('"kind": "merge"', '"kind": "destroy"'))
    with pytest.raises(Exception, match="expected a move of promote"):
        used.carry_out(api.kept_plan(plan.id))
    assert set(performing.kinds()) >= {"merge", "archive", "compact", "distill", "reteach", "expire"}


def test_a_plan_of_several_moves_is_gone_on_with(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MOST_CHANGED", 1)
    later(monkeypatch)
    plan = used.plan(merge=True, archive_days=30)
    assert [move.kind for move in plan.moves] == ["merge", "archive", "archive", "archive"]
    stopping = iter([False, False, True]).__next__
    used.carry_out(plan, stop=stopping)
    left = api.unfinished_plan(["a.cube"])
    assert left is not None
    last = used.carry_out(left)
    assert [one.state for one in last.outcomes] == ["before", "before", "done", "done"]
    assert recalled() == []
    assert carrying.unfinished_plan(["a.cube"]) is None


def test_the_command(ids: list[str], memos: Memos) -> None:
    done = memos("schedule", "a.cube", "--merge", "--archive", "30", "--distill")
    assert done.code == 0, done.err
    assert "1 merge" in done.out
    assert "the same words as memory" in done.out
    told = memos("schedule", "a.cube", "--merge", "--apply", "--json").json
    assert told["outcomes"][0]["state"] == "done"
    assert json.dumps(told).count("walnut") == 0 or told["moves"][0]["items"][0]["text"]
    assert memos("schedule", "a.cube", "--archive", "0").code == 2
    assert memos("schedule", "a.cube", "--archive", "nan").code == 2
    assert memos("schedule", "a.cube", "--explain", ids[0], "--merge").code == 2
    assert memos("schedule", "a.cube", "--replay", "zipf", "--distill").code == 2


@pytest.mark.long
def test_nothing_to_teach_is_no_failure(ids: list[str], cheap_lessons: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(40, "badge of the north gate")
    plan = used.plan(policy="lfu", budget_bytes=0, distill=True)

    def none(cube: str, **asked: object) -> Distilled:
        raise NotFound("none of 1 memories can be taught")

    monkeypatch.setattr(distilling, "distill", none)
    (outcome,) = used.carry_out(plan).outcomes
    assert (outcome.state, outcome.failing) == ("nothing", moved(plan)["distill"])
    assert api.unfinished_plan(["a.cube"]) is None
