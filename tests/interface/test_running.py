"""Pipelines on their way: order, conditions, what is done already, failures, and going on after an end at any point.

The steps are real commands, run in this process: `tests/commands/test_run.py` starts processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, Locked, MemosError, NotFound, Usage
from memos_cli.infrastructure import runs
from memos_cli.infrastructure.child import Ended
from memos_cli.interface import api
from memos_cli.interface.ran import Ran
from tests.conftest import runner

PIPELINE = """
[inputs]
cube = "team.cube"

[[step]]
name = "ingest"
run = "ingest ${inputs.cube} notes.md --embedder none"

[[step]]
name = "tag"
run = "tag ${inputs.cube} v${steps.ingest.result.number}"
when = "changed"

[[step]]
name = "pack"
run = "pack ${inputs.cube} -o team.memcube --yes"
"""


class Program:
    """Runs commands in this process, and counts them; `spoil` may end one otherwise."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.spoil: Callable[[int, Callable[[], Ended]], Ended] = lambda number, call: call()

    def __call__(self, words: list[str], *, folder: Path, home: Path, say: Callable[[str], None], **_: Any) -> Ended:
        self.calls.append(words)

        def call() -> Ended:
            before = os.getcwd()
            os.chdir(folder)
            done = runner()(*words)
            os.chdir(before)
            return Ended(done.code, done.out.encode(), tuple(done.err.splitlines()), 0.1)

        return self.spoil(len(self.calls), call)

    @property
    def verbs(self) -> list[str]:
        return [words[0] for words in self.calls]


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def go(home: Path, work: Path, program: Program) -> Callable[..., Ran]:
    (work / "notes.md").write_text("- The passport is in the drawer.\n")
    (work / "p.toml").write_text(PIPELINE)

    def run(**options: Any) -> Ran:
        program.calls.clear()
        return api.run("p.toml", start=program, **options)

    return run


def fates(ran: Ran) -> dict[str, str]:
    return {step.name: step.status for step in ran.steps}


def test_steps_run_in_their_order_and_use_what_others_told(go: Callable[..., Ran], program: Program) -> None:
    ran = go()
    assert fates(ran) == {"ingest": "ran", "tag": "ran", "pack": "ran"}
    assert program.calls[1] == ["tag", "team.cube", "v2", "--json"]
    ingest, tag, _ = ran.steps
    assert (ingest.changed, tag.changed, ingest.exit_code) == (True, False, 0)
    assert ingest.results[0]["added"] == 1  # type: ignore[index]
    assert (ran.failed, ran.exit_code, ran.run, ran.resumed) == ("", 0, 1, False)


def test_what_is_done_is_not_run_again_unless_what_it_is_given_changed(
    go: Callable[..., Ran], program: Program, work: Path
) -> None:
    go()
    ran = go()
    assert fates(ran) == {"ingest": "done", "tag": "done", "pack": "done"}
    assert (program.calls, ran.run) == ([], 2)
    (work / "notes.md").write_text("- The passport is in the drawer.\n- The key is under the mat.\n")
    assert fates(go()) == {"ingest": "ran", "tag": "ran", "pack": "ran"}
    (work / "team.memcube").unlink()
    assert fates(go()) == {"ingest": "done", "tag": "done", "pack": "ran"}
    assert fates(go(again=True)) == {"ingest": "ran", "tag": "skipped", "pack": "ran"}
    assert fates(go(inputs={"cube": "other.cube"})) == {"ingest": "ran", "tag": "ran", "pack": "ran"}


@pytest.mark.long
def test_what_looks_at_more_than_it_is_given_runs_each_time(go: Callable[..., Ran], work: Path) -> None:
    (work / "p.toml").write_text(PIPELINE.replace("pack ${inputs.cube} -o team.memcube --yes", "audit ${inputs.cube}"))
    go()
    assert fates(go()) == {"ingest": "done", "tag": "done", "pack": "ran"}
    (work / "p.toml").write_text(PIPELINE + "always = true\n")
    go()
    assert fates(go())["pack"] == "ran"


