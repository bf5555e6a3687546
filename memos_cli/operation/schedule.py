"""MemScheduler: which memories a model should have as activation memory, and which not. Pure: values in, values out.

A policy says how much it wants each memory. Here the rest is decided: what never moves, what has just come and stays
for a while, and whom the room is for when there is too little (by priority first, then by what the policy wants most
for the room it takes). That several policies should serve one set of forms is an idea of MemOS (arXiv 2507.03724,
section 5.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memos_cli.operation.policies import Policy, Score, Setting, Standing

PROMOTE, DEMOTE, KEEP, LEAVE = "promote", "demote", "keep", "leave"
# What was promoted stays at least so long, if there is room for it.
STAY_DAYS = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memory that may move. `fixed` is why it must not ("" when it may); `stay_days` since when it is held."""

    cube: str
    id: str
    standing: Standing
    priority: int = 0
    fixed: str = ""
    stay_days: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of a memory, with the score that decided it, and why in words."""

    candidate: Candidate
    score: Score
    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of activation memory at most, and seconds of work at most; None for no bound. `taken_bytes` are not ours to
    move."""

    bytes: int | None = None
    seconds: float | None = None
    taken_bytes: int = 0


@dataclass(slots=True)
class _Room:
    """What is left of a budget."""

    bytes: float
    seconds: float

    def lacks(self, one: Candidate) -> str:
        """What there is too little of to hold a memory; "" when it fits."""
        if one.standing.price.bytes > self.bytes:
            return "bytes"
        return "seconds" if not one.standing.held and one.standing.price.write_seconds > self.seconds else ""

    def take(self, one: Candidate) -> None:
        self.bytes -= one.standing.price.bytes
        self.seconds -= 0.0 if one.standing.held else one.standing.price.write_seconds


def choose(
    candidates: Sequence[Candidate], policy: Policy, setting: Setting, *, budget: Budget = Budget()
) -> list[Choice]:
    """What becomes of each, in the order in which room was given."""
    scored = [(one, policy(one.standing, setting)) for one in candidates]
    fixed = [(one, score) for one, score in scored if one.fixed]
    free = sorted((pair for pair in scored if not pair[0].fixed), key=_rank, reverse=True)
    held = sum(one.standing.price.bytes for one, _ in fixed if one.standing.held)
    room = _Room(
        float("inf") if budget.bytes is None else budget.bytes - budget.taken_bytes - held,
        float("inf") if budget.seconds is None else budget.seconds,
    )
    kept = [Choice(one, score, KEEP if one.standing.held else LEAVE, one.fixed) for one, score in fixed]
    return kept + [_decide(one, score, room) for one, score in free]


def _rank(pair: tuple[Candidate, Score]) -> tuple[bool, int, float, str]:
    """Who comes first when there is too little room: what has just come, then by priority, then by score."""
    one, score = pair
    return (_is_fresh(one), one.priority, score.order, one.id)


def _is_fresh(one: Candidate) -> bool:
    return one.standing.held and one.stay_days < STAY_DAYS


def _decide(one: Candidate, score: Score, room: _Room) -> Choice:
    held = one.standing.held
    if score.value <= 0 and not _is_fresh(one):
        return Choice(one, score, DEMOTE if held else LEAVE, "it is not worth its place")
    if lacks := room.lacks(one):
        why = (
            "the byte budget is used up by others that are worth more"
            if lacks == "bytes"
            else "the seconds are used up"
        )
        return Choice(one, score, DEMOTE if held else LEAVE, why)
    room.take(one)
    if not held:
        return Choice(one, score, PROMOTE, "it is worth its place")
    return Choice(one, score, KEEP, "it is worth its place" if score.value > 0 else "it has just come")
