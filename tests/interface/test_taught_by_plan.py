"""Adapters that a plan has taught, and taught again, from beginning to end: with the default model, which learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from memos_cli.cube import parameter
from memos_cli.interface import api
from tests.conftest import Memos
from tests.interface import used

CUBE, QUESTION = "people.cube", "What is the home town of Ben Oster?"
ASKED = ("schedule", CUBE, "--distill", "--policy", "lfu", "--budget-bytes", "0", "--json")


@pytest.fixture(autouse=True)
def _cube(work: Path, memos: Memos, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory that is asked for often, and costs by which it pays to teach it: as if that took a second."""
    used.worth_teaching(memos, home, monkeypatch, CUBE, QUESTION)


def answered(memos: Memos) -> str:
    done = memos("query", CUBE, QUESTION, "--answer", "--form", "parameter", "--json")
    assert done.code == 0, done.err
    return str(done.json["answer"])


def test_the_plan_names_what_it_would_teach(memos: Memos) -> None:
    (move,) = memos(*ASKED).json["moves"]
    assert (move["kind"], len(move["items"])) == ("distill", 1)
    assert move["saved_seconds"] > move["seconds"] > 0


@pytest.mark.slow
def test_a_plan_teaches_a_hot_group_and_teaches_it_again_when_it_has_changed(memos: Memos) -> None:
    done = memos(*ASKED, "--apply")
    assert done.code == 0, done.err
    assert [move["kind"] for move in done.json["moves"]] == ["distill"]
    assert [(one["state"], one["failing"]) for one in done.json["outcomes"]] == [("done", [])]
    (name,) = parameter.names(Path(CUBE, "current", parameter.FOLDER))
    assert name.startswith("hot-")
    assert answered(memos) == "Kinsale"

    (one,) = api.memories(CUBE)
    assert memos("edit", CUBE, one.id, "--text", "The home town of Ben Oster is Cork.").code == 0
    assert memos("query", CUBE, QUESTION, "--answer", "--form", "parameter").code == 9
    done = memos(*ASKED, "--apply")
    assert done.code == 0, done.err
    moves = [(move["kind"], [item["id"] for item in move["items"]]) for move in done.json["moves"]]
    assert moves == [("reteach", [name])]
    assert [(each["state"], each["failing"]) for each in done.json["outcomes"]] == [("done", [])]
    assert answered(memos) == "Cork"
    assert memos("audit", CUBE, "--deep").code == 0
    assert memos(*ASKED).json["moves"] == []
