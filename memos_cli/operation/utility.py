"""Whether a memory helped: how much likelier the model's answer is with it among the memories than without it.

Measured when somebody asks for it, kept in the access log, folded into a value from -1 to 1 for each memory, and worth
at most `WEIGHT` in a ranking: what helped before stands a little higher, and nothing can rise by it alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from memos_cli.operation.answer import Told
    from memos_cli.operation.tutor import Tutor

    class Helped(Told, Protocol):
        """A memory that was given to a model."""

        @property
        def id(self) -> str: ...


# What is looked at of one answer: more would cost as many passes.
MOST = 3
# Of a gain, in nats a token of the answer, no more is believed.
LARGEST = 5.0
# So many uses of no gain are taken to have been there before the first.
PRIOR = 2.0
WEIGHT = 0.5


def gains(tutor: Tutor, question: str, memories: Sequence[Helped], answer: str) -> dict[str, float]:
    """By how many nats a token each of the first memories made the answer likelier; below 0 where it stood in the way.

    Each is left out in its turn while the others stay.
    """
    from memos_cli.runtime.train import Turn

    coded = tutor.coded(answer)
    if not memories or len(coded) < 2:
        return {}
    first = list(memories[:MOST])
    ways = [list(memories), *([one for one in memories if one.id != left.id] for left in first)]
    prompts = [tutor.reading(question, way) if way else tutor.bare(question) for way in ways]
    likely = [
        float(rows[range(len(coded)), list(coded)].mean()) for rows in tutor.rows([Turn(one, coded) for one in prompts])
    ]
    return {
        one.id: round(max(-LARGEST, min(LARGEST, likely[0] - without)), 4)
        for one, without in zip(first, likely[1:], strict=True)
        if math.isfinite(likely[0] - without)
    }


def fold(told: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """What a memory is worth by all its gains, from -1 to 1: their mean, held back while there are few."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for one in told:
        for memory, gain in one.items():
            sums[memory] = sums.get(memory, 0.0) + max(-LARGEST, min(LARGEST, gain))
            counts[memory] = counts.get(memory, 0) + 1
    return {
        memory: round(math.tanh(total / counts[memory]) * counts[memory] / (counts[memory] + PRIOR), 4)
        for memory, total in sums.items()
    }
