"""How likely a model finds a memory's answers: from its text, from its cache, from an adapter, and from nothing.

The probability of the whole answer, token after token, after the prompt that the form gives it. Knows no cube; the
files come as folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memos_cli.operation import answer as answers
from memos_cli.operation.activate import Activations, Given
from memos_cli.operation.answer import line_of
from memos_cli.operation.gate import Limits
from memos_cli.operation.self_test import Asked, Kept
from memos_cli.operation.tutor import Tutor
from memos_cli.runtime.fingerprint import Fingerprint
from memos_cli.runtime.spans import prompt_of
from memos_cli.runtime.train import Turn

# What the model does not find in the text itself says nothing of a cache or an adapter.
READABLE = 0.1
# A cache or adapter is as it should be when it keeps such a share of what the text gives.
ENOUGH = 0.8


@dataclass(slots=True)
class Known:
    """A model, and how likely it gives an answer."""

    tutor: Tutor
    fingerprint: Fingerprint
    limits: Limits = Limits()
    _activations: Activations | None = field(default=None, repr=False)

    def bare(self, asked: Sequence[Asked]) -> list[float]:
        """With nothing before each question: what the model, with the adapters on it, knows by itself."""
        return self._chances([Turn(self.tutor.bare(one.question), self.tutor.coded(one.answer)) for one in asked])

    def text(self, asked: Sequence[Asked], memory: Kept) -> list[float]:
        """With the memory before each question."""
        return self._chances(
            [Turn(self.tutor.reading(one.question, [memory]), self.tutor.coded(one.answer)) for one in asked]
        )

    def cached(self, asked: Sequence[Asked], memory: Kept, folder: Path) -> list[float] | str:
        """With the memory's cache from `folder` in the place of its text, or why that cannot be used."""
        if self._activations is None:
            self._activations = Activations(self.tutor.model, self.fingerprint, self.limits)
        found = []
        given = Given(memory.id, line_of(memory), folder)
        for one in asked:
            told = answers.prompt_for(
                one.question, [memory], spans=self.tutor.traits.spans, unknown=self.tutor.traits.unknown
            )
            prompt = prompt_of(self.tutor.model, told.user, system=told.system, texts=[given.line])
            answer = self.tutor.coded(one.answer)
            rows = self._activations.rows(prompt, given, answer)
            if isinstance(rows, str):
                return rows
            found.append(float(rows[range(len(answer)), list(answer)].sum().exp()))
        return found

    def _chances(self, turns: Sequence[Turn]) -> list[float]:
        return [
            float(rows[range(len(turn.answer)), list(turn.answer)].sum().exp())
            for rows, turn in zip(self.tutor.rows(turns), turns, strict=True)
        ]


def mean(values: Sequence[float]) -> float:
    """Their mean; 0 of none."""
    return sum(values) / len(values) if values else 0.0
