"""Source code: functions, methods and classes are pieces of their own under their module; the rest by blank lines.

Python is read by its own parser; the languages of the `code` extra by tree-sitter; any other, or without the extra, by
blank-line blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import dedent

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources import prose
from memos_cli.interface.sources.languages import Definition
from memos_cli.interface.sources.limits import human
from memos_cli.interface.sources.opened import Opened

BLOCK_LINES = 60
WORD = re.compile(r"\w")


def read(opened: Opened) -> Iterator[Piece]:
    """The pieces of one program. One that its parser refuses, or that is too large for it, is cut at blank lines."""
    lines: list[str] = []
    size = 0
    numbered = opened.lines()
    for _, text in numbered:
        lines.append(text)
        size += len(text) + 1
        if size > opened.limits.tree_bytes:
            opened.notice(f"larger than {human(opened.limits.tree_bytes)}: read as plain text")
            yield from prose.cut_lines(enumerate(lines, start=1))
            yield from prose.cut_lines(numbered)
            return
    module = opened.stem
    definitions = find_definitions("\n".join(lines) + "\n", opened)
    yield from cut_program(lines, definitions, module=module)


def find_definitions(text: str, opened: Opened) -> list[Definition]:
    """What a program defines, outermost first; [] (and a notice) when its parser cannot read it or is not there."""
    language = opened.format.partition(":")[2]
    if language == "python":
        from memos_cli.interface.sources import python

        return python.find_definitions(text, opened)
    if language in ("", "plain"):
        return []
    from memos_cli.interface.sources import grammars

    return grammars.find_definitions(text, language, opened)


def cut_program(lines: list[str], definitions: list[Definition], *, module: str) -> Iterator[Piece]:
    """A piece for each definition, without the definitions inside a class, and blocks for the lines between."""
    found = [*_rest(lines, definitions, module), *_defined(lines, definitions, module)]
    yield from sorted(found, key=lambda piece: (piece.line_start or 0, -(piece.line_end or 0)))


def _defined(lines: list[str], definitions: list[Definition], module: str) -> Iterator[Piece]:
    owner = _owners(len(lines), definitions)
    for index, definition in enumerate(definitions):
        own = [number for number in range(definition.first - 1, definition.last) if owner[number] == index]
        text = dedent("\n".join(lines[number] for number in own)).rstrip()
        if text:
            section = (module, definition.name) if definition.name else (module,)
            yield Piece(text, definition.kind, section, definition.first, definition.last)


def _rest(lines: list[str], definitions: list[Definition], module: str) -> Iterator[Piece]:
    owner = _owners(len(lines), definitions)
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and owner[end] == owner[start]:
            end += 1
        if owner[start] is None:
            yield from _blocks(lines, start, end, section=(module,))
        start = end


def _owners(count: int, definitions: list[Definition]) -> list[int | None]:
    """For each line the index of the innermost definition that holds it."""
    owner: list[int | None] = [None] * count
    for index, definition in enumerate(definitions):
        for number in range(definition.first - 1, min(count, definition.last)):
            owner[number] = index
    return owner


def _blocks(lines: list[str], start: int, end: int, *, section: tuple[str, ...]) -> Iterator[Piece]:
    """Runs of lines between blank lines as code."""
    first = start
    for number in range(start, end + 1):
        is_break = number == end or not lines[number].strip() or number - first >= BLOCK_LINES
        # A brace alone, left over between definitions, is worth no memory.
        if is_break and any(map(WORD.search, lines[first:number])):
            yield Piece("\n".join(lines[first:number]), "code", section, first + 1, number)
        if is_break:
            first = number if number < end and lines[number].strip() else number + 1
