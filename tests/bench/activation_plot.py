"""The time to the first token against the tokens of memory, from the text and from a file, as an SVG; plain text.

`python -m tests.bench.activation_plot OUT.svg < LINE` draws it again from the last line of a run of `ttft`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 120, 60, 60
COLOURS = {"text": "#b04a2f", "memory": "#2f6db0"}
NAMES = {"text": "from its text", "memory": "from a file"}


def draw(path: Path, rows: Sequence[Mapping[str, Any]], *, title: str) -> None:
    """Writes the plot of some rows of `ttft`; both axes are logarithmic."""
    path.write_text(svg(rows, title=title), encoding="utf-8")


def svg(rows: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """The plot as text."""
    lines = {
        way: [(row["memory"], _median(row[f"{way} s"])) for row in sorted(rows, key=lambda row: row["memory"])]
        for way in ("text", "memory")
    }
    values = [value for points in lines.values() for _, value in points]
    across = [tokens for tokens, _ in lines["text"]]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    plane = _Plane((min(across), max(across)), (low, high))
    marks = [*_frame(plane, across, title, rows[0]["question"])]
    for way, points in lines.items():
        marks += _line(plane, way, points)
    for row in rows:
        middle = math.sqrt(_median(row["text s"]) * _median(row["memory s"]))
        marks.append(_text(plane.x(row["memory"]), plane.y(middle), f"{_median(row['ratio']):.0f}x", bold=True))
    body = "\n".join(marks)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    return f'{head}\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'


class _Plane:
    """Where tokens and seconds lie on the page."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.across, self.up = across, up

    def x(self, tokens: float) -> float:
        low, high = (math.log(one) for one in self.across)
        return LEFT + 30 + (math.log(tokens) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT - 60)

    def y(self, seconds: float) -> float:
        low, high = (math.log(one) for one in self.up)
        return HEIGHT - BOTTOM - (math.log(seconds) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _frame(plane: _Plane, across: Sequence[int], title: str, question: int) -> list[str]:
    name, _, rest = title.partition(":")
    marks = [
        _text(
            LEFT, 22, f"Time to the first token, a model of the shape of {name}, one thread", anchor="start", bold=True
        ),
        _text(LEFT, 40, rest.strip(), anchor="start", size=10),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 15, f"tokens of memory before a question of {question}"),
        f'<g transform="rotate(-90 18 {HEIGHT / 2})">{_text(18, HEIGHT / 2, "seconds")}</g>',
    ]
    for power in range(round(math.log10(plane.up[0])), round(math.log10(plane.up[1])) + 1):
        y = plane.y(10.0**power)
        marks.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        marks.append(_text(LEFT - 8, y + 4, f"{10.0**power:g}", anchor="end"))
    return [*marks, *(_text(plane.x(tokens), HEIGHT - BOTTOM + 18, str(tokens)) for tokens in across)]


def _line(plane: _Plane, way: str, points: Sequence[tuple[float, float]]) -> list[str]:
    at = [(plane.x(tokens), plane.y(seconds)) for tokens, seconds in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{COLOURS[way]}"/>' for x, y in at]
    x, y = at[-1]
    name = _text(x + 10, y + 4, NAMES[way], anchor="start", colour=COLOURS[way])
    return [f'<path d="M{path}" fill="none" stroke="{COLOURS[way]}" stroke-width="2"/>', *dots, name]


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", size: int = 12, bold: bool = False, colour: str = "#222"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{weight}>{escaped}</text>'


def _median(value: Any) -> float:
    return float(value["median"] if isinstance(value, Mapping) else getattr(value, "median", value))


def main() -> None:
    """Draws from the line of JSON on standard input, the rows of its first dtype."""
    from tests.bench.shapes import QWEN, in_dtype

    rows = json.loads(sys.stdin.read().strip().splitlines()[-1])["ttft"]
    first = rows[0]["model"]
    chosen = [row for row in rows if row["model"] == first]
    draw(Path(sys.argv[1]), chosen, title=in_dtype(QWEN, first.split()[-1]).told())


if __name__ == "__main__":
    main()
