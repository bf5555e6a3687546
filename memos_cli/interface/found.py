"""What a query gives back, apart from the other results: a query that starts cold should not wait for their classes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A memory beside a hit, when context was asked for."""

    id: str
    place: str
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that answers, with where it stands and why it ranks there.

    `signals` are the shares that add up to `score`; `also` are ids of memories with the same words.
    """

    rank: int
    score: float
    id: str
    text: str
    cube: str
    place: str
    source: str
    line_start: int | None
    line_end: int | None
    page: int | None
    turn: int | None
    section: str
    session: str
    speaker: str
    role: str
    time: datetime | None
    time_note: str
    kind: str
    type: str
    topic: str
    tags: tuple[str, ...]
    ref: str
    state: str
    version: int
    signals: dict[str, float]
    also: tuple[str, ...]
    before: tuple[Neighbour, ...]
    after: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found. `missing` names signals that could not be used, with the reason; `id` is the prompt's own."""

    query: str
    id: str
    cubes: tuple[str, ...]
    mode: str
    profile: str
    as_of: datetime | None
    missing: tuple[str, ...]
    hits: tuple[Hit, ...]
    context: str | None
    context_tokens: int | None
    tokenizer: str | None
    seconds: dict[str, float]
