"""schedule --self-test --redistil: an adapter that lost its answers is taught anew, and kept only where that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memos_cli.interface.self_teaching import HeldOut
from memos_cli.operation.self_test import Asked
from tests.conftest import Memos
from tests.operation.taught import tutor

CUBE, QUESTION = "people.cube", "What is the home town of Ben Oster?"


@pytest.fixture(autouse=True)
def _cube(work: Path, memos: Memos) -> None:
    Path("people.md").write_text("- The home town of Ben Oster is Kinsale.\n")
    assert memos("ingest", CUBE, "people.md", "--embedder", "none").code == 0


def of_adapter(told: dict[str, Any], what: str) -> dict[str, Any]:
    (found,) = [one for one in told[what] if one["form"] == "parameter"]
    return dict(found)


def test_only_better_answers_to_what_was_held_out_let_an_adapter_pass() -> None:
    asked = {"a": [Asked("a", QUESTION, "Kinsale", "template", "test")]}
    worse, better = HeldOut(asked, before=0.9), HeldOut(asked, before=-1.0)
    (why,) = worse(tutor())
    assert "no better" in why
    assert "where it was 0.90" in why
    assert better(tutor()) == []
    assert worse.after == better.after == pytest.approx(0.0, abs=0.05)
    # as good is no better
    assert HeldOut(asked, before=better.after or 0.0)(tutor())


@pytest.mark.slow
def test_an_adapter_that_was_taught_too_little_is_made_anew_and_taken_back(memos: Memos) -> None:
    poor = memos("distill", CUBE, "--steps", "1", "--publish-ungated")
    assert poor.code == 0, poor.err
    found = memos("schedule", CUBE, "--self-test", "--json").json
    short = of_adapter(found, "forms")
    assert short["failing"] == short["memories"] == 1
    assert "--redistil" in of_adapter(found, "repairs")["why"]
    assert memos("query", CUBE, QUESTION, "--answer", "--form", "parameter").code == 9

    done = memos("schedule", CUBE, "--self-test", "--apply", "--redistil", "--json")
    assert done.code == 0, done.err
    repair = of_adapter(done.json, "repairs")
    assert (repair["id"], repair["repair"], repair["kept"]) == ("facts", "re-distil", True), repair
    assert repair["after"] > 0.5 > 0.1 > repair["before"]
    assert of_adapter(done.json, "forms")["after"] == repair["after"]
    assert done.json["number"] == done.json["tested"] + 1
    answered = memos("query", CUBE, QUESTION, "--answer", "--form", "parameter", "--json")
    assert answered.json["answer"] == "Kinsale", answered.err
    assert memos("audit", CUBE, "--deep").code == 0
    # what is in the cube answers as the repair was told to
    again = memos("schedule", CUBE, "--self-test", "--json").json
    assert of_adapter(again, "forms")["before"] == pytest.approx(repair["after"], abs=0.01)

    assert memos("rollback", CUBE, str(done.json["tested"])).code == 0
    back = of_adapter(memos("schedule", CUBE, "--self-test", "--json").json, "forms")
    assert (back["failing"], back["before"]) == (short["failing"], short["before"])
