"""Plans and carrying them out: what is moved and why, that a plan changes nothing, and that all can be gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memos_cli.cube import activation
from memos_cli.errors import CheckFailed, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import vault
from memos_cli.interface import api, carrying, frame, planning
from memos_cli.interface.planned import Planned
from memos_cli.interface.releasing import release
from memos_cli.operation import calibrate, gate
from tests.conftest import Memos, Start
from tests.interface import used
from tests.interface.used import ask


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """A cube of four memories that nobody has asked, and the costs of nano as if they had been measured here."""
    return used.four_memories(tmp_path_factory.mktemp("scheduling"), cache)


@pytest.fixture
def ids(start: Start, home: Path, work: Path) -> list[str]:
    start.copy(home, work)
    return [one.id for one in api.memories("a.cube")]


def used_twice_over() -> None:
    """Three memories are used, ten times each; the last one never."""
    ask(10, "badge of the north gate", "visitor code of the archive", "alarm of the cold store")


def moved(plan: Planned) -> dict[str, tuple[str, ...]]:
    return {move.kind: tuple(item.id for item in move.items) for move in plan.moves}


def files(cube: str = "a.cube") -> set[str]:
    return {activation.memory_of(path) for path in activation.find(Path(cube, "current", "activation"))}


def test_what_is_used_is_planned_and_nothing_is_changed(ids: list[str]) -> None:
    used_twice_over()
    before = os.readlink("a.cube/current")
    plan = used.plan()
    assert set(moved(plan)["promote"]) == set(ids[:3])
    assert os.readlink("a.cube/current") == before
    (move,) = plan.moves
    assert move.bytes == sum(item.bytes for item in move.items) == plan.bytes_after
    assert plan.saved_seconds == pytest.approx(sum(item.expected_uses * item.saved_each for item in move.items))
    assert all("used 10 times" in item.reason for item in move.items)
    assert plan.cubes[0].queries == 30
    assert "no model has answered" in plan.notes[0]
    assert used.plan().id == plan.id


def test_a_plan_is_carried_out_and_then_there_is_nothing_to_do(ids: list[str]) -> None:
    used_twice_over()
    plan = used.plan()
    done = used.carry_out(plan)
    assert done.applied
    assert [(one.state, set(one.ids)) for one in done.outcomes] == [("done", set(ids[:3]))]
    assert files() == set(ids[:3])
    version = vault.current_version(vault.locate(Path("a.cube")))
    assert version.manifest.reason.startswith(f"plan {plan.id} move 1: ")
    again = used.plan()
    assert again.moves == ()
    assert again.stays == {"it is activation memory already": 3}
    # what it took is known now, and not what was expected
    assert again.cubes[0].held_bytes == sum(path.stat().st_size for path in Path("a.cube/current/activation").iterdir())


@pytest.mark.long
def test_a_smaller_budget_takes_away_what_is_worth_least(ids: list[str]) -> None:
    ask(40, "badge of the north gate")
    ask(10, "visitor code of the archive")
    used.carry_out(used.plan())
    size = used.plan().bytes_before
    plan = used.plan(budget_bytes=size - 1)
    assert moved(plan) == {"demote": (ids[1],)}
    assert plan.bytes_after < size
    used.carry_out(plan)
    assert files() == {ids[0]}
    assert api.show_memory("a.cube", ids[1]).state == "activated"


def test_priority_comes_first_and_what_is_frozen_or_held_never_moves(ids: list[str]) -> None:
    used_twice_over()
    api.edit("a.cube", ids[1], marks=api.Marks(priority=9))
    largest = max(item.bytes for item in used.plan().moves[0].items)
    assert moved(used.plan(budget_bytes=largest)) == {"promote": (ids[1],)}
    api.edit("a.cube", ids[1], freeze=True)
    api.edit("a.cube", ids[2], marks=api.Marks(hold=True))
    plan = used.plan()
    assert moved(plan) == {"promote": (ids[0],)}
    assert plan.stays == {"it is frozen": 1, "it is under legal hold": 1}
    used.convert(ids=[ids[1]])
    assert used.plan(budget_bytes=0).moves == ()
    assert "more than the budget" in used.plan(budget_bytes=0).notes[-1]
    with pytest.raises(NotAllowed, match="frozen"):
        release("a.cube", [ids[1]])


@pytest.mark.long
def test_a_text_that_has_changed_is_made_anew_or_taken_away(ids: list[str]) -> None:
    used_twice_over()
    used.convert()
    folder = Path("a.cube/current/activation")
    assert files() == set(ids)
    # the heading is part of what a prompt shows, and is changed in place
    with frame.changing(frame.desk(None), "a.cube", "edit") as change:
        change.whole.change([ids[0], ids[3]], section="Another heading")
        change.commit({})
    plan = used.plan()
    assert moved(plan) == {"demote": (ids[3],), "rebuild": (ids[0],)}
    assert "its text has changed" in plan.moves[1].items[0].reason
    used.carry_out(plan)
    assert files() == set(ids[:3])
    assert folder.is_dir()
    assert used.plan().moves == ()


def test_a_plan_for_a_cube_that_has_changed_is_refused(ids: list[str]) -> None:
    used_twice_over()
    plan = used.plan()
    api.edit("a.cube", ids[3], marks=api.Marks(priority=2))
    before = os.readlink("a.cube/current")
    with pytest.raises(CheckFailed, match="has changed since"):
        used.carry_out(plan)
    assert os.readlink("a.cube/current") == before
    assert api.unfinished_plan(["a.cube"]) is None


def test_a_plan_that_was_stopped_is_gone_on_with(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "GROUP", 1)
    used_twice_over()
    plan = used.plan()
    assert len(plan.moves) == 3
    stopping: Callable[[], bool] = iter([False, True]).__next__
    first = used.carry_out(plan, stop=stopping)
    assert [one.state for one in first.outcomes] == ["done"]
    left = api.unfinished_plan(["a.cube"])
    assert left is not None
    assert left.id == plan.id
    last = used.carry_out(left)
    assert [one.state for one in last.outcomes] == ["before", "done", "done"]
    assert files() == set(ids[:3])
    assert api.unfinished_plan(["a.cube"]) is None
    numbers = [one.version for one in last.outcomes]
    assert numbers == sorted(set(numbers))


@pytest.mark.long
@pytest.mark.parametrize(
    "point",
    [
        "moved",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("converted", "sealed", "committed", "write_half")),
    ],
)
def test_a_fault_in_the_middle_leaves_whole_moves(point: str, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "GROUP", 1)
    used_twice_over()
    plan = used.plan()
    api.keep_plan(plan)
    monkeypatch.setenv("MEMOS_FAULT", f"{point}:eio:2")
    from memos_cli.infrastructure import faults

    faults.reset()
    with pytest.raises((OSError, Exception)):  # noqa: B017, PT011  what an injected fault becomes is not the point
        used.carry_out(plan)
    monkeypatch.delenv("MEMOS_FAULT")
    assert len(files()) in (0, 1, 2)
    assert not [one for one in api.audit("a.cube", deep=True).findings if one.severity != "notice"]
    used.carry_out(plan)
    assert files() == set(ids[:3])
    reasons = [one.reason for one in api.log("a.cube") if one.reason.startswith("plan")]
    assert len(reasons) == 3


def test_a_kept_plan_has_no_words_in_it(ids: list[str], home: Path) -> None:
    used_twice_over()
    plan = used.plan()
    path = api.keep_plan(plan)
    assert plan.moves[0].items[0].text
    assert "badge" not in path.read_text()
    assert api.kept_plan(plan.id).id == plan.id
    path.write_text("{}")
    with pytest.raises(Exception, match="does not read as a plan"):
        api.kept_plan(plan.id)
    with pytest.raises(NotFound, match="12 hex digits"):
        api.kept_plan("../../keys")
    with pytest.raises(NotFound, match="no plan"):
        api.kept_plan("0" * 12)


@pytest.mark.long
def test_old_plans_go(ids: list[str], home: Path) -> None:
    used_twice_over()
    for number in range(carrying.MOST_PLANS + 3):
        api.keep_plan(used.plan(budget_bytes=10**6 + number))
    assert len(list((home / "work").glob("plan-*.json"))) == carrying.MOST_PLANS


@pytest.mark.long
def test_several_cubes_share_a_budget(ids: list[str], memos: Memos, work: Path) -> None:
    (work / "b.md").write_text("- The ferry to the island leaves at noon from the third pier of the harbour.\n")
    assert memos("ingest", "b.cube", "b.md", "--embedder", "none").code == 0
    used_twice_over()
    ask(40, "ferry to the island", cube="b.cube")
    plan = used.plan(["a.cube", "b.cube"])
    assert [(move.cube, move.kind) for move in plan.moves] == [("a.cube", "promote"), ("b.cube", "promote")]
    room = plan.moves[1].bytes
    small = used.plan(["a.cube", "b.cube"], budget_bytes=room)
    assert [move.cube for move in small.moves] == ["b.cube"]
    used.carry_out(plan)
    assert files("b.cube")
    with pytest.raises(Usage, match="each cube once"):
        used.plan(["a.cube", "./a.cube"])


def test_the_arithmetic_of_one_memory(ids: list[str]) -> None:
    used_twice_over()
    told = api.explain("a.cube", model=used.MODEL, memory=ids[0][:8])
    assert (told.id, told.form, told.uses, told.verdict) == (ids[0], "plaintext", 10, "promote")
    steps = {step.name: step.value for step in told.steps}
    assert steps["used"] == 10
    foretold = sum(value or 0.0 for name, value in steps.items() if name.startswith("to come, foretold "))
    assert steps["uses to come"] == pytest.approx(foretold, rel=0.05)
    assert told.score > 0
    never = api.explain("a.cube", model=used.MODEL, memory=ids[3])
    assert (never.uses, never.verdict) == (0, "leave")
    assert "never used" in never.why
    with pytest.raises(NotFound):
        api.explain("a.cube", "ffffffff", model=used.MODEL)
    assert [
        step.value
        for step in api.explain("a.cube", model=used.MODEL, memory=ids[3], policy="lru").steps
        if step.unit == "days ago"
    ] == [None]


@pytest.mark.long
def test_similarity_is_that_to_what_was_asked_about(ids: list[str], memos: Memos, work: Path) -> None:
    (work / "s.md").write_text(
        "- The cat sleeps on the sofa.\n\n- Kittens play with wool.\n\n- The tax return is due in May.\n"
    )
    assert memos("ingest", "s.cube", "s.md").code == 0
    for _ in range(3):
        api.query("s.cube", "where does the cat sleep?", k=1)
    one = {memory.text: memory.id for memory in api.memories("s.cube")}
    near = {
        text: {step.name: step.value for step in api.explain("s.cube", identity, policy="semantic").steps}
        for text, identity in one.items()
    }
    likeness = {text: steps["similarity to recent questions"] or 0.0 for text, steps in near.items()}
    assert likeness["The cat sleeps on the sofa."] == pytest.approx(1.0, abs=0.01)
    assert likeness["Kittens play with wool."] > likeness["The tax return is due in May."]


def test_who_sees_not_all_of_a_cube_gets_no_plan(ids: list[str], home: Path) -> None:
    api.edit("a.cube", ids[0], marks=api.Marks(read_scope="owner"))
    (home / "keys" / "identity.pub").unlink()  # somebody else, with a key of their own
    (home / "keys" / "identity.key").unlink()
    with pytest.raises(NotAllowed):
        used.plan()


@pytest.mark.many(2)
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"policy": "best"}, "expected a policy of cost, lru"), ({"budget_bytes": -1}, "0 bytes or more"),
        ({"budget_seconds": float("nan")}, "0 seconds or more"), ({"rent": -1.0}, "a rent is 0"),
    ],
)  # fmt: skip
def test_odd_wishes_are_refused(options: dict[str, object], match: str, ids: list[str]) -> None:
    with pytest.raises(Usage, match=match):
        used.plan(**options)  # type: ignore[arg-type]


@pytest.mark.long
def test_a_guess_loads_nothing_and_says_so(ids: list[str]) -> None:
    used_twice_over()
    plan = used.plan(estimate=True)
    assert plan.costs.kind == "estimated"
    assert "nothing was measured" in plan.notes[0]


def test_the_command_tells_a_newcomer_what_each_row_means(
    ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMOS_MODEL", used.MODEL)
    done = memos("schedule", "a.cube")
    assert done.code == 0
    assert done.out == ""
    assert "nobody has asked a.cube anything yet: memos query a.cube" in done.err
    used_twice_over()
    done = memos("schedule", "a.cube")
    assert len(done.lines) == 3
    assert all("used 10 times" in line and "1 promote" in line for line in done.lines)
    assert "--apply --plan" in done.err
    (plan,) = {word for word in done.err.split() if len(word) == 12 and word.isalnum() and not word.isalpha()}
    assert memos("schedule", "a.cube", "-q").lines == [line.split("\t")[1] for line in done.lines]
    done = memos("schedule", "a.cube", "--apply", "--plan", plan, "--json")
    assert done.json["applied"] is True
    assert done.json["outcomes"][0]["state"] == "done"
    assert memos("schedule", "a.cube", "--apply").code == 0
    assert memos("schedule", "a.cube", "--apply", "--plan", plan).code == 3
    told = memos("schedule", "a.cube", "--explain", ids[0])
    assert "less the rent of its place" in told.out
    assert "held already" in told.out


@pytest.mark.many(4)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--budget-bytes", "-3"], 2), (["--budget-bytes", "many"], 2), (["--budget-bytes", "1e400"], 2),
        (["--budget-bytes", "1.5G"], 0), (["--budget-seconds", "nan"], 2), (["--policy", "\x1b[31m"], 2),
        (["--plan", "0" * 12], 2), (["--apply", "--plan", "../x"], 3), (["--explain", "zz"], 2),
        (["--explain", "ffff", "--apply"], 2), (["--model", "./nowhere"], 3),
    ],
)  # fmt: skip
def test_odd_calls_end_with_a_code(arguments: list[str], code: int, ids: list[str], memos: Memos) -> None:
    done = memos("schedule", "a.cube", *arguments)
    assert done.code == code, (done.out, done.err)
    assert "\x1b" not in done.err


def test_json_into_a_file_has_no_words_that_must_stay(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    api.edit("a.cube", ids[0], marks=api.Marks(sensitivity="restricted"))
    used_twice_over()
    plan = used.plan(to="file")
    texts = {item.id: item.text for item in plan.moves[0].items}
    assert texts[ids[0]] == ""
    assert texts[ids[1]]
    assert json.dumps(plan.stays)


@pytest.mark.long
def test_what_has_ended_is_marked(ids: list[str], memos: Memos) -> None:
    assert memos("ingest", "a.cube", "a.md", "--type", "fact").code == 0
    with frame.changing(frame.desk(None), "a.cube", "edit") as change:
        change.whole.change([ids[3]], expires_at=frame.now())
        change.whole.change([ids[2]], expires_at=frame.now(), legal_hold=True)
        change.commit({})
    plan = used.plan()
    assert moved(plan) == {"expire": (ids[3],)}
    assert "its time to live was over" in plan.moves[0].items[0].reason
    assert used.plan(to="file").moves[0].items[0].text == ""
    used.carry_out(plan)
    assert used.plan().moves == ()
    assert api.log("a.cube")[0].reason.startswith(f"plan {plan.id} move 1: mark")


@pytest.mark.long
def test_watching_carries_out_what_comes_up(ids: list[str]) -> None:
    stop, seen = threading.Event(), []

    def show(plan: Planned) -> None:
        seen.append(plan)
        if len(seen) == 1:
            ask(10, "alarm of the cold store")
        else:
            stop.set()

    ask(10, "badge of the north gate")
    assert api.watch(["a.cube"], model=used.MODEL, every_seconds=0.01, stop=stop, show=show, apply=True) == 2
    assert [plan.outcomes[0].ids for plan in seen] == [(ids[0],), (ids[2],)]
    with pytest.raises(Usage, match="above 0"):
        api.watch(["a.cube"], every_seconds=float("nan"), stop=stop, show=show)


def test_a_watch_that_has_to_wait_for_a_writer_looks_again(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stop, heard = threading.Event(), []

    def hear(text: str) -> None:
        heard.append(text)
        if "looking again" in text:
            stop.set()

    used_twice_over()
    with frame.changing(frame.desk(None), "a.cube", "edit"):
        api.watch(
            ["a.cube"],
            model=used.MODEL,
            every_seconds=0.01,
            stop=stop,
            show=heard.append,
            apply=True,
            lock_timeout=0.05,
            notify=hear,
        )  # type: ignore[arg-type]
    assert "looking again" in heard[-1]
    assert files() == set()


@pytest.mark.long
def test_a_watch_ends_with_a_sigterm(ids: list[str]) -> None:
    used_twice_over()
    words = [sys.executable, "-m", "memos_cli", "schedule", "a.cube", "--watch", "60", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        assert json.loads(watching.stdout.readline())["moves"]
        watching.send_signal(signal.SIGTERM)
        _, told = watching.communicate(timeout=60)
    assert watching.returncode == 0, told
    assert told.endswith("memos: stopped\n")


@pytest.mark.long
def test_policies_are_tried_on_memories_that_are_measured(
    ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "SIZES", (8, 24))
    monkeypatch.setattr(calibrate, "RUNS", 1)
    before = os.readlink("a.cube/current")
    words = ["schedule", "a.cube", "--replay", "zipf", "--model", "./parrot", "--requests", "60", "--budget-bytes"]
    done = memos(*words, "10G", "--json", "--policy", "lru", "--policy", "cost", "--plot", "plot.svg").json
    assert (done["memories"], done["requests"], done["trace"]) == (4, 60, "zipf")
    assert {one["policy"] for one in done["policies"]} == {"lru", "cost"}
    by_name = {one["policy"]: one for one in done["policies"]}
    assert by_name["lru"]["writes"] == 4
    assert by_name["lru"]["hit_rate"] == pytest.approx(56 / 60)
    assert all(one["seconds"] >= done["bound_seconds"] - 1e-9 for one in done["policies"])
    assert all(0 <= one["quality"] <= 1 for one in done["policies"])
    assert [one["seconds"] for one in done["policies"]] == sorted(one["seconds"] for one in done["policies"])
    drawn = Path("plot.svg").read_text()
    assert drawn.startswith("<svg")
    assert "clairvoyant" in drawn
    assert os.readlink("a.cube/current") == before
    ask(3, "badge of the north gate", "visitor code of the archive")
    told = memos(*words[:3], "log", *words[4:6], "-q")
    assert sorted(told.lines) == ["cost", "lfu", "lru"]
    assert memos(*words[:3], "noise", *words[4:6]).code == 2
    assert memos(*words, "1", "--policy", "best").code == 2
    assert memos("schedule", "a.cube", "--policy", "lru", "--policy", "lfu").code == 2


def test_a_log_of_nothing_cannot_be_replayed(ids: list[str]) -> None:
    with pytest.raises(NotFound, match="nothing to replay"):
        api.replay_trace("a.cube", "log", memories=1)


@pytest.mark.long
def test_a_file_that_falls_short_of_the_gate_stays_so_that_it_is_not_made_again(
    ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used_twice_over()
    used.convert(ids=ids[:1])
    monkeypatch.setattr(gate, "refusal", lambda kept, limits, **more: "0.10 of its tokens are the same")
    plan = used.plan(budget_bytes=0)
    assert plan.moves == ()
    assert any("falls short of the gate" in why for why in plan.stays)
    assert api.explain("a.cube", model=used.MODEL, memory=ids[0]).verdict == "keep"


@pytest.mark.long
def test_memory_for_another_model_takes_room_and_is_left_alone(ids: list[str]) -> None:
    used_twice_over()
    api.convert("a.cube", ids=ids[:1], model="nano")
    plan = used.plan()
    assert set(moved(plan)["promote"]) == set(ids[:3])
    assert plan.bytes_before > 0
    assert any("for other models" in note for note in plan.notes)
    assert used.plan(budget_bytes=plan.bytes_before).moves == ()


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_tells_a_newcomer_what_each_row_means(
    ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    from memos_cli import console

    monkeypatch.setenv("MEMOS_MODEL", used.MODEL)
    monkeypatch.setenv("COLUMNS", str(width))
    plain = console.Output.__init__

    def on_terminal(self: console.Output, **modes: bool) -> None:
        plain(self, **modes)
        self.terminal = True

    monkeypatch.setattr(console.Output, "__init__", on_terminal)
    used_twice_over()
    done = memos("schedule", "a.cube")
    lines = done.out.split("\n")
    assert lines[0] == "move 1: promote 3 memories of a.cube"
    assert max(map(len, lines)) <= min(width, 100)
    whole = " ".join(done.out.split())
    # what it is, what it takes and saves, and of each memory its words, why, and its share
    assert "Keep what the model makes of these texts (activation memory), so that it need not" in whole
    assert "of work, once, and" in whole
    assert "of reading in 30 days." in whole
    for one in api.memories("a.cube"):
        if one.id in ids[:3]:
            assert f"  {one.id[:8]}  {one.text[:40]}" in done.out
    assert whole.count("used 10 times; about") == 3
    assert whole.count(" bytes") == 4
    # what to type next
    told = done.err
    assert "memos schedule a.cube --apply --plan " in told
    (hint,) = (line.rpartition(": ")[2] for line in told.splitlines() if "--explain" in line)
    explained = memos(*hint.split()[1:]).out
    assert "by the policy cost: make activation memory of it. used 10 times" in explained
    # numbers stand below one another
    steps = explained.split("\n\n")[1].splitlines()
    assert len({line.rindex("  ") for line in steps}) == 1
    assert "promote:" not in told, "the move has said so"
    assert "1 memory was not looked at: never used so far" in told
    done = memos("schedule", "a.cube", "--apply")
    assert "done: version" in done.err
    done = memos("schedule", "a.cube", "--budget-bytes", "0")
    whole = " ".join(done.out.split())
    assert "move 1: demote 3 memories of a.cube" in whole
    assert "Takes no time to speak of, and gives back" in whole
    assert "costs about" in whole
    assert whole.count("the byte budget is used up by others that are worth more") == 3
    assert whole.count("would save") == 3
    # without a row it still says what comes next
    done = memos("schedule", "a.cube")
    assert done.out.strip() == ""
    assert "3 memories stay as they are: it is activation memory already" in done.err
    assert "memos schedule a.cube --watch" in done.err


def test_a_move_of_very_many_memories_is_cut_for_a_person(ids: list[str]) -> None:
    from dataclasses import replace

    from memos_cli.commands.moves import MOST_SHOWN, pages

    used_twice_over()
    plan = used.plan()
    (move,) = plan.moves
    odd = replace(move.items[0], text="two\nlines\t" + "long " * 99, reason="x" * 200)
    plan = replace(plan, moves=(replace(move, items=(odd,) * (MOST_SHOWN + 1_000)),))
    lines = list(pages(plan, width=20))
    assert max(map(len, lines)) <= 40
    assert lines[-2].strip().startswith("and 1,000 more")
    assert not any("\n" in line or "\t" in line for line in lines)
