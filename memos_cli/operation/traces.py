"""Traces of use to try policies with: made up in three ways from a seed, or as a log tells. Pure.

Zipf: the same few memories are asked for most, all the time. Bursts: one after another is asked for many times within a
short while, and then hardly ever again. Drift: what is asked for most moves slowly through all memories.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import accumulate

from memos_cli.errors import Usage
from memos_cli.operation.indicators import Event

ZIPF, BURSTS, DRIFT = "zipf", "bursts", "drift"
# How steep: the memory at rank r is asked for in proportion to r to minus this.
EXPONENT = 1.0
BURST_REQUESTS = 40
# A trace that is made up stands for so many days.
SPAN_DAYS = 60.0


def generate(kind: str, ids: Sequence[str], *, requests: int, seed: int = 0) -> list[Event]:
    """So many requests for one memory each, oldest first. Raises Usage for a kind that there is not."""
    if kind not in GENERATORS:
        raise Usage(f"expected a trace of {', '.join(GENERATORS)}, found {kind!r}")
    if not ids or requests < 1:
        raise Usage(f"a trace has at least one memory and one request, found {len(ids)} and {requests}")
    chance = random.Random(f"{kind} {seed}")
    order = list(ids)
    chance.shuffle(order)
    picked = GENERATORS[kind](order, requests, chance)
    step = SPAN_DAYS / requests
    return [Event(SPAN_DAYS - (number + 1) * step, (one,)) for number, one in enumerate(picked)]


def _weights(count: int) -> list[float]:
    return list(accumulate((rank + 1) ** -EXPONENT for rank in range(count)))


def _zipf(order: list[str], requests: int, chance: random.Random) -> list[str]:
    return chance.choices(order, cum_weights=_weights(len(order)), k=requests)


def _bursts(order: list[str], requests: int, chance: random.Random) -> list[str]:
    """Two of three requests are for the few of the moment; the rest are for anything."""
    found: list[str] = []
    few: list[str] = []
    for number in range(requests):
        if number % BURST_REQUESTS == 0:
            few = chance.sample(order, min(3, len(order)))
        found.append(chance.choice(few if chance.random() < 2 / 3 else order))
    return found


def _drift(order: list[str], requests: int, chance: random.Random) -> list[str]:
    """A Zipf whose order turns once around in the course of the trace."""
    weights = _weights(len(order))
    places = range(len(order))
    return [
        order[(chance.choices(places, cum_weights=weights)[0] + number * len(order) // requests) % len(order)]
        for number in range(requests)
    ]


GENERATORS: dict[str, Callable[[list[str], int, random.Random], list[str]]] = {
    ZIPF: _zipf, BURSTS: _bursts, DRIFT: _drift,
}  # fmt: skip
