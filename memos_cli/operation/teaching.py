"""What it takes to teach a group of memories to an adapter, and what each use of it saves. Pure: values in, values out.

An adapter answers without a text, so a use of it saves what reading the text takes, or, where the text is activation
memory already, what reading that back takes. It is paid for once, by training. What training took on this machine is
known from the adapters that are there; before the first one it is reckoned from the tokens that it passes, at the speed
at which texts are read: that is the most, for a training ends early when all is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memos_cli.operation.estimate import Shape
from memos_cli.operation.policies import GIGABYTE, Setting
from memos_cli.operation.rates import Rates

# As `distill` trains by default: steps, and tokens of a step (32 each of questions, plain text, contexts and others).
STEPS, STEP_TOKENS = 450, 32 * (20 + 20 + 80 + 25)
# Forwards once and backwards twice.
PASSES = 3
RANK = 16
# float32, and what is written beside the weights.
_ELEMENT_BYTES, _BESIDE_BYTES = 4, 8192
# Memories that one adapter is taught at most.
MOST_TAUGHT = 64


@dataclass(frozen=True, slots=True)
class Lesson:
    """What teaching a group takes: seconds once, whether they were `measured` here, and the adapter's bytes."""

    seconds: float
    measured: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Pupil:
    """A memory that may be taught: uses to come, and the seconds that each saves."""

    id: str
    coming: float
    saved_each: float

    @property
    def gain(self) -> float:
        """Seconds that all its uses to come save."""
        return self.coming * self.saved_each


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a group pays: those who would be taught, what they save, and what that must be more than."""

    pupils: tuple[Pupil, ...]
    saved: float
    needed: float

    @property
    def pays(self) -> bool:
        """Whether teaching them saves more than it takes."""
        return self.saved > self.needed


def lesson(rates: Rates, shape: Shape, *, took: Sequence[float] = ()) -> Lesson:
    """What teaching takes under a model; `took` is what teaching others took here, the last one last."""
    size = shape.layers * RANK * 3 * (shape.width + shape.mlp_width) * _ELEMENT_BYTES + _BESIDE_BYTES
    if took:
        return Lesson(took[-1], True, size)
    return Lesson(PASSES * STEPS * STEP_TOKENS * _token_seconds(rates), False, size)


def _token_seconds(rates: Rates) -> float:
    """What one more token of text takes to read."""
    first, last = rates.points[0], rates.points[-1]
    if first is last:
        return first.plain_seconds / first.tokens
    return max(0.0, last.plain_seconds - first.plain_seconds) / (last.tokens - first.tokens)


def judge(pupils: Sequence[Pupil], price: Lesson, setting: Setting) -> Verdict:
    """The best group of those who gain anything, and whether it pays, with the margin of the plan."""
    best = sorted((one for one in pupils if one.gain > 0), key=lambda one: (-one.gain, one.id))[:MOST_TAUGHT]
    rent = price.bytes / GIGABYTE * setting.rent * setting.horizon_days
    return Verdict(tuple(best), sum(one.gain for one in best), price.seconds * (1 + setting.margin) + rent)
