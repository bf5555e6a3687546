"""Examples as token sequences: a memory once, then each question on a branch of its own.

Every branch sees the memory and itself, and its positions go on from the memory's end, so each question looks just as
it will when it is asked alone, while the memory is read once for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from memos_cli.runtime.nano.train.network import Guide
from memos_cli.runtime.nano.train.vocabulary import ASSISTANT, END, SYSTEM, USER
from memos_cli.runtime.nano.train.world import UNKNOWN, Example

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Loss weight of a token that could have been copied from before, and of a few others: they keep the copying alive.
COPIED, OTHER, OTHER_SHARE = 0.06, 0.1, 0.04
# The first token of an answer is where the right fact is chosen; the others are copied after it.
FIRST = 3.0
PADDING = -1


@dataclass(slots=True)
class Line:
    """One example in tokens. `branch` is 0 in the memory; `answer` marks what is to be answered."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branch: list[int] = field(default_factory=list)
    answer: list[bool] = field(default_factory=list)
    guides: list[tuple[str, int, list[int]]] = field(default_factory=list)

    def extend(self, ids: Sequence[int], *, branch: int, answer: bool) -> None:
        """Puts tokens at the end; a new branch starts where the memory ends."""
        last = next(
            (p for p, b in zip(reversed(self.positions), reversed(self.branch), strict=True) if b in (branch, 0)), -1
        )
        self.ids += ids
        self.positions += range(last + 1, last + 1 + len(ids))
        self.branch += [branch] * len(ids)
        self.answer += [answer] * len(ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """Ids, positions, loss weights, first answer tokens [batch, tokens] of like sequences; mask as mask_of gives."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    weights: Tensor
    first: Tensor
    guides: tuple[Guide, ...]


def _id(tokenizer: Tokenizer, name: str) -> int:
    found = tokenizer.token_to_id(name)
    if found is None:
        raise ValueError(f"expected a tokenizer with {name}, found none")
    return found


class Encoder:
    """Turns examples into sequences with a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.system, self.user, self.assistant, self.end = (
            _id(tokenizer, name) for name in (SYSTEM, USER, ASSISTANT, END)
        )

    def encode(self, example: Example, *, guided: bool = False) -> Line:
        """The tokens of an example, with guides for its facts and questions if asked for."""
        sequence = Line()
        texts = [example.memory or "", *(text for each in example.questions for text in (each.text, each.answer))]
        coded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        found: dict[int, dict[str, int]] = {}
        if example.memory is not None:
            sequence.extend([self.system, *coded[0].ids, self.end], branch=0, answer=False)
            if guided:
                found = self._guide_facts(sequence, example, coded[0])
        for number, question in enumerate(example.questions, 1):
            asked, answer = coded[2 * number - 1], coded[2 * number]
            start = len(sequence.ids) + 1
            sequence.extend([self.user, *asked.ids, self.end, self.assistant], branch=number, answer=False)
            if guided and question.fact is not None and question.subject is not None:
                place = len(sequence.ids) - 1
                _gather(sequence, place, asked, start, question.subject, (0, len(question.text)))
                sources = _NOWHERE if question.answer == UNKNOWN else found.get(id(question.fact), {})
                sequence.guides += [(name, place, [source]) for name, source in sources.items()]
            sequence.extend([*answer.ids, self.end], branch=number, answer=True)
        return sequence

    def _guide_facts(self, sequence: Line, example: Example, memory: Encoding) -> dict[int, dict[str, int]]:
        """Guides of the statements; gives where each fact is to be found, by the heads that find it.

        A statement is gathered at its value, or, where more of it comes after than before ("Lindau is where Ana
        lives"), at its last token, which is then told the value too.
        """
        found: dict[int, dict[str, int]] = {}
        for each in example.stated:
            value = _within(memory, each.value, 1)
            if each.subject is None or not value:
                continue
            named = _within(memory, each.subject, 1)
            words = [at for at in _within(memory, each.sentence, 1) if at not in named and at not in value]
            late = sum(at > value[-1] for at in words)
            if named[0] < value[0] and late <= len(words) - late:
                _gather(sequence, value[0], memory, 1, each.subject, (each.sentence[0], each.value[0]))
                found[id(each.fact)] = {"source": value[0], "source too": value[0]}
                continue
            last = max(words[-1:] + named[-1:])
            if last > value[-1]:
                _gather(sequence, last, memory, 1, each.subject, each.sentence, but=value)
                sequence.guides.append(("value", last, value[:1]))
                found[id(each.fact)] = {"source too": last}
        return found

    def repeated(self, random: Random, size: int) -> Line:
        """Random tokens twice or thrice: pure copying."""
        tokens = [random.randrange(5, size) for _ in range(random.randint(8, 64))]
        sequence = Line()
        sequence.extend(tokens, branch=0, answer=False)
        sequence.extend(tokens * random.randint(1, 2), branch=0, answer=True)
        return sequence


def _within(coded: Encoding, span: tuple[int, int], start: int) -> list[int]:
    """Positions of the tokens that overlap a span of characters; the text's first token is at `start`."""
    return [start + i for i, (a, b) in enumerate(coded.offsets) if a < span[1] and b > span[0] and b > a]


# Where the finding heads look when there is nothing to find: the first token.
_NOWHERE = {"source": 0, "source too": 0}


def _gather(
    sequence: Line, at: int, coded: Encoding, start: int, subject: tuple[int, int], sentence: tuple[int, int], *,
    but: Sequence[int] = (),
) -> None:  # fmt: skip
    named = _within(coded, subject, start)
    rest = [each for each in _within(coded, sentence, start) if each not in named and each < at and each not in but]
    sequence.guides += [(name, at, wanted) for name, wanted in (("subject", named), ("relation", rest)) if wanted]


def collate(sequences: Sequence[Line], random: Any, *, vocabulary: int) -> Batch:
    """One batch, padded to the longest. `random` is a numpy generator."""
    size = (len(sequences), max(len(each.ids) for each in sequences))
    ids, positions = numpy.zeros(size, numpy.int64), numpy.zeros(size, numpy.int64)
    branch, weights, first = numpy.full(size, PADDING), numpy.zeros(size, numpy.float32), numpy.zeros(size, bool)
    for row, each in enumerate(sequences):
        count = len(each.ids)
        ids[row, :count], positions[row, :count], branch[row, :count] = each.ids, each.positions, each.branch
        answer = numpy.array(each.answer)
        weights[row, :count] = _weights(ids[row, :count], answer, random, vocabulary)
        first[row, 1:count] = answer[1:] & ~answer[:-1]
    return Batch(
        torch.from_numpy(ids), torch.from_numpy(positions), mask_of(torch.from_numpy(branch)),
        torch.from_numpy(weights),
        torch.from_numpy(first), tuple(_guides(sequences, size[1])),
    )  # fmt: skip


def mask_of(branch: Tensor) -> Tensor:
    """What is added to attention scores [batch, 1, tokens, tokens]: zero where a token may look, else -1e9."""
    seen, looking = branch.unsqueeze(1), branch.unsqueeze(2)
    tokens = branch.shape[1]
    allowed = ((seen == 0) | (seen == looking)) & torch.ones(tokens, tokens, dtype=torch.bool).tril()
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -1e9).unsqueeze(1)


