"""Policies: how much each would like to have a memory as activation memory. Small pure functions, by name.

A policy is told how one memory stands and gives its score with the terms it is made of; what is above 0 it wants. What
is held already scores better by the margin, so that one and the same memory does not come and go (hysteresis). Which
memories are taken when there is too little room is the business of `schedule.py`.

Others are found under the entry point `memos.policies`: a function of the same kind, by the name it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import NamedTuple

from memos_cli.errors import Usage
from memos_cli.operation.indicators import HALF_LIVES
from memos_cli.operation.outlook import LEAST_LOG_DAYS, Outlook

ENTRY_POINT = "memos.policies"
COST = "cost"
GIGABYTE = 1e9
# What counts less than this among guesses is not told.
LEAST_TOLD = 0.01
# How uses follow from uses is worked out in steps of so many days, and so much of those that follow from foretold ones
# is believed.
STEP_DAYS = 0.25
CHAINED = 0.5


@dataclass(frozen=True, slots=True)
class Price:
    """What a memory takes under a model: bytes kept, seconds to write it once, to read its text and to read it back."""

    bytes: int
    write_seconds: float
    plain_seconds: float
    read_seconds: float

    @property
    def saved_seconds(self) -> float:
        """What one use saves; below 0 where the text is read as fast."""
        return self.plain_seconds - self.read_seconds


@dataclass(frozen=True, slots=True)
class Standing:
    """How one memory stands. `heat` has the half-life of the log, `warmth` the fixed one of `Setting.decay_days`,
    `heats` each of `indicators.HALF_LIVES`.

    `similarity` is how near it is to what was asked about lately, from 0 to 1.
    """

    uses: int
    heat: float
    warmth: float
    idle_days: float
    similarity: float
    held: bool
    price: Price
    heats: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for all memories of a plan.

    The log is `log_days` long, and `outlook` is what it says of all memories together. `rent` is how many seconds it is
    worth to keep a gigabyte for a day. `margin` is by how much costs must be beaten, `keeping` the share of writing
    a memory again that speaks for keeping it, `stickiness` how much more what is held counts for where no costs are
    known; `floor` scales the thresholds there: 0 takes all that there is room for.
    """

    half_life_days: float = 30.0
    log_days: float = 0.0
    horizon_days: float = 30.0
    rent: float = 5.0
    margin: float = 0.1
    keeping: float = 0.5
    stickiness: float = 0.5
    recent_days: float = 7.0
    decay_days: float = 7.0
    floor: float = 1.0
    outlook: Outlook | None = None


class Term(NamedTuple):
    """One step of a policy's arithmetic: what, how much, in which unit."""

    name: str
    value: float
    unit: str


class Score(NamedTuple):
    """How much a policy wants a memory to be held (above 0: it does), the same for each unit of room, and how it got
    there."""

    value: float
    order: float
    terms: tuple[Term, ...]


Policy = Callable[[Standing, Setting], Score]


def lru(one: Standing, setting: Setting) -> Score:
    """What was used last: held while its last use is fresh."""
    fresh = 0.5 ** (one.idle_days / setting.recent_days)
    terms = (Term("last used", one.idle_days, "days ago"), Term("freshness", fresh, ""))
    return _above(fresh, 0.5, one, setting, terms)


def lfu(one: Standing, setting: Setting) -> Score:
    """What was used most often, whenever that was."""
    return _above(float(one.uses), 2.0, one, setting, (Term("used", one.uses, "times"),))


def decay(one: Standing, setting: Setting) -> Score:
    """What was used often of late: each use counts half after so many days."""
    terms = (
        Term("used", one.uses, "times"), Term("a use counts half after", setting.decay_days, "days"),
        Term("heat", one.warmth, "uses"),
    )  # fmt: skip
    return _above(one.warmth, 1.5, one, setting, terms)


def semantic(one: Standing, setting: Setting) -> Score:
    """What is near to what was asked about lately, and was used lately itself."""
    fresh = 0.5 ** (one.idle_days / setting.recent_days)
    mean = (max(0.0, one.similarity) + fresh) / 2
    terms = (
        Term("similarity to recent questions", one.similarity, ""), Term("freshness", fresh, ""),
        Term("their mean", mean, ""),
    )  # fmt: skip
    return _above(mean, 0.6, one, setting, terms)


def cost(one: Standing, setting: Setting) -> Score:
    """What saves more seconds than it takes: uses to come, times what each saves, less the rent and the writing.

    Writing is paid once, so what is held already needs to earn its rent only, and not quite that: to let it go may mean
    writing it again.
    """
    price = one.price
    foretold = guesses(one, setting)
    coming = sum(guess.uses for guess in foretold)
    gain = coming * price.saved_seconds
    rent = price.bytes / GIGABYTE * setting.rent * setting.horizon_days
    write = 0.0 if one.held else price.write_seconds * (1 + setting.margin)
    bonus = min(price.write_seconds * setting.keeping, max(0.0, gain)) if one.held else 0.0
    value = gain + bonus - rent - write
    terms = (
        Term("used", one.uses, "times"),
        *(Term(f"to come, foretold {guess.told_by}", guess.uses, "uses")
          for guess in foretold if guess.share >= LEAST_TOLD),
        Term("uses to come", coming, "uses"),
        Term("reading its text", price.plain_seconds, "s"), Term("loading what is kept of it", price.read_seconds, "s"),
        Term("saved at each use", price.saved_seconds, "s"), Term("saved in all", gain, "s"),
        Term("less the rent of its place", rent, "s"),
        *([Term("held already, so it may earn less by", bonus, "s")] if one.held else
          [Term(f"less writing it, and {setting.margin:.0%} to be sure", write, "s")]),
    )  # fmt: skip
    return Score(value, value / max(1, price.bytes), terms)


