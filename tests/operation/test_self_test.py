"""Questions that a cube asks itself, how its memories do, and which repair may help."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube.probes import Probe
from memos_cli.operation import holding, self_test
from memos_cli.operation.asked_as import MOST, near_of, with_wordings, wordings_of
from memos_cli.operation.recall import Scoped
from memos_cli.operation.self_test import (
    DEV,
    NONE,
    RE_CHUNK,
    TEST,
    TRAIN,
    WORDING,
    Asked,
    Standing,
    failing,
    joined,
    questions_for,
    repairs_for,
    standings,
    total,
)
from tests.cube.rows import make_table, turn
from tests.operation.memories import Told

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def fact(text: str, **more: Any) -> Told:
    return Told("m", text, **more)


def test_questions_are_of_the_memory_and_kept_apart() -> None:
    asked = questions_for(fact("The home town of Ana is Lindau."), [])
    assert {one.split for one in asked} == {TRAIN, DEV, TEST}
    assert self_test.testable(asked)
    wordings = [one.question for one in asked]
    assert len(set(wordings)) == len(wordings)
    assert all("Lindau" not in one.question for one in asked if one.answer == "Lindau")
    assert not self_test.testable(questions_for(fact("nothing to ask"), []))


def test_stored_questions_come_first_whatever_their_kind() -> None:
    stored = [Probe("m", "Wo wohnt sie?", "Lindau", "asked", split, NOW) for split in (DEV, TEST)]
    asked = questions_for(fact("The home town of Ana is Lindau."), stored)
    for split in (DEV, TEST):
        assert "Wo wohnt sie?" in [one.question for one in asked if one.split == split]


def test_a_sentence_that_could_be_any_under_its_heading_is_no_question() -> None:
    asked = questions_for(fact("Time it takes: under 4 minutes", kind="pair", section="Release process"), [])
    assert not [one.question for one in asked if one.question.endswith("Release process >")]


@pytest.fixture
def table(tmp_path: Path) -> Scoped:
    texts = ["the boiler code is 4711", "bins go out on Tuesday", "the boiler is in the cellar"]
    rows = [turn(n, "", text, kind="paragraph", session="") for n, text in enumerate(texts)]
    holding.let_go()
    return Scoped("t", make_table(tmp_path, rows).table)


def asked(number: int, question: str, split: str = TEST) -> Asked:
    return Asked(f"{number:020x}", question, "x", "template", split)


def test_standings_count_what_is_among_the_first(table: Scoped) -> None:
    questions = [asked(0, "boiler code"), asked(0, "nothing of it"), asked(1, "bins"), asked(1, "bins", DEV)]
    found = standings(table, questions, split=TEST, embedder=None, k=1)
    assert found[f"{0:020x}"] == Standing(2, 1, 0.5, "nothing of it")
    assert found[f"{1:020x}"] == Standing(1, 1, 1.0)
    assert failing(found) == [f"{0:020x}"]
    assert total(found) == (3, 2, pytest.approx(2 / 3))
    assert joined(list(found.values())).asked == 3
    assert joined([]) == NONE


def test_repairs_that_may_help(table: Scoped) -> None:
    row = {"id": "m", "text": "x", "kind": "paragraph", "words": 10}
    assert repairs_for(row, [asked(0, "q")], embedder=None) == []
    assert repairs_for(row, [asked(0, "q", TRAIN)], embedder=None) == [WORDING]
    assert repairs_for({**row, "words": 80}, [], embedder=None) == [RE_CHUNK]
    assert repairs_for({**row, "words": 80, "kind": "turn"}, [], embedder=None) == []


def test_wordings_are_kept_with_what_a_source_says_of_a_memory() -> None:
    extra = with_wordings('{"a": 1}', ["one", "two", "one"])
    assert wordings_of(extra) == ("one", "two")
    assert '"a": 1' in extra
    assert near_of("near", extra) == "near\none\ntwo"
    assert near_of("near", "") == near_of("near", '{"a": 1}') == "near"
    assert len(wordings_of(with_wordings(extra, [str(n) for n in range(20)]))) == MOST
    for odd in ("[1]", '"asked_as"', '{"asked_as": 3}', '{"asked_as": [3]}', '{"asked_as"', "asked_as"):
        assert wordings_of(odd) == ()
    for odd in ("[1]", "{", "x"):
        with pytest.raises(ValueError):  # noqa: PT011  json's own, or ours
            with_wordings(odd, ["one"])
