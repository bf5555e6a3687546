"""What a memory of so many tokens takes under a model on a machine, from a few measured sizes. Pure.

Three times decide: `t_plain`, a question with the memory's text before it; `t_read`, the same question with its
activation memory loaded; `t_write`, making that and proving it. Both of the first contain the question itself, so their
difference is what one use saves. Between measured sizes it is taken to be straight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from memos_cli.errors import Damaged
from memos_cli.operation.policies import Price

MEASURED, ESTIMATED = "measured", "estimated"
_WORDS = ("kind", "model", "weights", "machine", "made_at")


@dataclass(frozen=True, slots=True)
class Point:
    """What a memory of one size takes."""

    tokens: int
    bytes: int
    write_seconds: float
    plain_seconds: float
    read_seconds: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Points by size for one model on one machine: `measured`, or `estimated` from its shape.

    `group_seconds` is what proving several memories beside one another takes, once for all that are made together.
    """

    kind: str
    model: str
    weights: str
    machine: str
    made_at: str
    points: tuple[Point, ...]
    group_seconds: float = 0.0

    def price(self, tokens: int, *, bytes_held: int = 0) -> Price:
        """What a memory of so many tokens takes; of one that is held its bytes are known."""
        size = bytes_held or round(self._at(tokens, "bytes"))
        times = (self._at(tokens, name) for name in ("write_seconds", "plain_seconds", "read_seconds"))
        return Price(size, *times)

    def _at(self, tokens: int, name: str) -> float:
        known = [(point.tokens, float(getattr(point, name))) for point in self.points]
        return max(0.0, _along(known, tokens))


def _along(known: Sequence[tuple[int, float]], at: int) -> float:
    """The value at a place, on the line through the two known places nearest to it."""
    if len(known) == 1:
        return known[0][1]
    after = next((number for number in range(1, len(known)) if known[number][0] >= at), len(known) - 1)
    (left, low), (right, high) = known[after - 1], known[after]
    return low + (high - low) * (at - left) / (right - left)


def to_json(rates: Rates) -> dict[str, Any]:
    """Rates as JSON values."""
    return asdict(rates)


def from_json(told: object) -> Rates:
    """What `to_json` gave. Raises Damaged for anything else."""
    try:
        if not isinstance(told, Mapping):
            raise TypeError(type(told).__name__)
        points = tuple(
            Point(
                int(one["tokens"]),
                int(one["bytes"]),
                float(one["write_seconds"]),
                float(one["plain_seconds"]),
                float(one["read_seconds"]),
            )  # fmt: skip
            for one in told["points"]
        )
        kind, model, weights, machine, made_at = words = [told[name] for name in _WORDS]
        sizes = [point.tokens for point in points]
        if not sizes or sizes != sorted(set(sizes)) or not all(isinstance(word, str) for word in words):
            raise ValueError(str(sizes)[:80])
        return Rates(kind, model, weights, machine, made_at, points, float(told["group_seconds"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("expected measured costs, found something else") from error
