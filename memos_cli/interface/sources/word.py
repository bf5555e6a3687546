"""Word documents by their styles: headings make the path, list paragraphs and table rows stand alone.

A docx has no pages before it is laid out, and no lines: its pieces have neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.archive import open_checked
from memos_cli.interface.sources.blocks import kind_of, leading
from memos_cli.interface.sources.opened import Opened
from memos_cli.interface.sources.prose import Headings
from memos_cli.interface.sources.tables import is_header, row_text

HEADING = re.compile(r"(?:Heading|Überschrift|Titre|Título|Titolo) ?([1-9])", re.IGNORECASE)


def read(opened: Opened) -> Iterator[Piece]:
    """The body in its order. Raises Damaged for a broken or unsafe file, MissingExtra without python-docx."""
    document = open_checked(opened, "docx", "Document")
    headings = Headings()
    lead: tuple[str, ...] = ()
    for item in document.iter_inner_content():
        if hasattr(item, "rows"):
            headings.has_body = True
            yield from _table(item, headings.path)
            continue
        text = item.text.strip()
        if not text:
            continue
        level = _level(item)
        if level is not None:
            lead = ()
            yield from headings.enter(level, text.replace("\n", " "), line=None)
            continue
        headings.has_body = True
        if _is_item(item):
            yield Piece(text, "bullet", headings.path + lead)
        else:
            yield Piece(text, kind_of(text), headings.path)
            lead = leading(text)
    yield from headings.close()


def _level(paragraph: Any) -> int | None:
    """1 to 9 for a heading, 0 for the title, None for any other paragraph."""
    name = _style(paragraph)
    if name == "Title":
        return 0
    match = HEADING.match(name)
    return int(match[1]) if match else None


def _is_item(paragraph: Any) -> bool:
    properties = paragraph._p.pPr
    return _style(paragraph).startswith("List") or (properties is not None and properties.numPr is not None)


def _style(paragraph: Any) -> str:
    style = paragraph.style
    return str(style.name or "") if style is not None else ""


def _table(table: Any, section: tuple[str, ...]) -> Iterator[Piece]:
    names: list[str] = []
    for number, row in enumerate(table.rows):
        cells = [cell.text.strip().replace("\n", " ") for cell in row.cells]
        if number == 0 and len(table.rows) > 1 and is_header(cells, []):
            names = cells
        elif text := row_text(names, cells):
            yield Piece(text, "row", section)
