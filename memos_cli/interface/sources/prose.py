"""Plain text by paragraph, in flat memory: blocks between blank lines, under the headings that plain text has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.blocks import Place, cut
from memos_cli.interface.sources.lines import Line
from memos_cli.interface.sources.opened import Opened

HASHES = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
UNDERLINE = re.compile(r"([=\-~^*])\1{2,}\s*$")
# A block without a blank line is cut here, so that a log of millions of lines is read in flat memory.
BLOCK_LINES = 200


def read(opened: Opened) -> Iterator[Piece]:
    """Paragraphs, bullets, pairs and facts, each with its lines and heading path."""
    return cut_lines(opened.lines())


def cut_lines(lines: Iterable[Line], *, page: int | None = None, section: tuple[str, ...] = ()) -> Iterator[Piece]:
    """The pieces of numbered lines; `section` is what they all stand under. A heading without a body is a piece."""
    headings = Headings(section)
    for block in _split(lines):
        heading, body = _take_heading(block)
        if heading:
            yield from headings.enter(*heading, line=block[0][0], page=page)
        if body:
            headings.has_body = True
            yield from cut([text for _, text in body], Place(headings.path, page, body[0][0]))
    yield from headings.close(page=page)


def _split(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Blocks of lines; a heading begins a block."""
    block: list[Line] = []
    for number, text in lines:
        if not text.strip() or len(block) >= BLOCK_LINES or HASHES.match(text):
            if block:
                yield block
            block = []
        if text.strip():
            block.append((number, text))
    if block:
        yield block


def _take_heading(block: list[Line]) -> tuple[tuple[int, str] | None, list[Line]]:
    """The heading that a block begins with, as (level, words), and the rest of it."""
    first = block[0][1]
    if match := HASHES.match(first):
        return (len(match[1]), match[2]), block[1:]
    if len(block) > 1 and UNDERLINE.match(block[1][1]) and len(first) <= 100:
        return (1 if block[1][1][0] == "=" else 2, first.strip()), block[2:]
    if len(block) == 1 and _is_title(first):
        return (2, first.strip()), []
    return None, block


def _is_title(line: str) -> bool:
    """Whether a line alone is a heading in capitals, such as 'OPENING HOURS'."""
    words = line.strip()
    return 3 < len(words) <= 80 and words.isupper() and len(words.split()) <= 10 and words[-1] not in ".!?:"


class Headings:
    """The path of headings at the place being read, and those that turned out to have no body."""

    def __init__(self, above: tuple[str, ...] = ()) -> None:
        self._above = above
        self._open: list[tuple[int, str]] = []
        self._line: int | None = None
        self.has_body = True

    @property
    def path(self) -> tuple[str, ...]:
        """From the outermost heading to the innermost."""
        return self._above + tuple(words for _, words in self._open)

    def enter(self, level: int, words: str, *, line: int | None, page: int | None = None) -> Iterator[Piece]:
        """Go under a heading. Yields the one before as a piece when nothing stood under it, not even a heading."""
        if not (self._open and level > self._open[-1][0]):
            yield from self.close(page=page)
        self._open = [(above, text) for above, text in self._open if above < level]
        self._open.append((level, words))
        self._line = line
        self.has_body = False

    def close(self, *, page: int | None = None) -> Iterator[Piece]:
        """The heading entered last as a piece, if it has no body."""
        if not self.has_body and self._open:
            words = self._open[-1][1]
            yield Piece(words, section=self.path[:-1], line_start=self._line, line_end=self._line, page=page)
        self.has_body = True
