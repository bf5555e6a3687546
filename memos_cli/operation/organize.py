"""Tidying memory: pieces cut so that none is longer than an embedder's window.

Knows no embedder: what fits is asked of a function, for which a shorter text fits whenever a longer one does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_cli.cube.piece import Piece

Fits = Callable[[str], bool]
Span = tuple[int, int]

SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n\s*\n|\n(?=\s*(?:[-*+•]|[0-9]{1,3}[.)])\s)")
CELL = re.compile(r"; |\n")
WORD = re.compile(r"\s+")
BLANK_LINE = re.compile(r"\n[ \t]*\n")
LINE = re.compile(r"\n")
BLANK_START = re.compile(r"\A(?:[^\S\n]*\n)+")

PROSE_LEVELS = (SENTENCE, WORD)
CODE_LEVELS = (BLANK_LINE, LINE, WORD)
CELL_LEVELS = (CELL, SENTENCE, WORD)
LEVELS = {"code": CODE_LEVELS, "function": CODE_LEVELS, "class": CODE_LEVELS, "row": CELL_LEVELS, "record": CELL_LEVELS}


def chunk(piece: Piece, *, fits: Fits) -> Iterator[Piece]:
    """The piece itself when it fits, else parts of it that do, in order, with every word in one of them.

    Parts end where the text allows it best: prose at sentences, code at blank lines, then lines, rows at cells; then at
    words, and at characters when a single word is too long. A part's lines are exact where the text keeps the
    line breaks of its source, else those of the whole piece. A date found in the words stays with the words.
    """
    if fits(piece.text):
        yield piece
        return
    for start, end in _cut(piece.text, 0, len(piece.text), LEVELS.get(piece.kind, PROSE_LEVELS), fits):
        if not piece.text[start:end].isspace():
            yield _part(piece, start, end)


def _cut(text: str, start: int, end: int, levels: Sequence[re.Pattern[str]], fits: Fits) -> Iterator[Span]:
    """Spans that fit, as long as can be, ending at the boundaries of the first level that has any that fit."""
    ends: Sequence[int] = range(start + 1, end + 1)
    if levels:
        ends = [match.end() for match in levels[0].finditer(text, start, end) if match.end() > start]
        ends = ends if ends and ends[-1] == end else [*ends, end]
    at = 0
    reach = 1
    while at < len(ends):
        last = _furthest(text, start, ends, at, reach, fits)
        if last is not None or not levels:
            # A single character that does not fit is kept as it is: there is nothing left to cut.
            last = at if last is None else last
            yield start, ends[last]
        else:
            last = at
            yield from _cut(text, start, ends[at], levels[1:], fits)
        start = ends[last]
        reach = last - at + 1
        at = last + 1


def _furthest(text: str, start: int, ends: Sequence[int], at: int, reach: int, fits: Fits) -> int | None:
    """The last of the ends from `at` on up to which the text fits, None when not even the first does.

    The search gallops from `reach` ends on, which the span before took: text is even, so few calls are needed.
    """

    def holds(index: int) -> bool:
        return fits(text[start : ends[index]].strip())

    good, bad = at - 1, len(ends)
    probe, step = min(at + reach, bad) - 1, 1
    while good + 1 < bad:
        good, bad = (probe, bad) if holds(probe) else (good, probe)
        if good < at:
            probe = max(bad - step, at)
        elif bad == len(ends):
            probe = min(good + step, bad - 1)
        else:
            probe = (good + bad) // 2
        step *= 2
    return good if good >= at else None


def _part(piece: Piece, start: int, end: int) -> Piece:
    """The piece of a span of the text, without the white space around it."""
    raw = piece.text[start:end]
    # The first line of code keeps its indentation.
    text = BLANK_START.sub("", raw).rstrip() if LEVELS.get(piece.kind) is CODE_LEVELS else raw.strip()
    start += raw.index(text)
    first, last = _lines(piece, start, start + len(text))
    part = replace(piece, text=text, line_start=first, line_end=last)
    if piece.time_note and piece.time_note.partition(" = ")[0] not in text:
        part = replace(part, event_time=None, time_note="")
    return part


def _lines(piece: Piece, start: int, end: int) -> tuple[int | None, int | None]:
    first, last = piece.line_start, piece.line_end
    if first is None or last is None or last - first != piece.text.count("\n"):
        return first, last
    first += piece.text.count("\n", 0, start)
    return first, first + piece.text.count("\n", start, end)
