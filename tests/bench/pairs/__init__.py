"""Pairs of memories with what a reader would say of them, for the benchmark of tidying.

The templates of `templates.toml` are in two halves: `tuned`, by which thresholds and shapes were chosen, and `frozen`,
which was there before any of it and of which only figures were looked at. Each template is filled `FILLS` times from
`fills.toml`, with a seed of its own, so that the set is the same everywhere.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HALVES = ("tuned", "frozen")
SAME, CONFLICT, NONE = "same", "conflict", "none"
FILLS = 6
_SLOT = re.compile(r"\{(\w+?)(\d?)\}")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two memories. `template` is the number of theirs, `later` the side that holds now where the words say so."""

    half: str
    template: int
    kind: str
    label: str
    exact: bool
    a: str
    b: str
    later: str


def pairs(*, fills: int = FILLS) -> list[Pair]:
    """The whole set, always the same."""
    folder = Path(__file__).parent
    templates = tomllib.loads((folder / "templates.toml").read_text(encoding="utf-8"))
    words = tomllib.loads((folder / "fills.toml").read_text(encoding="utf-8"))
    return [
        _pair(half, number, entry, _filling(words, random.Random(f"{half} {number} {fill}")))
        for half in HALVES
        for number, entry in enumerate(templates[half])
        for fill in range(fills)
    ]


def _pair(half: str, number: int, entry: dict[str, Any], filling: dict[str, str]) -> Pair:
    a, b = (_SLOT.sub(lambda slot: filling[slot[1] + slot[2]], entry[side]) for side in ("a", "b"))
    return Pair(half, number, entry["kind"], entry["label"], entry.get("exact", False), a, b, entry.get("later", ""))


def _filling(words: dict[str, list[str]], chance: random.Random) -> dict[str, str]:
    """A value for each slot; those of one name all differ."""
    drawn: dict[str, list[str]] = {name: chance.sample(values, 3) for name, values in words.items()}
    drawn["time"] = [f"{hour:02}:{chance.choice((0, 15, 30, 45)):02}" for hour in chance.sample(range(6, 23), 3)]
    drawn["hour"] = [str(number) for number in chance.sample(range(1, 10), 3)]
    drawn["day"] = [str(number) for number in chance.sample(range(10, 29), 3)]
    drawn["n"] = [str(number) for number in chance.sample(range(12, 980), 3)]
    drawn["id"] = [str(number) for number in chance.sample(range(2000, 9999), 3)]
    drawn["phone"] = [f"+49 {chance.randrange(30, 999)} {chance.randrange(10000, 99999)}" for _ in range(3)]
    year, later = sorted(chance.sample(range(1990, 2026), 2))
    drawn["year"] = [str(year), str(later), str(year - 1)]
    drawn["later_year"] = [str(later)]
    return {f"{name}{place or ''}": value for name, values in drawn.items() for place, value in _numbered(values)}


def _numbered(values: list[str]) -> list[tuple[int, str]]:
    """`person`, `person2`, `person3`."""
    return [(0 if place == 0 else place + 1, value) for place, value in enumerate(values)]
