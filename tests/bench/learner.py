"""How well one can do on a Zipf trace who has to learn which memory is which, and is told everything else.

Told are how often each rank is asked for, how long the trace is, and what room is worth; not told is who has which.
What is known of a memory is how often it was asked for so far, so the chance of its next use is that of the ranks it
may have, each by how likely it makes what was seen. When to make a memory and when to let it go is then dynamic
programming, from the end of the trace backwards, at a price for room; when more is wanted than there is room for, those
come first that gain most for it. Several prices are tried, and the best for these traces is kept. So this is no bound
(it looks at each memory by itself, and one may learn from all at once), but nobody who has to learn is told as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np  # noqa: TID253

from memos_cli.operation.indicators import Event
from memos_cli.operation.policies import Price

# What a byte is worth at a request, over what the mean memory saves there for a byte.
PRICES = (0.4, 0.6, 0.8, 1.0, 1.4, 2.0)
# Who was asked for so often is known well enough.
MOST_USES = 160


@dataclass(frozen=True, slots=True)
class Gains:
    """After each request, by memory and uses so far: what making it gains, and what keeping it does."""

    making: np.ndarray
    keeping: np.ndarray


def seconds(
    traces: Sequence[Sequence[Event]], prices: Mapping[str, Price], *, exponent: float, budget_bytes: int
) -> list[float]:
    """The seconds of each trace, which must be of one length, at the best price for room."""
    ids = sorted(prices)
    mean = sum(one.saved_seconds for one in prices.values()) / sum(one.bytes for one in prices.values()) / len(ids)
    tried = []
    for worth in PRICES:
        gains = _plan([prices[one] for one in ids], exponent, len(traces[0]), worth * mean)
        tried.append([_play(trace, ids, prices, gains, budget_bytes) for trace in traces])
    return min(tried, key=sum)


def _plan(prices: Sequence[Price], exponent: float, requests: int, byte_seconds: float) -> Gains:
    """Arrays [requests + 1, memories, uses]: the dynamic programme, backwards."""
    ranks = np.arange(1, len(prices) + 1) ** -exponent
    chances = ranks / ranks.sum()
    saved, write, rent = (
        np.array(each)[:, None]
        for each in zip(
            *((one.saved_seconds, one.write_seconds, one.bytes * byte_seconds) for one in prices), strict=True
        )
    )
    shape = (len(prices), MOST_USES + 1)
    out, held = np.zeros(shape), np.zeros(shape)
    making, keeping = (np.zeros((requests + 1, *shape), np.float32) for _ in range(2))
    for number in range(requests - 1, -1, -1):
        stays = held - rent
        making[number + 1], keeping[number + 1] = stays - write - out, stays - out
        inside, outside = np.maximum(stays, out), np.maximum(out, stays - write)
        chance = _expected(chances, number)
        held = chance * (saved + _next(inside)) + (1 - chance) * inside
        out = chance * _next(outside) + (1 - chance) * outside
    return Gains(making, keeping)


def _next(values: np.ndarray) -> np.ndarray:
    """The same after one use more."""
    return np.concatenate([values[:, 1:], values[:, -1:]], axis=1)


def _expected(chances: np.ndarray, requests: int) -> np.ndarray:
    """[uses]: the chance that a memory is asked for next which was asked for so often in so many requests."""
    uses = np.arange(MOST_USES + 1)[:, None]
    likely = uses * np.log(chances) + (requests - uses) * np.log1p(-chances)
    weights = np.exp(likely - likely.max(axis=1, keepdims=True))
    return np.asarray(weights @ chances / weights.sum(axis=1))


def _play(
    trace: Sequence[Event], ids: Sequence[str], prices: Mapping[str, Price], gains: Gains, budget_bytes: int
) -> float:
    place = {one: number for number, one in enumerate(ids)}
    size = np.array([prices[one].bytes for one in ids])
    uses, every = np.zeros(len(ids), int), np.arange(len(ids))
    held: set[int] = set()
    spent = 0.0
    for number, event in enumerate(trace, 1):
        for name in event.ids:
            one, price = place[name], prices[name]
            spent += price.read_seconds if one in held else price.plain_seconds
            uses[one] = min(uses[one] + 1, MOST_USES)
            if one in held:
                continue
            gain = gains.keeping[number, every, uses]
            gain[one] = gains.making[number, one, uses[one]]
            left, kept = budget_bytes, set()
            for each in sorted({*held, one}, key=lambda each: -gain[each] / size[each]):
                if gain[each] > 0 and size[each] <= left:
                    kept.add(each)
                    left -= size[each]
            spent += price.write_seconds if one in kept else 0.0
            held = kept
    return spent
