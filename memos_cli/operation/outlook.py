"""What is likely to be used next: a log looked at over several lengths of time at once. Values in, values out.

A use is foretold from those before it: by its share of what was used of late, for several meanings of late, and by
chance, as any other memory. Each of these is right for some cube: of a handbook the same pages are read for years, in a
project one thing after another. So how much each counts is learned from the log, as the mixture under which the log
surprises least (expectation maximisation on shares that know only what came before). What a short log cannot tell
apart stays near to what is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from memos_cli.operation.indicators import HALF_LIVES, MOST_EVENTS, Event

# How much each length of time counts before anything is known, chance first; together they count as so many uses.
USUAL = (0.3, 0.02, 0.03, 0.05, 0.1, 0.1, 0.4)
USUAL_USES = 10.0
ROUNDS = 30
# A log of less than some days says little of what will be, and counts as one of so many.
LEAST_LOG_DAYS = 10.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a log says of all its memories together.

    `shares` are how much of what is used is foretold by each of `HALF_LIVES`, `even` how much by chance only; all of
    them are 1. `usual_a_day` is how often a memory like any other is used.
    """

    shares: tuple[float, ...]
    even: float
    usual_a_day: float


@dataclass(slots=True)
class Learner:
    """Uses seen one after another, oldest first, each with how well it was foretold."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    heats: dict[str, tuple[tuple[float, ...], float]] = field(default_factory=dict)
    totals: tuple[float, ...] = (0.0,) * len(HALF_LIVES)
    day: float = 0.0
    guess: tuple[float, ...] = USUAL

    def see(self, ids: Iterable[str], day: float) -> None:
        """A use of these memories on a day, no earlier than the one before."""
        named = list(dict.fromkeys(ids))
        totals = _faded(self.totals, day - self.day)
        known = [(one, self.heat_of(one, day)) for one in named]
        chance = 1.0 / (len(self.heats) + 1)
        self.rows += [
            (chance, *(heat / total if total else 0.0 for heat, total in zip(heats, totals, strict=True)))
            for _, heats in known
        ]
        self.heats |= {one: (tuple(heat + 1.0 for heat in heats), day) for one, heats in known}
        self.totals, self.day = tuple(total + len(named) for total in totals), day

    def heat_of(self, one: str, day: float) -> tuple[float, ...]:
        """The uses of a memory as of a day, each counting half after each of `HALF_LIVES`."""
        heats, since = self.heats.get(one, ((0.0,) * len(HALF_LIVES), day))
        return _faded(heats, day - since)

    def outlook(self, day: float, *, rounds: int = ROUNDS) -> Outlook:
        """What they say as of a day; asked again after some more uses, a few rounds do."""
        self.guess = _mixed(self.rows[-MOST_EVENTS:], self.guess, rounds)
        usual = len(self.rows) / max(day, LEAST_LOG_DAYS) / (len(self.heats) + 1)
        return Outlook(self.guess[1:], self.guess[0], usual)


def outlook_of(told: Sequence[Event]) -> Outlook:
    """What a log says, oldest event first."""
    learner = Learner()
    for event in told:
        learner.see(event.ids, told[0].age_days - event.age_days)
    return learner.outlook(told[0].age_days if told else 0.0)


def _faded(heats: Sequence[float], days: float) -> tuple[float, ...]:
    return tuple(heat * 0.5 ** (days / half_life) for heat, half_life in zip(heats, HALF_LIVES, strict=True))


def _mixed(rows: Sequence[Sequence[float]], guess: Sequence[float], rounds: int) -> tuple[float, ...]:
    """The shares of a mixture under which the rows are likeliest, kept near to what is usual while there are few."""
    import numpy as np

    if not rows or not rounds:
        return tuple(guess)
    told, before = np.asarray(rows), np.asarray(USUAL) * USUAL_USES
    shares = np.asarray(guess)
    for _ in range(rounds):
        each = told * shares
        counted = (each / each.sum(axis=1, keepdims=True)).sum(axis=0) + before
        shares = counted / counted.sum()
    return tuple(float(one) for one in shares)