def _weights(ids: Any, answer: Any, random: Any, vocabulary: int) -> Any:
    pairs = ids[:-1] * vocabulary + ids[1:]
    _, firsts = numpy.unique(pairs, return_index=True)
    again = numpy.ones(len(pairs), bool)
    again[firsts] = False
    weights = numpy.where(answer, 1.0, 0.0)
    some = numpy.where(random.random(len(pairs)) < OTHER_SHARE, OTHER, 0.0)
    weights[1:] = numpy.maximum(weights[1:], numpy.maximum(numpy.where(again, COPIED, 0.0), some))
    weights[1:][answer[1:] & ~answer[:-1]] = FIRST
    weights[0] = 0.0
    return weights


def _guides(sequences: Sequence[Line], tokens: int) -> Iterator[Guide]:
    rows: dict[str, list[tuple[int, int, list[int]]]] = {}
    for number, each in enumerate(sequences):
        for name, at, wanted in each.guides:
            rows.setdefault(name, []).append((number, at, wanted))
    for name, found in rows.items():
        ones = torch.zeros(len(found), tokens)
        for row, (_, _, places) in enumerate(found):
            ones[row, places] = 1.0
        yield Guide(name, torch.tensor([row[0] for row in found]), torch.tensor([row[1] for row in found]), ones)


def grouped(sequences: Sequence[Line], most: int) -> Iterator[list[Line]]:
    """Sequences of like length together, at most `most` tokens a group with padding."""
    group: list[Line] = []
    for each in sorted(sequences, key=lambda each: len(each.ids)):
        if group and len(each.ids) * (len(group) + 1) > most:
            yield group
            group = []
        group.append(each)
    if group:
        yield group