@pytest.mark.many(1)
@pytest.mark.parametrize("last", [1, 2, 3])
@pytest.mark.parametrize("ended", [False, True], ids=["before", "after"])
def test_a_run_that_was_killed_goes_on(
    go: Callable[..., Ran], program: Program, work: Path, last: int, ended: bool
) -> None:
    """Killed before a step or between its end and the note of it: what ended before is not run again."""

    def kill(number: int, call: Callable[[], Ended]) -> Ended:
        if number < last:
            return call()
        if ended:
            call()
        raise KeyboardInterrupt

    program.spoil = kill
    with pytest.raises(KeyboardInterrupt):
        go()
    program.spoil = lambda number, call: call()
    ran = go()
    assert (ran.resumed, ran.run, ran.exit_code) == (True, 1, 0)
    assert [step.status for step in ran.steps] == ["done"] * (last - 1) + ["ran"] * (4 - last)
    # although an ingest that had ended finds nothing new, what waits for news has it
    assert any(name.startswith("v") for name in os.listdir("team.cube/tags"))
    assert go().resumed is False


def test_a_step_that_fails_ends_the_run_and_the_next_goes_on_from_there(
    go: Callable[..., Ran], program: Program, work: Path
) -> None:
    program.spoil = lambda number, call: (
        call() if number != 2 else Ended(9, b"", ("memos: it fell short", "  try: x"), 1)
    )
    ran = go()
    assert fates(ran) == {"ingest": "ran", "tag": "failed", "pack": "waiting"}
    assert (ran.failed, ran.exit_code, ran.steps[1].why) == ("tag", 9, "it fell short")
    program.spoil = lambda number, call: call()
    assert fates(go()) == {"ingest": "done", "tag": "ran", "pack": "ran"}


def test_news_that_a_failed_step_made_is_not_lost(go: Callable[..., Ran], program: Program) -> None:
    def spoiled(number: int, call: Callable[[], Ended]) -> Ended:
        call()
        return Ended(10, b"", ("memos: left something out",), 1)

    program.spoil = spoiled
    assert go().exit_code == 10
    program.spoil = lambda number, call: call()
    ran = go()
    assert ran.steps[0].changed is True
    assert fates(ran)["tag"] == "ran"


def test_allowed_codes_are_no_failure_and_can_be_looked_at(
    go: Callable[..., Ran], program: Program, work: Path
) -> None:
    text = PIPELINE.replace('when = "changed"', 'allow = [9]\nwhen = "steps.ingest.code == 0"')
    (work / "p.toml").write_text(text + 'when = "steps.tag.code == 9"\n')
    program.spoil = lambda number, call: call() if number != 2 else Ended(9, b"", (), 1)
    ran = go()
    assert fates(ran) == {"ingest": "ran", "tag": "ran", "pack": "ran"}
    assert (ran.steps[1].why, ran.steps[1].exit_code) == ("exit code 9 is allowed", 9)


def test_a_step_that_was_passed_over_told_nothing(go: Callable[..., Ran], work: Path) -> None:
    text = PIPELINE.replace('when = "changed"', 'when = "steps.ingest.result.added > 5"')
    (work / "p.toml").write_text(text.replace("-o team.memcube", "-o ${steps.tag.result.number}.memcube"))
    ran = go()
    assert fates(ran) == {"ingest": "ran", "tag": "skipped", "pack": "skipped"}
    assert [step.why for step in ran.steps[1:]] == ["not so: steps.ingest.result.added > 5", "step tag told nothing"]


@pytest.mark.many(1)
@pytest.mark.parametrize("code", [7, 8])
def test_stores_and_locks_are_tried_again(go: Callable[..., Ran], program: Program, work: Path, code: int) -> None:
    (work / "p.toml").write_text(
        PIPELINE.replace('--embedder none"', '--embedder none"\nretries = 2\nwait_seconds = 0')
    )
    program.spoil = lambda number, call: call() if number > 2 else Ended(code, b"", (), 0)
    ran = go()
    assert (ran.steps[0].status, ran.steps[0].attempts) == ("ran", 3)
    program.spoil = lambda number, call: Ended(code, b"", (), 0)
    ran = go(again=True)
    assert (ran.exit_code, ran.steps[0].attempts) == (code, 3)
    program.spoil = lambda number, call: Ended(5, b"", (), 0)
    assert go(again=True).steps[0].attempts == 1


