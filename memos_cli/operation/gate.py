"""The fidelity gate: may a memory be used as it is stored, or must its text be read?

From the figures that were measured when it was made (`runtime.fidelity`), and limits that the caller may set. Also the
questions that are asked for it: made of the memory's own words, for nobody knows yet what will be asked. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memos_cli.errors import Usage

if TYPE_CHECKING:
    from memos_cli.runtime.fidelity import Fidelity

# Calibrated on the default model (python -m tests.bench.gate): whole memories and those of 8 bits all pass, and of what
# was cut hardly anything that answers otherwise than the text.
LEAST_TOP1, LEAST_EXACT, LEAST_RECOVERED = 0.9, 0.9, 0.8
# Differences of so few roundings are none, whatever share of a small ceiling they are.
NOISE_FACTOR = 10.0
LEAST_KL = 1e-3
_SENTENCE = re.compile(r"[.!?;]\s+")
_VALUE = re.compile(r"\d[\w.,:%/-]*|[A-ZÀ-Þ][\w'’-]*(?: [A-ZÀ-Þ][\w'’-]*)*")


@dataclass(frozen=True, slots=True)
class Limits:
    """The least share of tokens and of answers that are the same, and of what the text gives that is kept."""

    top1: float = LEAST_TOP1
    exact: float = LEAST_EXACT
    recovered: float = LEAST_RECOVERED

    def check(self) -> None:
        """Raises Usage for what is no share."""
        if not (0 <= self.top1 <= 1 and 0 <= self.exact <= 1 and self.recovered <= 1):
            found = f"{self.top1:g}, {self.exact:g} and {self.recovered:g}"
            raise Usage(f"expected shares from 0 to 1 as the gate, found {found}")


def figures(found: Fidelity, *, way: str = "") -> dict[str, float]:
    """What a file keeps of a measurement; those of a way of composing begin with its name and a dot."""
    named = {
        "kl": found.memory.mean_kl, "kl_p95": found.memory.p95_kl, "kl_max": found.memory.max_kl,
        "top1": found.memory.top1, "exact": found.memory.exact, "recovered": found.recovered,
        "noise_kl": found.noise.mean_kl, "ceiling_kl": found.ceiling.mean_kl, "probes": float(found.probes),
        "first": float(min((one for one in found.memory.first if one is not None), default=-1)),
    }  # fmt: skip
    # enough digits to be compared, and no more than a text of a figure has
    return {f"{way}.{name}" if way else name: float(f"{value:.6g}") for name, value in named.items()}


def refusal(kept: Mapping[str, float], limits: Limits, *, way: str = "") -> str:
    """Why a memory with these figures must not be used so; "" when it may. One that was never measured must not."""
    names = ("kl", "noise_kl", "top1", "exact", "recovered")
    kl, noise, top1, exact, recovered = (kept.get(f"{way}.{name}" if way else name) for name in names)
    if kl is None or noise is None or top1 is None or exact is None or recovered is None:
        return f"its fidelity was not measured{f' in {way}' if way else ''}"
    if kl <= max(NOISE_FACTOR * noise, LEAST_KL) and top1 >= limits.top1:
        return ""
    if top1 < limits.top1:
        return f"{top1:.2f} of its tokens are the same as with the text, the gate is {limits.top1:g}"
    if exact < limits.exact:
        return f"{exact:.2f} of its answers are the same as with the text, the gate is {limits.exact:g}"
    if recovered < limits.recovered:
        return f"it keeps {recovered:.2f} of what the text gives, the gate is {limits.recovered:g}"
    return ""


def questions(text: str, *, heading: str = "", count: int = 1) -> list[str]:
    """Questions about a memory, in its own words: its values left out one by one, from the last, then what it is about.

    A value is a number, a date or a name; its sentence up to it is what is asked.
    """
    asked = []
    for value in reversed([found for found in _VALUE.finditer(text) if found.start() > 0]):
        before = _SENTENCE.split(text[: value.start()])[-1].strip()
        if before:
            asked.append(f"{before} what?")
    words = text.split()
    asked.append(f"What about {heading or ' '.join(words[:4]).rstrip('.,;:!?')}?")
    asked.append(f"{' '.join(words[: max(1, len(words) // 2)])} what?")
    return list(dict.fromkeys(asked))[:count]


def passing(kept: Sequence[Mapping[str, float]], ways: Sequence[str], limits: Limits) -> str | None:
    """The first of the ways in which all of these memories may be used together; None where there is none."""
    return next((way for way in ways if not any(refusal(one, limits, way=way) for one in kept)), None)
