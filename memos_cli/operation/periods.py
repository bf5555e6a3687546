"""Days into conditions: memories of a period, and memories that were put away in one. Values in, SQL out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

Spans = Sequence[tuple[date, date]]
NONE = "false"


def told_between(spans: Spans) -> str:
    """What was said on these days or tells of them; of what has no time, what was valid at some moment of them."""
    parts = []
    for start, end in map(_moments, spans):
        said = f"(time >= {start} and time < {end}) or (event_time >= {start} and event_time < {end})"
        held = f"valid_from < {end} and (valid_to is null or valid_to > {start})"
        parts.append(f"({said}) or (time is null and event_time is null and {held})")
    return _any(parts)


def added_between(spans: Spans) -> str:
    """What was put into memory on these days."""
    return _any([f"created_at >= {start} and created_at < {end}" for start, end in map(_moments, spans)])


def _any(parts: Sequence[str]) -> str:
    return " or ".join(f"({part})" for part in parts) or NONE


def _moments(span: tuple[date, date]) -> tuple[str, str]:
    """The first moment of the first day, and of the day after the last."""
    first, last = span
    over = last + timedelta(1) if last < date.max else last
    return _moment(first), _moment(over)


def _moment(day: date) -> str:
    # Arrow counts microseconds in 64 bits, which is enough for any year that Python has
    return f"timestamp '{day.isoformat()} 00:00:00'"
