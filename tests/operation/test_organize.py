"""Cutting pieces: nothing is lost, everything fits, and each part knows its lines."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube.piece import Piece
from memos_cli.operation.organize import chunk


def at_most(characters: int):
    return lambda text: len(text) <= characters


def squeeze(text: str) -> str:
    return "".join(text.split())


TEXTS = st.text(st.sampled_from("ab .!?\n;:-é漢。`\t"), max_size=300)
KINDS = st.sampled_from(["paragraph", "bullet", "turn", "row", "record", "code", "function"])


@settings(deadline=None)
@given(text=TEXTS, kind=KINDS, characters=st.integers(1, 60))
def test_no_word_is_lost_and_every_part_fits(text: str, kind: str, characters: int) -> None:
    parts = list(chunk(Piece(text, kind), fits=at_most(characters)))
    assert squeeze("".join(part.text for part in parts)) == squeeze(text)
    assert all(len(part.text) <= characters for part in parts)


@settings(deadline=None)
@given(text=TEXTS.filter(str.strip), kind=KINDS, characters=st.integers(1, 60))
def test_the_lines_of_a_part_hold_its_text(text: str, kind: str, characters: int) -> None:
    text = text.strip()
    lines = text.split("\n")
    for part in chunk(Piece(text, kind, line_start=10, line_end=9 + len(lines)), fits=at_most(characters)):
        assert part.line_start is not None
        assert part.line_end is not None
        named = lines[part.line_start - 10 : part.line_end - 9]
        assert part.text in "\n".join(named)
        assert len(named) == part.text.count("\n") + 1


def test_what_fits_is_the_piece_itself() -> None:
    piece = Piece("short", line_start=3, line_end=3)
    assert list(chunk(piece, fits=at_most(5))) == [piece]


def test_prose_is_cut_at_sentences_and_packed_full() -> None:
    piece = Piece("One two three. Four five six. Seven eight.\nNine ten.", line_start=5, line_end=6)
    parts = list(chunk(piece, fits=at_most(32)))
    assert [part.text for part in parts] == ["One two three. Four five six.", "Seven eight.\nNine ten."]
    assert [(part.line_start, part.line_end) for part in parts] == [(5, 5), (5, 6)]


def test_code_is_cut_at_blank_lines_and_keeps_its_indentation() -> None:
    text = "def f():\n    a = 1\n\n    b = 2\n    c = 3"
    parts = list(chunk(Piece(text, "function", line_start=1, line_end=5), fits=at_most(22)))
    assert [part.text for part in parts] == ["def f():\n    a = 1", "    b = 2\n    c = 3"]
    assert [(part.line_start, part.line_end) for part in parts] == [(1, 2), (4, 5)]


def test_a_row_is_cut_between_cells() -> None:
    parts = list(chunk(Piece("name: Ann Lee; town: Oslo; age: 31", "row"), fits=at_most(20)))
    assert [part.text for part in parts] == ["name: Ann Lee;", "town: Oslo; age: 31"]


def test_a_span_that_the_text_does_not_map_to_is_kept_whole() -> None:
    parts = list(chunk(Piece("One. Two.", line_start=4, line_end=9), fits=at_most(5)))
    assert {(part.line_start, part.line_end) for part in parts} == {(4, 9)}


def test_a_found_date_stays_with_its_words() -> None:
    day = datetime(2023, 5, 7, tzinfo=UTC)
    piece = Piece("I ran yesterday. It was fun.", "turn", event_time=day, time_note="yesterday = 2023-05-07")
    assert [part.event_time for part in chunk(piece, fits=at_most(17))] == [day, None]


@pytest.mark.parametrize("text", ["x" * 5000, "漢" * 5000, "word " * 1000, "\n" * 5000 + "x"])
def test_hopeless_texts_take_few_questions(text: str) -> None:
    asked = 0

    def fits(part: str) -> bool:
        nonlocal asked
        asked += 1
        return len(part) <= 50

    parts = list(chunk(Piece(text), fits=fits))
    assert asked < 8 * len(parts) + 50


def test_a_window_that_nothing_fits_ends() -> None:
    assert [part.text for part in chunk(Piece("ab c"), fits=lambda text: False)] == ["a", "b", "c"]
