"""The tables of docs/reference/access.md at the terminal: what each command does for whom, and for which labels."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from memos_cli import cli
from memos_cli.cube.scopes import SENSITIVITIES
from memos_cli.infrastructure.governance import SHARE, VERBS
from tests.conftest import Memos
from tests.infrastructure.test_governance import table
from tests.interface.people import People, Person
from tests.interface.test_frame import CALLS, WITHOUT_A_CUBE
from tests.runtime.decoders import save_parrot

QUESTION = "what is the code of the boiler?"
# What needs a model that answers, besides the calls of test_frame: the verb, and how it ends for who may.
ANSWERS = {
    "query --answer --remember": (["--model", "parrot", "--remember"], "remember", 0),
    # nobody is there: it was let go that far
    "query --answer --runtime openai": (
        ["--runtime", "openai", "--base-url", "https://memos.invalid/v1", "--model", "m", "--yes"], "send", 7,
    ),
}  # fmt: skip
# A call for each destination that memory goes to in a command; `{cube}` and `{id}` are filled in.
GOING = {
    "here": ["list", "{cube}"],
    "cube": ["init", "copy-of-{cube}", "--from", "{cube}"],
    "package": ["pack", "{cube}", "-o", "{cube}.memcube"],
    "store": ["push", "{cube}", "./store"],
    "file": ["convert", "{cube}", "--ids", "{id}", "--to", "prompt", "-o", "{cube}.jsonl"],
    "adapter": ["distill", "{cube}", "--ids", "{id}", "--dry-run"],
    "endpoint": ["query", "{cube}", QUESTION, "--answer", *ANSWERS["query --answer --runtime openai"][0]],
}


@pytest.fixture
def stranger(home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> Person:
    return People(home, memos, monkeypatch)("stranger")


def made(work: Path, memos: Memos, name: str, *flags: str) -> str:
    """A cube of one memory; its id."""
    (work / "a.md").write_text("- The code of the boiler is 4711.\n")
    assert memos("ingest", name, "a.md", "--embedder", "none", *flags).code == 0
    return memos("list", name, "-q").lines[0]


def test_no_verb_command_or_destination_is_without_a_call() -> None:
    rows = table("Verbs")
    called = {verb for _, verb in CALLS.values()} | {verb for _, verb, _ in ANSWERS.values()}
    # an empty cube is nobody else's; what is taken in asks the package that it is made of; a catalogue asks `query` too
    assert called | {"init", "unpack", "pull", "catalogue"} == {row["verb"].strip("`") for row in rows} == set(VERBS)
    assert {call.split()[0] for call in (*CALLS, *ANSWERS)} | WITHOUT_A_CUBE == set(cli.COMMANDS)
    assert set(GOING) == {row["destination"].strip("`") for row in table("Labels and destinations")}
    shares = {row["verb"].strip("`") for row in rows if row["kind"] == SHARE}
    # every verb that shares goes to a destination that is called below
    assert shares == {"fork", "send", "export", "pack", "push"}


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=[pytest.mark.slow] * ("--remember" in one)) for one in ANSWERS]
)
def test_scopes_hold_for_answers(
    command: str, home: Path, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, verb, ends = ANSWERS[command]
    save_parrot(work / "parrot", "4711")
    made(work, memos, "team.cube")
    people = People(home, memos, monkeypatch)
    friend, stranger, foe = people("friend"), people("stranger"), people("foe")
    scope = f"{friend.key} {foe.key} !{foe.key}"
    kind = {"remember": "write", "send": "share"}[verb]
    assert memos("edit", "team.cube", "--read-scope", "anyone", f"--{kind}-scope", scope).code == 0
    words = ["query", "team.cube", QUESTION, "--answer", *flags]
    for who in (stranger, foe):
        done = who.run(*words)
        assert (done.code, f"{kind}_scope" in done.err) == (5, True), (who.name, done.err)
    assert friend.run(*words).code == ends


# those of which the most is at stake are in the fast suite
@pytest.mark.many(1)
@pytest.mark.parametrize(
    "to", [pytest.param(to, marks=[pytest.mark.slow] * (to not in ("store", "endpoint"))) for to in GOING]
)
def test_labels_hold_at_the_terminal(to: str, work: Path, memos: Memos) -> None:
    """Each label to each destination, of a cube of that label and of a memory that has it for itself."""
    (row,) = (row for row in table("Labels and destinations") if row["destination"] == f"`{to}`")
    ends = 7 if to == "endpoint" else 0
    for level, own in product(SENSITIVITIES, (False, True)):
        name = f"{level}{'-own' * own}.cube"
        identity = made(work, memos, name, *([] if own else ["--sensitivity", level]))
        if own:
            lower = ["--declassify", "--reason", "ours"] if level == "public" else []
            done = memos("edit", name, identity, "--sensitivity", level, *lower)
            assert done.code == 0, done.err
        done = memos(*(word.format(cube=name, id=identity) for word in GOING[to]))
        assert done.code == (ends if row[f"`{level}`"] == "yes" else 5), (to, level, own, done.err, done.out)
        assert done.code != 5 or "4711" not in done.out + done.err


def test_a_stranger_who_may_read_takes_nothing_elsewhere(work: Path, memos: Memos, stranger: Person) -> None:
    identity = made(work, memos, "team.cube")
    for to, words in GOING.items():
        done = stranger.run(*(word.format(cube="team.cube", id=identity) for word in words))
        assert done.code == (0 if to == "here" else 5), (to, done.err)
