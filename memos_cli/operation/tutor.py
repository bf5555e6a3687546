"""A model that is asked about memories: with them before the question, and without.

One asks the same questions to teach an adapter, to choose what to teach and to examine what was learned. A reader that
copies is judged by the answer's own words; any other writes an answer first, which must hold them. Knows no cube.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memos_cli.operation import answer as answers
from memos_cli.runtime import train
from memos_cli.runtime.generate import chat_ids, generate, tokenize
from memos_cli.runtime.train import Turn

if TYPE_CHECKING:
    import torch

    from memos_cli.runtime.model import Loaded, Traits

LIMIT_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Line:
    """A text as a memory that is in no cube."""

    text: str
    kind: str = "paragraph"
    speaker: str = ""
    role: str = ""
    section: str = ""
    time: None = None


@dataclass(slots=True)
class Tutor:
    """A model in memory, as it is now: with the adapters that are on it."""

    model: Loaded
    traits: Traits

    def bare(self, question: str) -> tuple[int, ...]:
        """A question with nothing before it."""
        return tuple(chat_ids(self.model, question))

    def reading(self, question: str, memories: Sequence[answers.Told]) -> tuple[int, ...]:
        """A question after memories, as it is asked in every form."""
        told = answers.prompt_for(question, memories, spans=self.traits.spans, unknown=self.traits.unknown)
        return tuple(chat_ids(self.model, told.user, system=told.system))

    @property
    def refusal(self) -> str:
        """The word by which the model says that it does not know."""
        return self.traits.unknown

    def answers_to(self, prompts: Sequence[tuple[int, ...]], wanted: Sequence[str]) -> list[tuple[int, ...] | None]:
        """For each prompt the tokens of the model's answer, where it holds the words wanted; else None."""
        if not self.traits.spans:
            return [self._written(prompt, words) for prompt, words in zip(prompts, wanted, strict=True)]
        turns = [Turn(prompt, self.coded(words)) for prompt, words in zip(prompts, wanted, strict=True)]
        right = self.right(turns)
        return [turn.answer if same else None for turn, same in zip(turns, right, strict=True)]

    def coded(self, words: str) -> tuple[int, ...]:
        """The tokens of an answer, with the one that ends it."""
        return (*tokenize(self.model, words), *self.model.ends[:1])

    def text(self, answer: Sequence[int]) -> str:
        """The words of an answer's tokens."""
        return str(self.model.tokenizer.decode(list(answer), skip_special_tokens=True)).strip()

    def _written(self, prompt: tuple[int, ...], wanted: str) -> tuple[int, ...] | None:
        said = answers.unmarked(self.said(prompt))
        held = f" {answers.plain(said)} "
        fits = said and answers.plain(wanted) in held
        return self.coded(said) if fits else None

    def said(self, prompt: Sequence[int]) -> str:
        """What the model writes after a prompt, greedily."""
        return generate(self.model, prompt, limit_tokens=LIMIT_TOKENS).text.strip()

    def right(self, turns: Sequence[Turn]) -> list[bool]:
        """Whether the model would write each turn's answer after its prompt, token by token the likeliest."""
        rows = train.chances(self.model.network, turns)
        return [train.greedy(row, turn.answer) for row, turn in zip(rows, turns, strict=True)]

    def sure(self, turns: Sequence[Turn]) -> list[bool]:
        """Whether every token of each turn's answer has a probability above one half."""
        rows = train.chances(self.model.network, turns)
        return [train.known(row, turn.answer) for row, turn in zip(rows, turns, strict=True)]

    def chance(self, asked: Sequence[tuple[str, str]]) -> float:
        """The mean probability of whole answers to questions with nothing before them."""
        turns = [Turn(self.bare(question), self.coded(answer)) for question, answer in asked]
        found = [
            float(rows[range(len(turn.answer)), list(turn.answer)].sum().exp())
            for rows, turn in zip(self.rows(turns), turns, strict=True)
        ]
        return sum(found) / max(1, len(found))

    def rows(self, turns: Sequence[Turn]) -> Iterator[torch.Tensor]:
        """The log-probabilities at each turn's answer, [answer, vocabulary]."""
        yield from train.chances(self.model.network, turns)
