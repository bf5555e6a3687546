"""Alignment of what is remembered with what a source says now."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.operation.reconcile import _by_key, align

KEYS = st.lists(st.sampled_from("abcdefgh"), max_size=14)


@settings(deadline=None)
@given(KEYS, KEYS)
def test_every_key_is_in_exactly_one_move(old: list[str], new: list[str]) -> None:
    moves = list(align(old, new))
    assert sorted(i for i, _, _ in moves if i is not None) == list(range(len(old)))
    assert sorted(j for _, j, _ in moves if j is not None) == list(range(len(new)))
    assert all(old[i] == new[j] for i, j, same in moves if same and i is not None and j is not None)


@settings(deadline=None)
@given(KEYS, KEYS)
def test_nothing_is_written_that_was_there(old: list[str], new: list[str]) -> None:
    """As many keys are kept as any matching by key could keep, wherever they moved to."""
    kept = sum(same for _, _, same in align(old, new))
    assert kept == sum(same for _, _, same in _by_key(old, new))


def test_an_edit_replaces_in_place() -> None:
    assert list(align(["a", "b", "c"], ["a", "x", "c"])) == [(0, 0, True), (1, 1, False), (2, 2, True)]


def test_an_appended_log_touches_only_its_end() -> None:
    old = [str(i) for i in range(50_000)]
    moves = list(align(old, [*old, "new"]))
    assert [move for move in moves if not move[2]] == [(None, 50_000, False)]


def test_a_large_rewrite_is_matched_by_key() -> None:
    old = [str(i) for i in range(3_000)]
    moves = list(align(old, old[::-1]))
    assert all(same for _, _, same in moves)
