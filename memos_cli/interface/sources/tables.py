"""Comma- and tab-separated tables: a memory for each row, with its column names; a table of messages becomes turns."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources import messages
from memos_cli.interface.sources.chats import TurnCounter, turn_piece
from memos_cli.interface.sources.elements import Found
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.opened import Opened

SEPARATORS = ",;\t|"
SAMPLED = 20


def read(opened: Opened) -> Iterator[Piece]:
    """The rows of a table in flat memory. A broken row ends the reading: where the next begins is not known."""
    # The module's own cap is 128 KiB a cell and its default is shared by the whole process: ours is the line's cap.
    csv.field_size_limit(opened.limits.line_bytes)
    held: list[str] = []
    texts = (text + "\n" for _, text in opened.lines())
    for text in texts:
        held.append(text)
        if len(held) >= SAMPLED:
            break
    separator = "\t" if opened.format == "tsv" else _separator(held)
    reader = csv.reader(_chain(held, texts), delimiter=separator, strict=True)
    yield from _read_rows(_numbered(reader))


def _chain(held: list[str], texts: Iterator[str]) -> Iterator[str]:
    yield from held
    held.clear()
    yield from texts


def _separator(lines: list[str]) -> str:
    """The separator that the first line has most of: what a header has in it is hardly ever data."""
    return max(SEPARATORS, key=lines[0].count) if lines and any(mark in lines[0] for mark in SEPARATORS) else ","


Row = tuple[int, int, list[str]]


def _numbered(reader: csv._reader) -> Iterator[Row]:  # type: ignore[name-defined]
    """Rows with the first and last line of each; those without a value are left out."""
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Malformed(f"line {first}", f"not a table row: {error}") from error
        if any(cell.strip() for cell in row):
            yield first, reader.line_num, [cell.strip() for cell in row]


def _read_rows(rows: Iterator[Row]) -> Iterator[Piece]:
    first = next(rows, None)
    if first is None:
        return
    second = next(rows, None)
    names = first[2] if is_header(first[2], second[2] if second else []) else []
    body = [row for row in (None if names else first, second) if row is not None]
    counter = TurnCounter()
    is_chat = second is not None and bool(names) and messages.is_message(_record(names, second[2]))
    for start, end, cells in _after(body, rows):
        found = Found(None, start, end)
        message = messages.as_message(_record(names, cells)) if is_chat else None
        if message is not None:
            yield turn_piece(message, counter=counter, session=message.session, section=message.session, found=found)
        else:
            yield Piece(row_text(names, cells), "row", line_start=start, line_end=end)
    if second is None and names:
        yield Piece("; ".join(names), "row", line_start=first[0], line_end=first[1])


def _after(body: list[Row], rows: Iterator[Row]) -> Iterator[Row]:
    yield from body
    yield from rows


def _record(names: list[str], cells: list[str]) -> messages.Record:
    keys = [name.lower().replace(" ", "_") for name in names]
    return {key: cell for key, cell in zip(keys, cells, strict=False) if cell}


def is_header(first: list[str], second: list[str]) -> bool:
    """Whether a table's first row names its columns: all filled, different, without a number, not much longer."""
    if not all(first) or len(set(first)) < len(first) or any(map(_is_number, first)):
        return False
    if max(map(len, first)) > 60 or (len(first) == 1 and len(first[0].split()) > 4):
        return False
    return not second or len(second) >= len(first) or len(first) > 1


def _is_number(cell: str) -> bool:
    return bool(cell) and cell.replace(",", "").replace(".", "").lstrip("+-$€£").rstrip("%").isdigit()


def row_text(names: list[str], cells: list[str]) -> str:
    """A row that reads alone: 'name: value; name: value', without empty cells."""
    pairs = [(names[index] if index < len(names) else "", cell.strip()) for index, cell in enumerate(cells)]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in pairs if cell)
