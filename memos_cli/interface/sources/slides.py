"""Slides: each paragraph of a text box, table row and note under its slide's title, with the slide's number as page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.archive import naming_damage, open_checked
from memos_cli.interface.sources.blocks import heading_of, kind_of
from memos_cli.interface.sources.opened import Opened
from memos_cli.interface.sources.tables import is_header, row_text

DEPTH = 20


def read(opened: Opened) -> Iterator[Piece]:
    """The slides in order. Raises Damaged for a broken or unsafe file, MissingExtra without python-pptx."""
    deck = open_checked(opened, "pptx", "Presentation")
    with naming_damage("pptx"):
        slides = list(deck.slides)
    for number, slide in enumerate(slides, start=1):
        with naming_damage("pptx"):
            pieces = list(_slide(slide, number))
        yield from pieces


def _slide(slide: Any, number: int) -> Iterator[Piece]:
    title = slide.shapes.title
    words = title.text_frame.text.strip().replace("\n", " ") if title is not None and title.has_text_frame else ""
    section = (words,) if words else ()
    any_body = False
    for shape in slide.shapes:
        if title is not None and shape.shape_id == title.shape_id:
            continue
        for piece in _shape(shape, section, number, 0):
            any_body = True
            yield piece
    if words and not any_body:
        yield Piece(words, page=number)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        for text in filter(None, map(str.strip, slide.notes_slide.notes_text_frame.text.split("\n"))):
            yield Piece(text, "paragraph", (*section, "Notes"), page=number)


def _shape(shape: Any, section: tuple[str, ...], number: int, depth: int) -> Iterator[Piece]:
    if hasattr(shape, "shapes") and depth < DEPTH:
        for inner in shape.shapes:
            yield from _shape(inner, section, number, depth + 1)
    elif getattr(shape, "has_table", False):
        yield from _table(shape.table, section, number)
    elif shape.has_text_frame:
        yield from _paragraphs(shape.text_frame, section, number)


def _paragraphs(frame: Any, section: tuple[str, ...], number: int) -> Iterator[Piece]:
    above: list[tuple[int, str]] = []
    for paragraph in frame.paragraphs:
        text = paragraph.text.replace("\v", "\n").strip()
        if not text:
            continue
        above = [(level, words) for level, words in above if level < paragraph.level]
        kind = "pair" if kind_of(text) == "pair" else "bullet"
        yield Piece(text, kind, section + tuple(words for _, words in above), page=number)
        above.append((paragraph.level, heading_of(text)))


def _table(table: Any, section: tuple[str, ...], number: int) -> Iterator[Piece]:
    names: list[str] = []
    for index, row in enumerate(table.rows):
        cells = [cell.text.strip().replace("\n", " ") for cell in row.cells]
        if index == 0 and is_header(cells, []):
            names = cells
        elif text := row_text(names, cells):
            yield Piece(text, "row", section, page=number)
