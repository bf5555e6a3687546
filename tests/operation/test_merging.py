"""Which memories become one, and which stays."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from memos_cli.errors import NotAllowed
from memos_cli.operation import merging
from memos_cli.operation.merging import ELSEWHERE, FROZEN, HELD, merges

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def row(identity: str, text: str, **more: Any) -> dict[str, Any]:
    plain = {
        "id": identity, "text": text, "kind": "bullet", "section": "Notes", "source": "a.md", "position": 0,
        "state": "activated", "valid_to": None, "legal_hold": False, "origin": "user_input", "priority": 0, "type": "",
        "topic": "", "tags": [], "created_at": NOW, "words": len(text.split()), "extra": "", "owner": "",
        "sensitivity": "", "read_scope": "", "write_scope": "", "share_scope": "", "expires_at": None, "decay_days": 0,
        "compliance": [], "true_from": None,
    }  # fmt: skip
    return {**plain, **more}


def together(*rows: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    return [(one.id, {each.id: each.how for each in one.absorbed}) for one in merges(rows).merges]


def test_the_same_words_of_one_place_become_one() -> None:
    rows = [row(name, "The passport is in the drawer.") for name in "abc"]
    assert together(*rows) == [("a", {"b": "exact", "c": "exact"})]


def test_one_fact_in_two_shapes_becomes_one() -> None:
    assert together(row("a", "Ana lives in Lindau."), row("b", "The home town of Ana is Lindau.")) == [
        ("b", {"a": "fact"})
    ]


def test_the_same_of_the_same_is_the_same() -> None:
    """Copies of both wordings are all put behind the one that stays."""
    rows = [row(name, "Ana lives in Lindau.") for name in "ab"]
    rows += [row(name, "The home town of Ana is Lindau.") for name in "cd"]
    assert together(*rows) == [("c", {"a": "fact", "b": "fact", "d": "exact"})]


@pytest.mark.parametrize("text", ["Owner is Ana.", "The password is hunter2.", "Run the tests first.", "Done."])
def test_what_a_heading_gives_its_meaning_stays_two(text: str) -> None:
    one, other = row("a", text, section="Billing"), row("b", text, section="Search")
    found = merges([one, other])
    assert (found.merges, [each.why for each in found.left]) == ((), [ELSEWHERE])


def test_what_names_its_subject_becomes_one_wherever_it_stands() -> None:
    one = row("a", "Ana lives in Lindau.", section="People")
    other = row("b", "The home town of Ana is Lindau.", section="Travel", source="b.md")
    assert len(together(one, other)) == 1


def test_files_that_are_copies_of_one_another_become_one() -> None:
    texts = ["Run the tests first.", "Then make a tag.", "Push it to the store.", "Tell the others."]
    rows = [row(f"{source}{at}", text, source=source) for source in ("a", "b") for at, text in enumerate(texts)]
    assert len(together(*rows)) == 4
    assert together(*rows[:2], *rows[4:]) == []


@pytest.mark.parametrize(
    "differing",
    [
        {"owner": "ana"}, {"sensitivity": "restricted"}, {"read_scope": "owner"}, {"share_scope": "anyone"},
        {"write_scope": "anyone"}, {"expires_at": NOW}, {"decay_days": 3}, {"compliance": ["gdpr"]},
        {"kind": "turn"}, {"kind": "code"}, {"kind": "function"}, {"kind": "class"}, {"valid_to": NOW},
        {"extra": '{"part":{"at":0,"of":2}}'},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_kept_apart_stays_two(differing: dict[str, Any]) -> None:
    found = merges([row("a", "Ana lives in Lindau."), row("b", "Ana lives in Lindau.", **differing)])
    assert found == merging.Merges()


@pytest.mark.parametrize(("fast", "why"), [({"state": "frozen"}, FROZEN), ({"legal_hold": True}, HELD)])
def test_what_is_frozen_or_held_is_left_alone(fast: dict[str, Any], why: str) -> None:
    rows = [row("a", "Ana lives in Lindau.", **fast), *(row(name, "Ana lives in Lindau.") for name in "bc")]
    found = merges(rows)
    assert together(*rows) == [("b", {"c": "exact"})]
    assert [each.why for each in found.left] == [why]
    with pytest.raises(NotAllowed):
        merging.columns(rows[0], rows[1:], now=NOW)
    with pytest.raises(NotAllowed):
        merging.columns(rows[1], rows[:1], now=NOW)


def test_two_rows_of_a_table_are_two() -> None:
    one, other = (row(name, "day: Monday; guest: Ana", kind="row") for name in "ab")
    assert together(one, other) == []


def test_what_the_user_said_and_what_matters_more_stays() -> None:
    same = "Ana lives in Lindau."
    guessed, said = row("a", same, origin="inference_extraction"), row("b", same)
    assert together(guessed, said) == [("b", {"a": "exact"})]
    assert together(row("a", same), row("b", same, priority=2)) == [("b", {"a": "exact"})]
    late = row("a", same, created_at=datetime(2026, 4, 1, tzinfo=UTC))
    assert together(late, said) == [("b", {"a": "exact"})]


def test_what_stays_takes_on_the_marks_of_both() -> None:
    stays = row("a", "x", tags=["home"], priority=1)
    gone = row("b", "x", tags=["trip", "home"], priority=3, type="fact", topic="people/ana")
    mine, theirs = merging.columns(stays, [gone], now=NOW)
    assert mine == {
        "state": "merged", "tags": ["home", "trip"], "priority": 3, "type": "fact", "topic": "people/ana",
        "updated_at": NOW,
    }  # fmt: skip
    assert theirs["b"] == {
        "state": "archived", "valid_to": NOW, "updated_at": NOW, "superseded_by": "a", "superseded_as": "duplicate",
    }  # fmt: skip


@pytest.mark.long
def test_many_of_the_same_words_take_no_long_time() -> None:
    (one,) = merges(row(f"{at:05}", "The passport is in the drawer.") for at in range(5000)).merges
    assert len(one.absorbed) == 4999
