"""Which memories cannot both hold."""

from __future__ import annotations

import pytest

from memos_cli.operation.claims import claims_of
from memos_cli.operation.conflicts import NEGATION, TIME, UPDATE, VALUE, Statement, conflicts_among


def among(*texts: str, **place: str) -> list[tuple[str, str]]:
    """Kind and later side of each conflict among these texts, which are called by their places."""
    found = conflicts_among(Statement(str(at), text, **place) for at, text in enumerate(texts)).conflicts
    return [(one.kind, one.later) for one in found]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("Ana lives in Lindau.", "Ana lives in Bonn.", VALUE),
        ("Ana lives in Lindau.", "The home town of Ana is Bonn.", VALUE),
        ("The meeting is on Monday at 10:00.", "The meeting is on Monday at 11:00.", TIME),
        ("The train to Bonn leaves at 3 pm.", "The train to Bonn leaves at 16:00.", TIME),
        ("The door of the lab is locked at night.", "The door of the lab isn't locked at night.", NEGATION),
        ("The service supports batches.", "The service does not support batches.", NEGATION),
        ("The hall has 40 seats.", "The hall has 45 seats.", VALUE),
        ("name: Ana; town: Lindau", "name: Ana; town: Bonn", VALUE),
    ],
)
def test_one_relation_with_two_values_is_a_conflict(one: str, other: str, kind: str) -> None:
    assert among(one, other) == [(kind, "")]
    assert among(other, one) == [(kind, "")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ana lives in Lindau.", "Ana lives in Lindau, Germany."),
        ("Ana speaks French.", "Ana speaks Polish."),
        ("Ana used to live in Lindau.", "Ana lives in Bonn."),
        ("A friend of Ana is Bela.", "A friend of Ana is Carla."),
        ("The train leaves at 3 pm.", "The train leaves at 15:00."),
        ("The pool opens at 9:00 on Sundays.", "The pool opens at 10:00 on weekdays."),
        ("Ticket 4711 is due on Monday.", "Ticket 4712 is due on Tuesday."),
        ("In 2023 the revenue was 5 million.", "In 2024 the revenue was 7 million."),
        ("Ana does not live in Lindau.", "Ana lives in Bonn."),
        ("He lives in Lindau.", "He lives in Bonn."),
        ("The box weighs about 40 kg.", "The box weighs 41 kg."),
        ("Where does Ana live? In Lindau.", "Where does Ana live? In Bonn."),
        ("note: Lindau", "note: Bonn"),
        ("", ""),
    ],
)
def test_what_only_looks_like_one_is_none(one: str, other: str) -> None:
    assert among(one, other) == []
    assert among(other, one) == []


def test_the_later_side_is_told_by_the_words() -> None:
    assert among("As of March 2021, Ana lives in Lindau.", "Since 2024, Ana lives in Bonn.") == [(UPDATE, "1")]
    assert among("The contact at Acme is now Ana.", "The contact at Acme is Bela.") == [(UPDATE, "0")]
    assert among("Ana lives in Lindau.", "Ana no longer lives in Lindau.") == [(NEGATION, "1")]
    assert among("Ana lives in Lindau.", "Ana has moved from Lindau to Bonn.") == [(UPDATE, "1")]


def test_rows_of_one_table_are_of_two_things() -> None:
    rows = ("name: Ana; item: pear", "name: Ana; item: plum")
    assert among(*rows, kind="row", table="orders.csv") == []
    assert among(*rows, kind="row") == [(VALUE, "")]


def test_a_relation_that_most_have_several_values_of_has_several() -> None:
    told = [f"The badge of {name} is {badge}." for name in ("Ana", "Bela", "Carla") for badge in ("Gold", "Silver")]
    found = conflicts_among(Statement(str(at), text) for at, text in enumerate(told))
    assert (found.conflicts, found.several) == ((), ("badge",))


@pytest.mark.long
def test_a_crowd_about_one_thing_takes_no_square_of_it() -> None:
    found = conflicts_among(Statement(str(at), f"The code of the door is {at + 1000}.") for at in range(2000)).conflicts
    assert len(found) == 1999


@pytest.mark.parametrize(
    "text", ["\x00", "a " * 5000, "is is is", ": : :", "'s 's is 's", "12:99 ٣ ²", "🙂 is 🙂", "-1-1-1"]
)
def test_odd_texts_claim_without_an_error(text: str) -> None:
    claims_of(text, kind="row")
    assert conflicts_among([Statement("a", text), Statement("b", text)]).conflicts == ()
