"""Behavioural indicators: what the records of use say of each memory. Values in, values out.

Uses and the time of the last one are counted; heat is the uses with each counting half after every half-life. Which
half-life is right differs between cubes: of a handbook the same pages are read for years, in a project one thing after
another. So it is taken from the log itself, as that under which the log would have surprised least
(prequential likelihood: each use is foretold from those before it).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import NamedTuple

from memos_cli.infrastructure.uses import Access
from memos_cli.operation.utility import fold as worth

DAY_SECONDS = 86_400.0
# The half-lives that a log is tried with, in days.
HALF_LIVES = (1.0, 3.0, 7.0, 30.0, 90.0, 365.0)
# Where a log is too short to tell them apart.
USUAL_HALF_LIFE_DAYS = 30.0
LEAST_EVENTS = 20
# So much of a log is enough to tell.
MOST_EVENTS = 20_000
# What a memory counts that was never used: so it can be foretold at all.
PRIOR = 0.5
GIVEN, FOUND = "given", "found"


class Event(NamedTuple):
    """A use of some memories at once, so many days before now."""

    age_days: float
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Indicator:
    """One memory: how often it was used, its heat, and how many days ago it was used last (infinite for never)."""

    uses: int = 0
    heat: float = 0.0
    idle_days: float = math.inf


NEVER = Indicator()


def events(accesses: Iterable[Access], *, now: datetime) -> tuple[list[Event], str]:
    """The uses in a log, oldest first, and what was counted.

    What a model was given to read is a use (`given`). Where nobody had a model answer yet, so that there is nothing of
    that kind, what was found is taken for it (`found`).
    """
    records = list(accesses)
    what = GIVEN if any(one.given for one in records) else FOUND
    told = [
        Event(max(0.0, (now - one.moment).total_seconds() / DAY_SECONDS), one.given if what == GIVEN else one.found)
        for one in records
    ]
    return [one for one in told if one.ids], what


def fold(told: Iterable[Event], *, half_life_days: float) -> dict[str, Indicator]:
    """The indicators of every memory that was used."""
    uses: Counter[str] = Counter()
    heat: dict[str, float] = {}
    idle: dict[str, float] = {}
    for event in told:
        worth = 0.5 ** (event.age_days / half_life_days)
        for one in dict.fromkeys(event.ids):
            uses[one] += 1
            heat[one] = heat.get(one, 0.0) + worth
            idle[one] = min(idle.get(one, math.inf), event.age_days)
    return {one: Indicator(count, heat[one], idle[one]) for one, count in uses.items()}


def utility(accesses: Iterable[Access]) -> dict[str, float]:
    """What each memory is worth to answers, from -1 to 1, where that was measured."""
    return worth(one.gains for one in accesses if one.gains)


def half_life_of(told: Sequence[Event], *, choices: Sequence[float] = HALF_LIVES) -> float:
    """The half-life in days under which these uses, oldest first, were the most likely ones."""
    last = told[-MOST_EVENTS:]
    if len(last) < LEAST_EVENTS:
        return USUAL_HALF_LIFE_DAYS
    return max(choices, key=lambda days: _likelihood(last, days))


def _likelihood(told: Sequence[Event], half_life_days: float) -> float:
    """The logarithm of how likely each use was after those before it."""
    known = len({one for event in told for one in event.ids})
    count: dict[str, float] = {}
    # uses are not made smaller with time, but later ones larger: then only what is used has to be touched
    total, scale, age, found = 0.0, 1.0, told[0].age_days, 0.0
    for event in told:
        scale *= 2.0 ** ((age - event.age_days) / half_life_days)
        age = event.age_days
        if scale > 1e100:
            count = {one: value / scale for one, value in count.items()}
            total, scale = total / scale, 1.0
        for one in event.ids:
            found += math.log((count.get(one, 0.0) + PRIOR * scale) / (total + PRIOR * scale * known))
        for one in event.ids:
            count[one] = count.get(one, 0.0) + scale
            total += scale
    return found


def together(told: Iterable[Event], *, most: int = 10) -> Mapping[tuple[str, str], int]:
    """How often two memories were used at once, by their ids in order; of one use, its first `most` are looked at."""
    pairs: Counter[tuple[str, str]] = Counter()
    for event in told:
        pairs.update(combinations(sorted(dict.fromkeys(event.ids[:most])), 2))
    return pairs
