"""The state machine, every pair of it."""

from __future__ import annotations

from itertools import product

import pytest

from memos_cli.cube.plaintext import RECALLED, STATES
from memos_cli.errors import Usage
from memos_cli.operation.lifecycle import ended, move

# Rows: from. Columns: to, in the order of STATES (generated activated merged archived frozen expired forgotten).
MATRIX = {
    "generated": ". A . A . A A",
    "activated": ". . A A A A A",
    "merged":    ". A . A A A A",
    "archived":  ". A . . . . A",
    "frozen":    ". A . A . . A",
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


@pytest.mark.parametrize(("state", "to"), [("lost", "activated"), ("activated", "lost"), ("", ""), ("Frozen", "lost")])
def test_a_state_that_does_not_exist(state: str, to: str) -> None:
    with pytest.raises(Usage, match="one of generated, activated, merged"):
        move(state, to)


def test_from_every_state_but_one_a_memory_can_be_forgotten() -> None:
    assert {state for state in STATES if (state, "forgotten") in LEGAL} == set(STATES) - {"forgotten"}


def test_what_a_model_wrote_is_recalled_by_acceptance_only() -> None:
    assert [to for to in RECALLED if ("generated", to) in LEGAL] == ["activated"]


@pytest.mark.parametrize("state", STATES)
def test_what_was_hidden_stays_hidden_when_its_source_goes(state: str) -> None:
    assert ended(state) == ("forgotten" if state == "forgotten" else "archived")
