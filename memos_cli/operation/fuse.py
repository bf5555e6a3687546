"""Several signals into one ranking, over candidates from one table or many.

A signal that is a list (BM25 of a column, cosines) is put on a common scale by its mean and standard deviation over
the union of the candidates, so that lists with different ranges weigh what their weight says; priors are added as
they are. Candidates are the best of every list over all tables together, so one table and its two halves give the
same candidates. Pure arrays: knows nothing of tables or questions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np  # noqa: TID253  this file computes


@dataclass(frozen=True, slots=True)
class Pool:
    """What one table offers: per signal a value for each of its rows, and which rows each list named."""

    signals: Mapping[str, np.ndarray]
    listed: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Fused:
    """Candidates, best first: the pool and place of each, its score, and each signal's share of it."""

    pool: np.ndarray
    place: np.ndarray
    score: np.ndarray
    shares: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.score)


def fuse(
    pools: Sequence[Pool],
    *,
    scaled: Mapping[str, float],
    priors: Mapping[str, float],
    depth: int,
    sparse: Collection[str] = (),
) -> Fused:
    """The union of the `depth` best of every list, ranked by the weighted sum of the signals.

    `sparse` names the lists that are zero for most rows of a table.
    """
    sizes = [len(next(iter(pool.signals.values()))) for pool in pools]
    pool = np.repeat(np.arange(len(pools)), sizes)
    place = np.concatenate([np.arange(size) for size in sizes])
    names = {*scaled, *priors}
    values = {name: np.concatenate([pool.signals[name] for pool in pools]) for name in sorted(names)}
    chosen = _best(values, _joined(pools), depth=depth)
    shares = {
        name: weight * standard(values[name][chosen], among=depth if name in sparse else 0)
        for name, weight in scaled.items()
    }
    shares |= {name: weight * values[name][chosen] for name, weight in priors.items()}
    score = sum(shares.values(), np.zeros(len(chosen)))
    return reorder(Fused(pool[chosen], place[chosen], score, shares), np.argsort(-score, kind="stable"))


def reorder(fused: Fused, order: np.ndarray) -> Fused:
    """The candidates at these places, in this order."""
    shares = {name: values[order] for name, values in fused.shares.items()}
    return Fused(fused.pool[order], fused.place[order], fused.score[order], shares)


def standard(values: np.ndarray, *, among: int = 0) -> np.ndarray:
    """Standard deviations from the mean; zeros when all are alike.

    Fewer values than `among` are taken together with as many zeros: when three rows have a rare word, having it
    should say much, though among the three it says nothing.
    """
    if not len(values):
        return values
    size = max(len(values), among)
    mean = float(values.sum()) / size
    spread = math.sqrt(max(0.0, float(values @ values) / size - mean * mean))
    scaled: np.ndarray = (values - mean) / spread if spread > 1e-9 else np.zeros(len(values))
    return scaled


def _joined(pools: Sequence[Pool]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([pool.listed[name] for pool in pools]) for name in pools[0].listed}


def _best(values: Mapping[str, np.ndarray], listed: Mapping[str, np.ndarray], *, depth: int) -> np.ndarray:
    """The places of the `depth` best of every list, in ascending order."""
    size = len(next(iter(listed.values()))) if listed else 0
    # Not np.unique, which imports numpy.ma: that would be a tenth of a cold query.
    chosen = np.zeros(size, bool)
    for name, among in listed.items():
        places = np.flatnonzero(among)
        if len(places) > depth:
            # Ties at the edge go by place, so that the order of the tables' batches does not matter.
            found = -values[name][places]
            able = np.flatnonzero(found <= np.partition(found, depth - 1)[depth - 1])
            places = places[able[np.argsort(found[able], kind="stable")[:depth]]]
        chosen[places] = True
    return np.flatnonzero(chosen)
