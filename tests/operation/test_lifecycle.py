"""The state machine, every pair of it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from memos_cli.cube.plaintext import RECALLED, STATES
from memos_cli.errors import NotAllowed, Usage
from memos_cli.operation.lifecycle import ended, fades_at, move

# Rows: from. Columns: to, in the order of STATES (generated activated merged archived frozen expired forgotten).
MATRIX = {
    "generated": ". A . A . A A",
    "activated": ". . A A A A A",
    "merged":    ". A . A A A A",
    "archived":  ". A . . . A A",
    "frozen":    ". A . . . . .",
    "expired":   ". A . A . . A",
    "forgotten": ". . . . . . .",
}  # fmt: skip
LEGAL = {
    (state, to)
    for state, row in MATRIX.items()
    for to, mark in zip(STATES, row.split(), strict=True)
    if mark == "A"
}  # fmt: skip


def test_the_matrix_has_every_state_of_the_format() -> None:
    assert tuple(MATRIX) == STATES


@pytest.mark.parametrize(("state", "to"), list(product(STATES, STATES)))
def test_every_move(state: str, to: str) -> None:
    if (state, to) in LEGAL:
        assert move(state, to) == to
        return
    with pytest.raises(Usage) as caught:
        move(state, to)
    said = caught.value.message
    assert f"is {state} cannot become {to}" in said
    promised = said.partition("it can become ")[2]
    legal = [other for other in STATES if (state, other) in LEGAL]
    assert promised == (", ".join(legal) or "nothing else")


@pytest.mark.parametrize(("state", "to"), list(product(STATES, STATES)))
def test_every_move_under_legal_hold(state: str, to: str) -> None:
    # what is held may be accepted, frozen, thawed and taken back, and loses nothing
    if (state, to) in LEGAL and to in ("activated", "frozen"):
        assert move(state, to, held=True) == to
        return
    with pytest.raises(NotAllowed if (state, to) in LEGAL else Usage):
        move(state, to, held=True)


@pytest.mark.parametrize(("state", "to"), [("lost", "activated"), ("activated", "lost"), ("", ""), ("Frozen", "lost")])
def test_a_state_that_does_not_exist(state: str, to: str) -> None:
    with pytest.raises(Usage, match="one of generated, activated, merged"):
        move(state, to)


def test_from_every_state_but_two_a_memory_can_be_forgotten() -> None:
    assert {state for state in STATES if (state, "forgotten") in LEGAL} == set(STATES) - {"forgotten", "frozen"}


def test_what_is_frozen_is_thawed_before_anything_else() -> None:
    assert [to for to in STATES if ("frozen", to) in LEGAL] == ["activated"]


def test_what_a_model_wrote_is_recalled_by_acceptance_only() -> None:
    assert [to for to in RECALLED if ("generated", to) in LEGAL] == ["activated"]


@pytest.mark.parametrize("state", STATES)
def test_what_becomes_of_a_memory_when_its_source_goes(state: str) -> None:
    if state == "frozen":
        with pytest.raises(Usage):
            ended(state)
        return
    assert ended(state) == ("forgotten" if state == "forgotten" else "archived")


@pytest.mark.parametrize("priority", range(10))
def test_each_step_of_priority_doubles_how_long_a_memory_lives(priority: int) -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    for uses in (0, 3):
        plain, high = (fades_at(born, decay_days=2, uses=uses, priority=one) - born for one in (0, priority))
        assert high == plain * 2**priority


def test_no_priority_is_more_than_the_highest_or_less_than_none() -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    assert fades_at(born, decay_days=1, uses=0, priority=10**6) == fades_at(born, decay_days=1, uses=0, priority=9)
    assert fades_at(born, decay_days=1, uses=0, priority=-5) == fades_at(born, decay_days=1, uses=0)
    assert fades_at(born, decay_days=2**31 - 1, uses=0, priority=9).year == 9999
