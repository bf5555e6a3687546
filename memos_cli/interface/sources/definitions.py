"""What the parsers of programs tell of a definition."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """Something with a name in a program: its lines, from 1, and the dotted name within the module."""

    kind: str
    name: str
    first: int
    last: int
