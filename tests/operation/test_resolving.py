"""Which side of a conflict stays, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from memos_cli.errors import Usage
from memos_cli.operation import resolving
from memos_cli.operation.resolving import ASK, NEWEST, TRUST, UNSURE, WALLED, Dispute
from tests.operation.test_merging import row

EARLY, LATE = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
LINDAU, BONN = "Ana lives in Lindau.", "Ana lives in Bonn."


def decided(*rows: dict[str, Any], policy: str = "", **more: Any) -> list[Dispute]:
    full = [{"time": None, **each} for each in rows]
    found = resolving.disputes(full).disputes
    return resolving.decide(found, {each["id"]: each for each in full}, policy=policy, **more)


def test_without_a_policy_both_stay() -> None:
    (one,) = decided(row("a", LINDAU), row("b", BONN))
    assert (one.ids, one.stays, one.goes, one.why) == (("a", "b"), "", "", "")


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"time": EARLY}, {"time": LATE}, "said later: 2025-01-01, not 2024-01-01"),
        ({"created_at": EARLY}, {"created_at": LATE}, "remembered later: 2025-01-01, not 2024-01-01"),
        ({"time": EARLY, "created_at": LATE}, {"time": LATE, "created_at": EARLY}, "said later"),
        ({}, {"text": "Ana has moved to Bonn."}, "the words of b"),
    ],
)
def test_the_newest_stays(first: dict[str, Any], second: dict[str, Any], why: str) -> None:
    one, other = {**row("a", LINDAU), **first}, {**row("b", BONN), **second}
    for rows in ((one, other), (other, one)):
        (told,) = decided(*rows, policy=NEWEST)
        assert (told.stays, told.goes) == ("b", "a")
        assert why in told.why


def test_nothing_is_guessed() -> None:
    for policy, why in ((NEWEST, "nothing tells"), (TRUST, "trusted alike")):
        (one,) = decided(row("a", LINDAU), row("b", BONN), policy=policy)
        assert (one.stays, why in one.why) == ("", True)


def test_the_more_trusted_stays() -> None:
    (one,) = decided(row("a", LINDAU, priority=5), row("b", BONN, priority=1), policy=TRUST)
    assert (one.stays, one.why) == ("a", "its priority is higher: 5, not 1")
    (one,) = decided(row("a", LINDAU, origin="inference_extraction"), row("b", BONN), policy=TRUST)
    assert (one.stays, one.why) == ("b", "the user said it, of the other a model wrote it")


def test_who_is_asked_decides_what_a_policy_may_not() -> None:
    one, other = row("a", "The code is 4711.", section="Wifi"), row("b", "The code is 4712.")
    (told,) = decided(one, other, policy=NEWEST)
    assert (told.open, told.stays, told.why) == (False, "", UNSURE)
    (told,) = decided(one, other, policy=ASK, chosen={frozenset("ab"): "b"})
    assert (told.stays, told.why) == ("b", "you chose it")
    (told,) = decided(one, other, policy=ASK, chosen={frozenset("ab"): ""})
    assert (told.stays, told.why) == ("", "you kept both")


@pytest.mark.parametrize("fast", [{"state": "frozen"}, {"legal_hold": True}], ids=str)
@pytest.mark.parametrize("policy", [NEWEST, TRUST, ASK])
def test_what_is_frozen_or_held_does_not_go(fast: dict[str, Any], policy: str) -> None:
    old, new = {"created_at": EARLY, "priority": 1}, {"created_at": LATE, "priority": 9}
    chosen = {frozenset("ab"): "b"}
    (one,) = decided(row("a", LINDAU, **old, **fast), row("b", BONN, **new), policy=policy, chosen=chosen)
    assert (one.stays, one.why[0], "does not go" in one.why) == ("", "a", True)
    (one,) = decided(row("a", LINDAU, **old), row("b", BONN, **new, **fast), policy=policy, chosen=chosen)
    assert (one.stays, one.goes) == ("b", "a")


@pytest.mark.parametrize("policy", [NEWEST, ASK])
def test_walls_are_not_crossed(policy: str) -> None:
    rows = (row("a", LINDAU, sensitivity="restricted"), row("b", BONN, created_at=LATE))
    (one,) = decided(*rows, policy=policy, chosen={frozenset("ab"): "b"})
    assert (one.stays, one.why) == ("", WALLED)


def test_of_three_the_last_is_heir_of_all() -> None:
    moments = [datetime(2020 + year, 1, 1, tzinfo=UTC) for year in range(3)]
    towns = ("Lindau", "Bonn", "Riga")
    rows = [
        row(name, f"Ana lives in {town}.", created_at=at) for name, town, at in zip("abc", towns, moments, strict=True)
    ]
    told = decided(*rows, policy=NEWEST)
    heirs = {one.goes: one.stays for one in told if one.stays}
    assert set(heirs) == {"a", "b"}
    assert {resolving._last(one, heirs) for one in heirs} == {"c"}


def test_what_says_more_is_not_taken_away_by_a_policy() -> None:
    for text in (
        "Ana lives in Lindau and works as a nurse.",
        "Ana lives in Lindau. The sun shines.",
        f"{LINDAU} Rent: 9.",
    ):
        rows = (row("a", text, created_at=EARLY), row("b", BONN, created_at=LATE))
        (one,) = decided(*rows, policy=NEWEST)
        assert (one.stays, "says more" in one.why) == ("", True), text
        (one,) = decided(*rows, policy=ASK, chosen={frozenset("ab"): "b"})
        assert one.goes == "a"


def test_what_is_denied_elsewhere_is_decided_where_it_has_a_name() -> None:
    one, other = row("a", "Bela owns the blue boat.", created_at=EARLY), row("b", "Bela no longer owns the blue boat.")
    there = {"section": "Boats", "source": "b.md"}
    (told,) = decided(one, {**other, **there}, row("c", "We met Bela."), policy=NEWEST)
    assert (told.conflict.kind, told.goes) == ("negation", "a")
    (told,) = decided(row("a", "The lamp is on."), {**row("b", "The lamp is not on."), **there}, policy=NEWEST)
    assert (told.stays, told.why) == ("", UNSURE)


def test_rows_of_two_tables_that_name_nobody_do_not_conflict() -> None:
    one = row("a", "key: port; meaning: 80", kind="row", section="Web")
    other = row("b", "key: port; meaning: 5432", kind="row", section="Database", source="b.md")
    assert decided(one, other) == []
    one, other = (
        row("a", "name: Ana; town: Lindau", kind="row"),
        row("b", "name: Ana; town: Bonn", kind="row", source="b.md"),
    )
    (told,) = decided(one, other)
    assert told.open


def test_a_policy_that_there_is_not_is_refused() -> None:
    with pytest.raises(Usage):
        decided(row("a", LINDAU), row("b", BONN), policy="loudest")