def test_a_dry_run_runs_nothing_and_tells_all(go: Callable[..., Ran], program: Program, work: Path, home: Path) -> None:
    ran = go(dry_run=True)
    assert program.calls == []
    assert not Path("team.cube").exists()
    assert not (home / "runs").exists()
    assert fates(ran) == {"ingest": "to run", "tag": "to run", "pack": "to run"}
    assert ran.steps[1].command == "memos tag team.cube 'v${steps.ingest.result.number}'"
    assert ran.steps[1].why == "when changed"
    go()
    assert set(fates(go(dry_run=True)).values()) == {"done"}
    (work / "notes.md").write_text("- Something else.\n")
    assert fates(go(dry_run=True))["ingest"] == "to run"


def test_variables_are_filled_in_and_kept_nowhere(
    go: Callable[..., Ran], program: Program, work: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-tokén")
    text = PIPELINE.replace("[inputs]", 'environment = ["TOKEN"]\n[inputs]').replace(
        "--embedder none", "--embedder none -m ${env.TOKEN}"
    )
    (work / "p.toml").write_text(text)
    said: list[str] = []

    def tells(number: int, call: Callable[[], Ended]) -> Ended:
        ended = call()
        out = {**json.loads(ended.out), "s3cr3t-tokén": ["by s3cr3t-tokén"]} if number == 1 else json.loads(ended.out)
        return Ended(ended.code, json.dumps(out).encode(), ("memos: s3cr3t-tokén",), 0)

    program.spoil = tells
    ran = go(notify=said.append)
    assert program.calls[0][-2] == "s3cr3t-tokén"
    assert "'${env.TOKEN}'" in ran.steps[0].command
    state = "".join(path.read_text() for path in (home / "runs").glob("*.json"))
    assert "s3cr3t" not in state + repr(ran) + "".join(said)
    assert "by (env.TOKEN)" in repr(ran)
    program.spoil = lambda number, call: Ended(1, b"", ("memos: s3cr3t-tokén is wrong",), 0)
    assert go(again=True).steps[0].why == "(env.TOKEN) is wrong"


def test_what_a_variable_holds_comes_back_by_no_other_way(
    go: Callable[..., Ran], program: Program, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory that says ${env.TOKEN} gets nothing, and what a step tells of a variable is not passed on."""
    monkeypatch.setenv("TOKEN", "s3cr3t")
    (work / "p.toml").write_text(PIPELINE.replace("[inputs]", 'environment = ["TOKEN"]\n[inputs]'))
    program.spoil = lambda number, call: Ended(0, json.dumps({"number": "${env.TOKEN}"}).encode(), (), 0)
    (work / "team.cube").mkdir()
    go(again=True)
    assert all("s3cr3t" not in word for words in program.calls for word in words)
    program.spoil = lambda number, call: Ended(0, json.dumps({"number": "is s3cr3t"}).encode(), (), 0)
    (work / "p.toml").write_text((work / "p.toml").read_text().replace('when = "changed"\n', ""))
    ran = go(again=True)
    assert (fates(ran)["tag"], ran.exit_code) == ("failed", 4)
    assert "which is not kept" in ran.steps[1].why


def test_what_a_step_told_makes_no_option(go: Callable[..., Ran], program: Program, work: Path) -> None:
    (work / "p.toml").write_text(PIPELINE.replace("v${steps.ingest", "${steps.ingest").replace('when = "changed"', ""))
    program.spoil = lambda number, call: Ended(0, b'{"number": "--delete"}', (), 0)
    ran = go()
    assert (fates(ran)["tag"], ran.exit_code, len(program.calls)) == ("failed", 4, 1)


def test_results_that_are_no_json_or_too_deep_are_passed_over(go: Callable[..., Ran], program: Program) -> None:
    program.spoil = lambda number, call: Ended(0, b"hello\n" + b"[" * 100_000 + b'\n{"number": [1, 2]}\n', (), 0)
    ran = go()
    assert ran.steps[0].lines == 1


def test_of_several_things_it_is_told_how_many(go: Callable[..., Ran], program: Program, work: Path) -> None:
    (work / "p.toml").write_text(PIPELINE.replace('when = "changed"', 'when = "steps.ingest.result.number == 2"'))
    program.spoil = lambda number, call: Ended(0, b'{"number": [1, {"a": 2}]}\n', (), 0)
    ran = go()
    assert fates(ran) == {"ingest": "ran", "tag": "ran", "pack": "ran"}
    assert program.calls[1][2] == "v2"


@pytest.mark.parametrize(
    ("inputs", "kind", "named"),
    [({"cbue": "x"}, Usage, "expected inputs cube"), ({"cube": "--yes"}, Damaged, "step ingest: expected no option")],
)
def test_wrong_inputs_end_it_before_it_begins(
    go: Callable[..., Ran], program: Program, inputs: dict[str, str], kind: type[MemosError], named: str
) -> None:
    with pytest.raises(kind, match=named):
        go(inputs=inputs)
    assert program.calls == []


def test_what_must_be_given_is_asked_for(go: Callable[..., Ran], work: Path) -> None:
    (work / "p.toml").write_text(PIPELINE.replace('cube = "team.cube"', 'cube = { about = "which" }'))
    with pytest.raises(Usage, match="a value of the input cube"):
        go()
    (work / "p.toml").write_text(PIPELINE.replace("[inputs]", 'environment = ["NOT_SET_AT_ALL"]\n[inputs]'))
    with pytest.raises(Usage, match="NOT_SET_AT_ALL in the environment"):
        go()
    with pytest.raises(NotFound, match="no pipeline"):
        api.run("nowhere.toml")
    with pytest.raises(Damaged, match="cannot be read"):
        api.run(work)


def test_one_run_at_a_time(go: Callable[..., Ran], program: Program) -> None:
    def inside(number: int, call: Callable[[], Ended]) -> Ended:
        with pytest.raises(Locked, match="already"):
            api.run("p.toml", start=program)
        return call()

    program.spoil = inside
    assert go().exit_code == 0


@pytest.mark.many(2)
@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format":1,"run":1,"going":true,"again":false,"ticks":1,"begun":{},'
             '"steps":{"ingest":{"run":1}}}', "[" * 50_000]
)  # fmt: skip
def test_a_damaged_note_of_a_run_is_told(go: Callable[..., Ran], home: Path, text: str) -> None:
    go()
    (place,) = (home / "runs").glob("*.json")
    place.write_text(text)
    with pytest.raises(Damaged, match="what a run has noted"):
        go()
    place.unlink()
    assert fates(go())["ingest"] == "ran"


def test_an_edited_pipeline_runs_what_was_edited(go: Callable[..., Ran], work: Path) -> None:
    go()
    (work / "p.toml").write_text(PIPELINE.replace("-o team.memcube", "-o new.memcube") + "# and a remark\n")
    assert fates(go()) == {"ingest": "done", "tag": "done", "pack": "ran"}


@pytest.mark.long
def test_a_run_that_begins_again_and_is_killed_goes_on_with_that(
    go: Callable[..., Ran], program: Program, home: Path
) -> None:
    go()
    program.spoil = lambda number, call: call() if number == 1 else Ended(7, b"", (), 0)
    assert fates(go(again=True)) == {"ingest": "ran", "tag": "skipped", "pack": "failed"}
    program.spoil = lambda number, call: call()
    ran = go()
    assert fates(ran) == {"ingest": "done", "tag": "skipped", "pack": "ran"}
    (place,) = (home / "runs").glob("*.json")
    assert runs.load(place).again is False


def test_a_folder_that_cannot_be_read_hides_no_change_beside_it(
    go: Callable[..., Ran], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memos_cli.infrastructure import given

    (work / "in" / "closed").mkdir(parents=True)
    scan = os.scandir
    monkeypatch.setattr(given.os, "scandir", lambda place: scan(place if "closed" not in str(place) else "/nowhere"))
    looks = []
    for text in ("- One thought.\n", "- Another thought.\n"):
        (work / "in" / "a.md").write_text(text)
        looks.append(given.look(["in"], folder=work, home=work, deep=True))
    assert looks[0] != looks[1]
    assert looks[1] == given.look(["in"], folder=work, home=work, deep=True)
