"""Links among what a question found: what the best mention is raised a little, and what belongs together stands so.

A mention raises a candidate by WEIGHT at most, so a link moves what is close and never finds what nothing else speaks
for. What contradicts a better hit comes right after it, and so does what it superseded. Knows nothing of files and of
who asks: the candidates are what may be seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253  this file computes

from memos_cli.cube.links import CONTRADICTS, MENTIONS
from memos_cli.operation.fuse import Fused, reorder

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.operation.hits import Hit
    from memos_cli.operation.signals import Found

# The best candidates whose links count, and what a link adds at most.
BEST, WEIGHT = 5, 0.25


@dataclass(slots=True)
class Edges:
    """The links of one table, as recall asks for them; made once for many questions."""

    mentions: Sequence[tuple[str, str, float]] = ()
    contradicts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _beside: dict[int, dict[int, float]] | None = None

    @classmethod
    def of(cls, rows: pa.Table) -> Edges:
        """The links of a table as the format has it."""
        names = ("from_id", "to_id", "kind", "weight")
        found = list(zip(*(rows[name].to_pylist() for name in names), strict=True))
        against: dict[str, set[str]] = defaultdict(set)
        for one, other, kind, _ in found:
            if kind == CONTRADICTS:
                against[one].add(other)
                against[other].add(one)
        mentions = [(one, other, weight) for one, other, kind, weight in found if kind == MENTIONS]
        return cls(mentions, {one: frozenset(others) for one, others in against.items()})

    def beside(self, places: Mapping[str, int]) -> Mapping[int, Mapping[int, float]]:
        """By the place of a row, the places of those that it mentions or is mentioned by, and how surely."""
        if self._beside is None:
            self._beside = defaultdict(dict)
            for one, other, weight in self.mentions:
                if one in places and other in places:
                    self._beside[places[one]][places[other]] = weight
                    self._beside[places[other]][places[one]] = weight
        return self._beside


def raised(fused: Fused, found: Sequence[Found], edges: Sequence[Edges | None]) -> Fused:
    """The candidates with a share `linked` for those that mention one of the best, or that one of these mentions."""
    share = np.zeros(len(fused))
    for number, (each, links) in enumerate(zip(found, edges, strict=True)):
        # a large table is not held, and neither are its ids
        if links is None or not links.mentions or not each.scope.holding.held:
            continue
        beside = links.beside(each.scope.holding.places)
        mine = {int(fused.place[i]): int(i) for i in np.flatnonzero(fused.pool == number)}
        for place, i in mine.items():
            for other, weight in beside.get(place, {}).items() if i < BEST else ():
                if other in mine:
                    share[mine[other]] = max(share[mine[other]], WEIGHT * weight)
    if not share.any():
        return fused
    score = fused.score + share
    more = Fused(fused.pool, fused.place, score, {**fused.shares, "linked": share})
    return reorder(more, np.argsort(-score, kind="stable"))


def together(hits: Iterable[Hit], against: Mapping[str, Collection[str]], heirs: Mapping[str, str]) -> tuple[Hit, ...]:
    """The hits with what contradicts a better one right behind it, and what was superseded behind its heir.

    `against` are ids by id, `heirs` the id that superseded each.
    """
    waiting = list(hits)
    waited: set[str] = set()
    done: list[Hit] = []
    while waiting:
        first = waiting.pop(0)
        place = next((i for i, hit in enumerate(waiting) if hit.id == heirs.get(first.id)), -1)
        if place >= 0 and first.id not in waited:
            # it comes right after its heir; once, for two may name each other
            waited.add(first.id)
            waiting.insert(place + 1, first)
            continue
        done.append(first)
        beside = [hit for hit in waiting if hit.id in against.get(first.id, ())]
        waiting = [*beside, *(hit for hit in waiting if hit not in beside)]
    return tuple(done)
