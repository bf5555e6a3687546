"""Plots as inline SVG: bars, columns and the line of versions. Colours are the page's own, so that they turn with it.

Takes numbers and texts, escapes the texts, and knows nothing of what they mean.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
WIDTH = 920
_BAR_HEIGHT, _LABEL_WIDTH, _VALUE_WIDTH = 26, 250, 110
_COLUMN_HEIGHT = 130


class Bar(NamedTuple):
    """A length with its name, what is said of it, and a mark that it should reach (None: no mark)."""

    label: str
    value: float
    told: str
    mark: float | None = None
    kind: str = ""


class Step(NamedTuple):
    """A version in a line of versions: its size, what of it is new, and the number of one that it goes back to."""

    number: int
    bytes: int
    new_bytes: int
    told: str
    back_to: int | None
    tags: tuple[str, ...] = ()
    is_current: bool = False


def text(value: object, limit: int = 2000) -> str:
    """A value as it may stand in a page: escaped, and with what could turn the direction of the text made visible."""
    said = str(value)
    said = said if len(said) <= limit else f"{said[: limit - 1]}…"
    return html.escape(_ODD.sub(lambda match: f"\\u{ord(match.group()):04x}", said), quote=True)


def bars(rows: Sequence[Bar], *, most: float | None = None, what: str = "") -> str:
    """Lengths below one another, to be compared."""
    if not rows:
        return ""
    top = most or max(row.value for row in rows) or 1
    room = WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    parts = []
    for index, row in enumerate(rows):
        y = index * _BAR_HEIGHT
        length = max(1.5, room * min(1.0, row.value / top)) if row.value else 0.0
        shapes = [
            _word("label", _LABEL_WIDTH - 12, y + 17, _cut(row.label, 34), "end"),
            _rect("track", _LABEL_WIDTH, y + 5, room, 16),
            _rect(f"bar {row.kind}", _LABEL_WIDTH, y + 5, length, 16),
            _word("value", WIDTH - _VALUE_WIDTH + 10, y + 17, _cut(row.told, 16), "start"),
        ]
        if row.mark is not None:
            shapes.append(_line("mark", _LABEL_WIDTH + room * min(1.0, row.mark / top), y + 1, 0, 24))
        parts.append(_group(f"{row.label}: {row.told}", shapes))
    return _svg(parts, len(rows) * _BAR_HEIGHT, what)


def columns(rows: Sequence[Bar], *, what: str = "") -> str:
    """Heights beside one another, such as days; every so many is named."""
    if not rows:
        return ""
    top = max(row.value for row in rows) or 1
    step, base = WIDTH / len(rows), _COLUMN_HEIGHT + 16.0
    width = min(46.0, step * 0.78)
    every = -(-len(rows) // 10)
    parts = [_line("axis", 0, base, WIDTH, 0)]
    for index, row in enumerate(rows):
        middle = (index + 0.5) * step
        height = max(2.0, _COLUMN_HEIGHT * row.value / top) if row.value else 0.0
        shapes = [
            _rect("hit", middle - step / 2, 0, step, base),
            _rect(f"bar {row.kind}", middle - width / 2, base - height, width, height),
        ]
        if row.value == top or (len(rows) <= 10 and row.value):
            shapes.append(_word("value", middle, base - height - 4, row.told))
        if index % every == 0:
            shapes.append(_word("label", middle, base + 18, _cut(row.label, 12)))
        parts.append(_group(f"{row.label}: {row.told}", shapes))
    return _svg(parts, base + 26, what)


def lineage(steps: Sequence[Step], *, what: str = "") -> str:
    """Versions from the oldest to the newest: how large each is, what of it is new, and which go back to which."""
    if not steps:
        return ""
    top = max(step.bytes for step in steps) or 1
    gap = min(120.0, (WIDTH - 40) / len(steps))
    middle = {step.number: 20 + (index + 0.5) * gap for index, step in enumerate(steps)}
    base, tall, width = 190.0, 100.0, min(40.0, gap * 0.6)
    parts = [_line("axis", 20, base, gap * len(steps), 0)]
    for step in steps:
        x = middle[step.number]
        height, new = max(3.0, tall * step.bytes / top), tall * min(step.bytes, step.new_bytes) / top
        now = " now" if step.is_current else ""
        shapes = [
            _rect("bar old", x - width / 2, base - height, width, height),
            _rect("bar", x - width / 2, base - new, width, new),
            f'<circle class="dot{now}" cx="{x:.1f}" cy="{base + 14}" r="5"/>',
            _word("label", x, base + 36, str(step.number)),
        ]
        if step.tags:
            shapes.append(_word("tag", x, base - height - 6, _cut(", ".join(step.tags), max(4, int(gap / 7)))))
        parts.append(_group(step.told, shapes))
        if step.back_to in middle:
            told = f"version {step.number} is {step.back_to} again"
            parts.append(_arc(middle[step.back_to], x, base - tall - 26, told))
    return _svg(parts, base + 44, what)


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{text(kind.strip())}" x="{x:.1f}" y="{y:.1f}" {size} rx="2"/>'


def _word(kind: str, x: float, y: float, said: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(said)}</text>'


def _line(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{x + width:.1f}" y2="{y + height:.1f}"/>'


def _group(told: str, shapes: Sequence[str]) -> str:
    return f"<g><title>{text(told)}</title>{''.join(shapes)}</g>"


def _arc(start: float, end: float, y: float, told: str) -> str:
    top = max(6.0, y - 20 - (end - start) * 0.18)
    path = f"M {start:.1f} {y:.1f} C {start:.1f} {top:.1f}, {end:.1f} {top:.1f}, {end:.1f} {y:.1f}"
    return f'<path class="arc" d="{path}"><title>{text(told)}</title></path>'


def _svg(parts: Sequence[str], height: float, what: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:.0f}" preserveAspectRatio="xMinYMin meet"'
    return f'<svg {box} role="img" aria-label="{text(what)}">{"".join(parts)}</svg>'


def _cut(said: str, letters: int) -> str:
    return said if len(said) <= letters else f"{said[: letters - 1]}…"
