"""Policies tried on a trace: what each would have held, request by request, and the best that was possible. Pure.

At each request a policy knows what came before it and nothing else. A memory that is held is read back, another is read
as text; after the request the scheduler decides within the budget, and what it takes in is written. The bound is for
somebody who knows the whole trace. No plan can be better: it is the value of the Lagrangian dual of choosing whom to
hold when, with a price for room at each request, and a dual is never less than the optimum it belongs to (weak
duality), however well the prices were found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from memos_cli.operation import indicators
from memos_cli.operation.indicators import HALF_LIVES, Event
from memos_cli.operation.outlook import Learner
from memos_cli.operation.policies import COST, Policy, Price, Setting, Standing
from memos_cli.operation.schedule import DEMOTE, PROMOTE, Budget, Candidate, choose

# A growing log is looked at again each so many requests, which then takes a few rounds.
AGAIN = 100
AGAIN_ROUNDS = 6
ROUNDS = 400
DECAY_DAYS = 7.0


@dataclass(frozen=True, slots=True)
class Played:
    """How a policy did: for each request whether each of its memories was held, and what was written after it.

    `bytes` is the most that was held at once.
    """

    held: tuple[tuple[bool, ...], ...]
    written: tuple[tuple[str, ...], ...]
    bytes: int

    @property
    def hits(self) -> int:
        return sum(sum(one) for one in self.held)

    @property
    def writes(self) -> int:
        return sum(map(len, self.written))

    @property
    def hit_rate(self) -> float:
        """The share of uses that were not read as text."""
        return self.hits / max(1, sum(map(len, self.held)))


@dataclass(slots=True)
class _Known:
    """What is known of one memory at a request: uses, the day of the last one, and heat by half-life as of that day."""

    uses: int = 0
    day: float = 0.0
    heat: dict[float, float] = field(default_factory=dict)

    def at(self, half_life: float, day: float) -> float:
        return float(self.heat.get(half_life, 0.0) * 0.5 ** ((day - self.day) / half_life))

    def use(self, day: float) -> None:
        self.heat = {one: self.at(one, day) + 1.0 for one in {*HALF_LIVES, DECAY_DAYS, indicators.USUAL_HALF_LIFE_DAYS}}
        self.uses, self.day = self.uses + 1, day


@dataclass(slots=True)
class _Player:
    """A policy at work on one trace."""

    prices: Mapping[str, Price]
    policy: Policy
    setting: Setting
    budget: Budget
    known: dict[str, _Known] = field(default_factory=dict)
    learner: Learner = field(default_factory=Learner)
    held: dict[str, None] = field(default_factory=dict)

    def decide(self, ids: Sequence[str], day: float) -> tuple[str, ...]:
        """What is written after a request for these memories."""
        looked = [self._candidate(one, day) for one in dict.fromkeys([*self.held, *ids])]
        made = []
        for choice in choose(looked, self.policy, self.setting, budget=self.budget):
            if choice.verdict == PROMOTE:
                self.held[choice.candidate.id] = None
                made.append(choice.candidate.id)
            elif choice.verdict == DEMOTE:
                del self.held[choice.candidate.id]
        return tuple(made)

    def look_again(self, ids: Sequence[str], day: float, told: Sequence[Event]) -> None:
        """Learns from a request, and now and then from all that is told."""
        self.learner.see(ids, day)
        outlook = self.learner.outlook(day, rounds=AGAIN_ROUNDS if told else 0)
        half_life = indicators.half_life_of(told) if told else self.setting.half_life_days
        self.setting = replace(self.setting, half_life_days=half_life, log_days=day, outlook=outlook)

    def _candidate(self, one: str, day: float) -> Candidate:
        said = self.known[one]
        standing = Standing(
            uses=said.uses, heat=said.at(self.setting.half_life_days, day), warmth=said.at(DECAY_DAYS, day),
            idle_days=day - said.day, similarity=0.0, held=one in self.held, price=self.prices[one],
            heats=self.learner.heat_of(one, day),
        )  # fmt: skip
        return Candidate("", one, standing, stay_days=math.inf)


def play(
    trace: Sequence[Event], prices: Mapping[str, Price], policy: Policy, *, name: str = COST, budget_bytes: int
) -> Played:
    """What a policy does on a trace, oldest request first, with room for so many bytes.

    Policies that know no costs are played as they are in books: all that is used is taken in, and what is worth least
    goes.
    """
    setting = Setting(rent=0.0, floor=1.0 if name == COST else 0.0, stickiness=0.0)
    player = _Player(prices, policy, setting, Budget(bytes=budget_bytes))
    held, written, most = [], [], 0
    first = trace[0].age_days if trace else 0.0
    for number, event in enumerate(trace):
        day = first - event.age_days
        held.append(tuple(one in player.held for one in event.ids))
        for one in dict.fromkeys(event.ids):
            player.known.setdefault(one, _Known()).use(day)
        player.look_again(event.ids, day, trace[: number + 1] if number % AGAIN == AGAIN - 1 else ())
        written.append(player.decide(event.ids, day))
        most = max(most, sum(prices[one].bytes for one in player.held))
    return Played(tuple(held), tuple(written), most)


def seconds_of(played: Played, trace: Sequence[Event], prices: Mapping[str, Price]) -> tuple[float, float]:
    """Seconds of reading and of writing, at these prices."""
    reading = sum(
        prices[one].read_seconds if held else prices[one].plain_seconds
        for event, marks in zip(trace, played.held, strict=True)
        for one, held in zip(event.ids, marks, strict=True)
    )
    return reading, sum(prices[one].write_seconds for made in played.written for one in made)


def bound(trace: Sequence[Event], prices: Mapping[str, Price], *, budget_bytes: int, rounds: int = ROUNDS) -> float:
    """Seconds that nobody can do better than, writing included, who has room for so many bytes."""
    uses: dict[str, list[int]] = {}
    for number, event in enumerate(trace):
        for one in dict.fromkeys(event.ids):
            if prices[one].bytes <= budget_bytes:
                uses.setdefault(one, []).append(number)
    reading = sum(prices[one].plain_seconds for event in trace for one in event.ids)
    most = _most_saved(uses, prices, len(trace), budget_bytes, rounds)
    return reading - most


def _most_saved(
    uses: Mapping[str, Sequence[int]], prices: Mapping[str, Price], requests: int, room: int, rounds: int
) -> float:
    """The least dual value that is found: no plan saves more."""
    cost = [0.0] * requests
    best = math.inf
    # a first guess of how far to go: what a byte is worth to the one it is worth most to
    worth = max((price.saved_seconds / max(1, price.bytes) for price in prices.values()), default=0.0)
    for turn in range(rounds):
        total, load = 0.0, [0] * (requests + 1)
        sums = [0.0, *accumulate(cost)]
        for one, places in uses.items():
            total += _hold(places, prices[one], cost, sums, load)
        value = total + room * sums[-1]
        best = min(best, value)
        step = worth / (1.0 + turn) ** 0.7
        used = accumulate(load)
        cost = [max(0.0, price + step * (held - room) / max(1, room)) for price, held in zip(cost, used, strict=False)]
    return max(0.0, best)


def _hold(places: Sequence[int], price: Price, cost: Sequence[float], sums: Sequence[float], load: list[int]) -> float:
    """The best that one memory can do at these prices of room, which adds what it then takes to `load` (as changes).

    Held at a request it saves; to be held it was written before, or was held at the request for it before and paid for
    the room since.
    """
    saved, size = price.saved_seconds, price.bytes
    inside, outside = -math.inf, 0.0
    # for each place whether being held there goes on from the one before, and whether being out does
    stays, leaves = [], []
    before = -1
    for place in places:
        begun = outside - price.write_seconds - size * cost[place]
        gone_on = inside - size * (sums[place + 1] - sums[before + 1]) if before >= 0 else -math.inf
        stays.append(gone_on > begun)
        leaves.append(inside > outside)
        inside, outside = saved + max(begun, gone_on), max(outside, inside)
        before = place
    held = inside > outside
    value = max(inside, outside)
    for number in range(len(places) - 1, -1, -1):
        if not held:
            held = leaves[number]
            continue
        start = places[number - 1] + 1 if stays[number] else places[number]
        load[start] += size
        load[places[number] + 1] -= size
        held = stays[number]
    return value
