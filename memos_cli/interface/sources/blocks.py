"""A block of consecutive lines of plain text, told apart: bullets, key-value lines, definitions, facts or a paragraph.

Shared by all formats whose text has no markup left. Knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from memos_cli.cube.piece import Piece

BULLET = re.compile(r"(\s*)(?:[-*+•‣◦▪–]|\(?[0-9]{1,3}[.)]|\(?[a-zA-Z][.)])\s+(?=\S)")
PAIR = re.compile(r"\s*([^\W_][^:;.!?\n]{0,48}?)\s*:\s+(?=\S)")
DEFINITION = re.compile(r"\s*([^\W_][^:;.!?\n]{0,48}?)\s+(?:-|–|—|=>|->|=)\s+(?=\S)")
DATED = re.compile(r"\s*\[?(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4})\b")
# A line that begins like a sentence and ends like one stands alone; wrapped prose hardly has only such lines.
SENTENCE = re.compile(r"\s*[\"'“(]?[A-Z0-9].*[.!?][\"'”)]?\s*$")
KEY_WORDS = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block is: what every piece cut from it shares."""

    section: tuple[str, ...] = ()
    page: int | None = None
    first_line: int | None = None
    """The number of the block's first line; None where the format has no lines."""


def cut(lines: list[str], place: Place) -> Iterator[Piece]:
    """The pieces of one block of lines, none of them blank."""
    if BULLET.match(lines[0]) or sum(bool(BULLET.match(line)) for line in lines) > 1:
        yield from _cut_bullets(lines, place)
    elif stands_alone(lines):
        for index, line in enumerate(lines):
            yield piece(line, kind_of(line), place, index, index)
    else:
        yield piece("\n".join(line.strip() for line in lines), kind_of("\n".join(lines)), place, 0, len(lines) - 1)


def stands_alone(lines: list[str]) -> bool:
    """Whether every line of a block is a thing of its own: pairs, definitions, dated entries, or facts."""
    if len(lines) < 2:
        return False
    return any(all(map(test, lines)) for test in (is_pair, is_definition, DATED.match, SENTENCE.match))


def is_pair(line: str) -> bool:
    """Whether a line reads `key: value`, with a key of a few words."""
    match = PAIR.match(line)
    return match is not None and len(match[1].split()) <= KEY_WORDS and "://" not in line[: match.end() + 2]


def is_definition(line: str) -> bool:
    """Whether a line reads `term - meaning`."""
    match = DEFINITION.match(line)
    return match is not None and len(match[1].split()) <= KEY_WORDS


def kind_of(text: str) -> str:
    """'pair' for a single `key: value` line, else 'paragraph'."""
    return "pair" if "\n" not in text and is_pair(text) else "paragraph"


def piece(text: str, kind: str, place: Place, first: int, last: int, extra: tuple[str, ...] = ()) -> Piece:
    """A piece of the lines `first` to `last` of a block, counted from 0."""
    start = place.first_line
    return Piece(
        text=text.strip(),
        kind=kind,
        section=place.section + extra,
        page=place.page,
        line_start=None if start is None else start + first,
        line_end=None if start is None else start + last,
    )


def _cut_bullets(lines: list[str], place: Place) -> Iterator[Piece]:
    """A piece for each bullet, with the bullets it stands under and the line that introduces them in its section."""
    starts = [index for index, line in enumerate(lines) if BULLET.match(line)]
    lead: tuple[str, ...] = ()
    if starts[0] > 0:
        yield from cut(lines[: starts[0]], place)
        lead = leading(" ".join(line.strip() for line in lines[: starts[0]]))
    above: list[tuple[int, str]] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        match = BULLET.match(lines[start])
        if match is None:
            continue
        depth = len(match[1].expandtabs(4))
        above = [(level, text) for level, text in above if level < depth]
        text = "\n".join([lines[start][match.end() :].strip(), *(line.strip() for line in lines[start + 1 : end])])
        yield piece(text, "bullet", place, start, end - 1, lead + tuple(text for _, text in above))
        above.append((depth, heading_of(text)))


def leading(text: str) -> tuple[str, ...]:
    """The line that introduces a list ('The steps are:') as a section, () when the text introduces nothing."""
    return (heading_of(text),) if text.rstrip().endswith(":") and len(text.split()) <= 30 else ()


def heading_of(text: str) -> str:
    """A text as the heading of what stands under it: its first line, without the colon, at most 120 characters."""
    line = text.strip().split("\n", 1)[0].rstrip(": ")
    return line if len(line) <= 120 else line[:119].rstrip() + "…"