class Guess(NamedTuple):
    """Uses to come within the horizon that are foretold in one way, and how much of all that is used is foretold so."""

    told_by: str
    uses: float
    share: float


def guesses(one: Standing, setting: Setting) -> list[Guess]:
    """The uses to come of a memory, by what foretells them.

    If it goes on as it did: its heat over what one use a day would have made of it, in a log of this length, is its
    uses a day; they grow less as heat does, and each use that comes makes others likelier in its turn.
    """
    if setting.outlook is None:
        heats: tuple[float, ...] = (one.heat,)
    else:
        # by chance any memory is used that ever was; of one that never was, nothing is foretold
        heats = (*(one.heats or (0.0,) * len(HALF_LIVES)), 1.0 if one.uses else 0.0)
    return [Guess(way.told_by, heat * way.uses, way.share) for way, heat in zip(_ways(setting), heats, strict=True)]


def uses_to_come(one: Standing, setting: Setting) -> float:
    """How often a memory will be used within the horizon, as far as its log tells."""
    return sum(guess.uses for guess in guesses(one, setting))


@lru_cache(maxsize=8)
def _ways(setting: Setting) -> tuple[Guess, ...]:
    """The guesses for a heat of 1, which are the same for all memories."""
    outlook, horizon = setting.outlook, setting.horizon_days
    known = max(setting.log_days, LEAST_LOG_DAYS)
    if outlook is None:
        half_life = setting.half_life_days
        lasting, told = (1 - math.pow(0.5, days / half_life) for days in (horizon, known))
        return (Guess(_days(half_life), lasting / told, 1.0),)
    after, by_chance = _following(outlook.shares, horizon)
    found = [
        Guess(_days(days), uses / (1 - math.pow(0.5, known / days)), share)
        for days, uses, share in zip(HALF_LIVES, after, outlook.shares, strict=True)
    ]
    any_other = outlook.even * outlook.usual_a_day * by_chance
    return (*found, Guess("as for any that was used", any_other, outlook.even))


@lru_cache(maxsize=64)
def _following(shares: tuple[float, ...], horizon_days: float) -> tuple[tuple[float, ...], float]:
    """The uses that follow from a heat of 1 of each half-life, and those of a memory used by chance once a day.

    A use adds to all heats, so that others follow from it: a chain, worked out from its end in small steps. All that
    follows from a use that is foretold counts `CHAINED` only: interest ends sooner than a chain dies out.
    """
    fades = [math.pow(0.5, STEP_DAYS / days) for days in HALF_LIVES]
    after, by_chance = [0.0] * len(shares), 0.0
    for _ in range(math.ceil(horizon_days / STEP_DAYS)):
        each = 1 + CHAINED * sum(after)
        by_chance += (1 + sum(after)) * STEP_DAYS
        after = [
            uses * fade + share * each * (1 - fade) for uses, share, fade in zip(after, shares, fades, strict=True)
        ]
    return tuple(after), by_chance


def _days(half_life: float) -> str:
    return "from the last day or so" if half_life == 1 else f"from the last {half_life:.0f} days or so"


def _above(score: float, least: float, one: Standing, setting: Setting, terms: tuple[Term, ...]) -> Score:
    """A score against a threshold; what is held already counts for more."""
    counted = score * (1 + setting.stickiness) if one.held else score
    least *= setting.floor
    more = (Term("held already, so it counts as", counted, ""),) if one.held else ()
    return Score(counted - least, counted, (*terms, *more, Term("wanted from", least, "")))


POLICIES: dict[str, Policy] = {"cost": cost, "lru": lru, "lfu": lfu, "decay": decay, "semantic": semantic}


def policy_of(name: str) -> Policy:
    """The policy of this name, ours or of an installed package. Raises Usage, naming those that there are."""
    if name in POLICIES:
        return POLICIES[name]
    others = {one.name: one for one in entry_points(group=ENTRY_POINT)}
    if name not in others:
        raise Usage(f"expected a policy of {', '.join([*POLICIES, *sorted(others)])}, found {name!r}")
    try:
        found = others[name].load()
    except (ImportError, AttributeError) as error:
        raise Usage(f"the policy {name!r} of {others[name].value} cannot be loaded: {error}") from error
    if not callable(found):
        raise Usage(f"expected a function as the policy {name!r}, found {type(found).__name__}")
    policy: Policy = found
    return policy
