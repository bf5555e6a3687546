"""Which of the JSON formats a text is in, and whether it is a table: told from its first values and lines."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from memos_cli.errors import Damaged
from memos_cli.interface.sources import foreign, messages
from memos_cli.interface.sources.elements import iterate_values, parse_value
from memos_cli.interface.sources.limits import Limits

JSON_NAMES = (".json", ".jsonl", ".ndjson", ".json5", ".geojson", ".ipynb", ".af")
LINE_NAMES = (".jsonl", ".ndjson")
SAMPLED = 20


@dataclass(frozen=True, slots=True)
class Shape:
    """A JSON format, the evidence, and whether every line is a value of its own."""

    format: str
    why: str
    by_line: bool


def detect(text: str, *, suffix: str, rest: io.RawIOBase, encoding: str, limits: Limits) -> Shape | None:
    """The shape of a text, or None when it is not JSON. `rest` is the whole text, at its first byte."""
    start = text.lstrip("\ufeff \t\r\n")[:1]
    named = suffix in JSON_NAMES
    if start not in ("{", "[") and not named:
        return None
    if suffix in LINE_NAMES or has_value_lines(text):
        return _classify_lines(text)
    first = _first_value(rest, encoding=encoding, limits=limits, named=named)
    if not named and not isinstance(first, dict | list):
        return None
    if first is None:
        return Shape("json", f"named {suffix}", by_line=False)
    return _classify([first], container="JSON", by_line=False)


def has_value_lines(text: str) -> bool:
    """Whether the first line is a whole JSON object or array and more follows it."""
    first, _, others = text.lstrip("\ufeff \t\r\n").partition("\n")
    return bool(others.strip()) and _value_of(first) is not None


def _value_of(line: str) -> Any | None:
    try:
        value = parse_value(line)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None


def _classify_lines(text: str) -> Shape:
    lines = text.split("\n")
    values = [value for line in (lines[:-1] or lines)[:SAMPLED] if (value := _value_of(line)) is not None]
    return _classify(values, container="JSON lines", by_line=True)


def _first_value(rest: io.RawIOBase, *, encoding: str, limits: Limits, named: bool) -> Any | None:
    """The first element of an array, or the whole object; None when it cannot be read (the reader will say why)."""
    small = limits if named else replace(limits, element_bytes=limits.head_bytes)
    try:
        for found in iterate_values(cast(BinaryIO, io.BufferedReader(rest)), encoding=encoding, limits=small):
            return found.value
    except Damaged:
        return None
    return None


def _classify(values: list[Any], *, container: str, by_line: bool) -> Shape:
    if exported := _exported(values):
        return Shape(exported, f"{container} whose values have the fields of {exported}", by_line)
    found = {messages.shape(value) for value in values}
    if len(found) == 1 and (shape := found.pop()):
        return Shape(shape, f"{container} whose values have the fields of {shape}", by_line)
    return Shape("jsonl" if by_line else "json", container, by_line)


def _exported(values: list[Any]) -> str:
    """The format of exported memories that these are: told by the first, so that a malformed one hides none.

    One line of our own among others is enough, for nothing else looks so.
    """
    if any(isinstance(value, dict) and foreign.is_carried(value) for value in values):
        return foreign.CARRIED
    return foreign.shape(values[0]) if values else ""


def table_separator(text: str) -> str:
    """The one of tab, comma and semicolon that splits each of the first lines alike; '' when none does."""
    lines = text.split("\n")[:-1][:SAMPLED]
    for separator in "\t,;":
        if len(lines) < 3 or separator not in lines[0]:
            continue
        try:
            widths = {len(row) for row in csv.reader(lines, delimiter=separator, strict=True) if row}
        except csv.Error:
            continue
        # A line of prose ("Dear Ann, I hope") is told from a header by its spaces and its length.
        if f"{separator} " in lines[0]:
            continue
        if len(widths) == 1 and max(map(len, lines[0].split(separator))) <= 40 and min(widths) > 1:
            return separator
    return ""
