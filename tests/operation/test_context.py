"""Search windows: who stands in whose, and that streaming gives what the whole list would."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube.piece import Piece
from memos_cli.operation.context import LONG_WORDS, place


def turn(text: str, *, session: str = "s", speaker: str = "Ann") -> Piece:
    return Piece(text, kind="turn", session=session, speaker=speaker)


def test_a_turn_is_found_by_its_neighbours() -> None:
    placed = list(place([turn(letter) for letter in "abcde"]))
    assert placed[2].near == "Ann: b\nAnn: c\nAnn: d"
    assert placed[2].wide == "Ann: a\nAnn: b\nAnn: c\nAnn: d\nAnn: e"
    assert placed[0].near == "Ann: a\nAnn: b"


def test_a_window_never_crosses_a_session() -> None:
    placed = list(place([turn("a", session="1"), turn("b", session="2"), turn("c", session="2")]))
    assert placed[0].wide == "Ann: a"
    assert placed[1].near == "Ann: b\nAnn: c"


def test_a_long_neighbour_does_not_drown_a_turn() -> None:
    long = "word " * (LONG_WORDS + 1)
    placed = list(place([turn("a"), turn(long), turn("c")]))
    assert placed[0].near == "Ann: a"
    assert placed[1].near.startswith("Ann: a\nAnn: word")


def test_other_memories_are_found_by_their_heading() -> None:
    pieces = [
        Piece("Use tabs.", kind="bullet", section=("Style", "Code")),
        Piece("Use ink.", kind="bullet", section=("Style",)),
    ]
    placed = list(place(pieces))
    assert placed[0].near == placed[0].wide == "Style > Code\nUse tabs."


def test_paragraphs_run_on_within_a_section() -> None:
    pieces = [Piece(letter, section=("H",)) for letter in "abc"] + [Piece("d", section=("I",))]
    assert [item.wide for item in place(pieces)] == ["H\na\nb", "H\na\nb\nc", "H\nb\nc", "I\nd"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("st")), max_size=12))
def test_places_count_from_the_start(turns: list[tuple[str, str]]) -> None:
    pieces = [turn(text, session=session) for text, session in turns]
    placed = list(place(iter(pieces)))
    assert [item.position for item in placed] == list(range(len(pieces)))
    assert [item.piece for item in placed] == pieces
    for item in placed:
        assert f"Ann: {item.piece.text}" in item.near
        assert len(item.near.splitlines()) <= len(item.wide.splitlines()) <= 5


def test_a_window_never_crosses_a_guard() -> None:
    placed = list(place([turn(letter) for letter in "abc"], guards=["open", "shut", "open"]))
    assert [item.near for item in placed] == ["Ann: a", "Ann: b", "Ann: c"]
    assert placed[0].wide == "Ann: a\nAnn: c"
