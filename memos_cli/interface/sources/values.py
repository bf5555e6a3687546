"""The JSON values of a source one at a time, whether it is JSON lines or one JSON document."""

from __future__ import annotations

from collections.abc import Iterator

from memos_cli.interface.sources.elements import Found, check_depth, iterate_values, parse_value
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.opened import Opened


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
