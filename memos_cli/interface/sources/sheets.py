"""Spreadsheets: a memory for each row with its column names, under its sheet; the sheet's number is the page.

Formulas are read as the values last computed. The lines of a piece are the row's number in its sheet.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.archive import naming_damage, open_checked
from memos_cli.interface.sources.opened import Opened
from memos_cli.interface.sources.tables import is_header, row_text


def read(opened: Opened) -> Iterator[Piece]:
    """All rows of all sheets, row by row. Raises Damaged for a broken or unsafe file, MissingExtra without openpyxl."""
    with warnings.catch_warnings():
        # openpyxl warns of every feature that it does not write back, which reading does not do.
        warnings.simplefilter("ignore")
        book = open_checked(opened, "xlsx", "load_workbook", read_only=True, data_only=True)
        sheets = [(number, sheet) for number, sheet in enumerate(book.worksheets, start=1)]
    try:
        for number, sheet in sheets:
            yield from _sheet(sheet, number)
    finally:
        book.close()


def _sheet(sheet: Any, number: int) -> Iterator[Piece]:
    names: list[str] | None = None
    section = (str(sheet.title),)
    # The size that a sheet claims makes every row that wide: one cell in the last corner would cost minutes.
    sheet.reset_dimensions()
    rows = enumerate(sheet.iter_rows(values_only=True), start=1)
    while (found := _next_filled(rows)) is not None:
        line, values = found
        cells = [_word(value) for value in values]
        while not cells[-1]:
            cells.pop()
        if names is None:
            is_named = is_header(cells, []) and all(isinstance(value, str) for value in values[: len(cells)])
            names = cells if is_named else []
            if is_named:
                continue
        yield Piece(row_text(names, cells), "row", section, line, line, page=number)


def _next_filled(rows: Iterator[tuple[int, tuple[Any, ...]]]) -> tuple[int, tuple[Any, ...]] | None:
    """The next row with a value in it, and its number. Rows that a sheet leaves out may be a million."""
    with naming_damage("xlsx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return next(((line, values) for line, values in rows if any(map(_word, values))), None)


def _word(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}" if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value).strip()
