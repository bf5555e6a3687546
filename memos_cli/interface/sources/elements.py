"""JSON values one at a time and in flat memory: JSON lines, the elements of a top-level array, or the one value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NoReturn

from memos_cli.interface.sources.limits import Limits, Malformed, human
from memos_cli.interface.sources.opened import Opened, decode_chunks

SPACE = re.compile(r"[ \t\r\n]*")
# An error this near the end of what was read so far may be no error but a value cut off ('tru', '\\u12', '-Infini').
CUT = 16


@dataclass(frozen=True, slots=True)
class Found:
    """A value and the lines it spans, from 1, both ends included."""

    value: Any
    line_start: int
    line_end: int
    whole: bool = False
    """Whether it is a document of its own, not an element of an array or a line of many."""

    @property
    def place(self) -> dict[str, Any]:
        """The lines of a piece of it, as keywords: none where it is the whole document, which tells nothing."""
        return {
            "line_start": None if self.whole else self.line_start,
            "line_end": None if self.whole else self.line_end,
        }


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_value(text: str) -> Any:
    """The one JSON value of a text. Raises ValueError, also for NaN and for nesting past the interpreter's depth."""
    text = text.strip(" \t\r\n")
    try:
        value, end = DECODER.raw_decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if end != len(text):
        raise ValueError(f"{text[end]!r} after the end of the value at column {end + 1}")
    return value


def check_depth(value: Any, limits: Limits) -> None:
    """Raises ValueError when a value nests deeper than `limits.depth`."""
    level = [value]
    for _ in range(limits.depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {limits.depth} levels")


class _Window:
    """A moving part of the text: `text[at:]` is what is not read yet, and its first line is `line`."""

    def __init__(self, stream: BinaryIO, *, encoding: str, limits: Limits) -> None:
        self.chunks = decode_chunks(stream, encoding)
        self.limits = limits
        self.text = ""
        self.at = 0
        self.line = 1
        self.ended = False
        self.has_taken = False

    def grow(self) -> bool:
        """Take more in, doubling what is held, so that a large value is tried a few times only. False at the end."""
        wanted = max(1 << 16, len(self.text) - self.at)
        held = [self.text[self.at :]]
        taken = 0
        while taken < wanted and not self.ended:
            chunk = next(self.chunks, "")
            self.ended = not chunk
            held.append(chunk)
            taken += len(chunk)
        self.text = "".join(held)
        self.at = 0
        return taken > 0

    def peek(self) -> str:
        """The next character that is not white space, now at `at`; '' at the end."""
        while True:
            match = SPACE.match(self.text, self.at)
            end = match.end() if match else self.at
            self.skip_to(end)
            if end < len(self.text):
                return self.text[end]
            if not self.grow():
                return ""

    def skip_to(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def take_value(self) -> Found:
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
                # A number at the end of what is held may go on in what is not.
                if end + 1 < len(self.text) or self.ended:
                    return self._found(value, end)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - CUT
                if self.ended or not cut:
                    line = self.line + self.text.count("\n", self.at, error.pos)
                    raise Malformed(f"line {line}", f"not JSON: {error.msg}") from error
            except (ValueError, RecursionError) as error:
                raise Malformed(f"line {self.line}", f"not JSON: {error}") from error
            if len(self.text) - self.at > self.limits.element_bytes:
                cap = human(self.limits.element_bytes)
                raise Malformed(f"line {self.line}", f"one JSON value is larger than the cap of {cap}")
            self.grow()

    def _found(self, value: Any, end: int) -> Found:
        start = self.line
        self.has_taken = True
        self.skip_to(end)
        try:
            check_depth(value, self.limits) if isinstance(value, dict | list) else None
        except ValueError as error:
            raise Malformed(f"line {start}", f"{error}") from error
        return Found(value, start, self.line)


def iterate_values(stream: BinaryIO, *, encoding: str, limits: Limits) -> Iterator[Found]:
    """The elements of a top-level array; else the values of the text, of which a JSON file has one.

    Raises Malformed with the line for what is not JSON, nests too deep or is larger than `limits.element_bytes`.
    """
    window = _Window(stream, encoding=encoding, limits=limits)
    if window.peek() == "[":
        window.skip_to(window.at + 1)
        yield from _iterate_array(window)
        if mark := window.peek():
            raise Malformed(f"line {window.line}", f"not JSON: {mark!r} after the end of the array")
        return
    while mark := window.peek():
        if window.has_taken and mark not in "[{":
            raise Malformed(f"line {window.line}", f"not JSON: {mark!r} after the end of the value")
        yield replace(window.take_value(), whole=True)


def _iterate_array(window: _Window) -> Iterator[Found]:
    if window.peek() == "]":
        window.skip_to(window.at + 1)
        return
    while True:
        yield window.take_value()
        mark = window.peek()
        if mark not in (",", "]"):
            raise Malformed(f"line {window.line}", "not JSON: expected ',' or ']' after an element")
        window.skip_to(window.at + 1)
        if mark == "]":
            return


def read_values(opened: Opened) -> Iterator[Found]:
    """The values in order. In JSON lines a malformed line goes to `opened.bad` and those after it are read."""
    if not opened.by_line:
        yield from iterate_values(opened.stream, encoding=opened.encoding, limits=opened.limits)
        return
    for number, line in opened.lines():
        if not line.strip():
            continue
        try:
            value = parse_value(line)
            if isinstance(value, dict | list):
                check_depth(value, opened.limits)
        except ValueError as error:
            opened.bad(Malformed(f"line {number}", f"not JSON: {error}"))
            continue
        yield Found(value, number, number)
