"""From text to parameter memory: choose what can be taught, teach it, examine it, keep or refuse.

A memory that the model knows already is not taught, one that it cannot answer about with the text before it cannot be.
Of what is taught each question counts only if its answer stands in the memory, the model answers it rightly with the
text and wrongly without. The adapter that comes out is examined in wordings that it was not taught in, and on what must
have stayed as it was. Works on memories and a model; knows no cube.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.errors import CheckFailed
from memos_cli.operation import answer as answers
from memos_cli.operation import retention
from memos_cli.operation.activate import Activations, Given
from memos_cli.operation.convert import Kept
from memos_cli.operation.probes import DEV, MOST, TEST, TRAIN, Probe, chosen, probes_of, self_study
from memos_cli.operation.tutor import Tutor
from memos_cli.runtime import train
from memos_cli.runtime.generate import chat_ids
from memos_cli.runtime.spans import prompt_of
from memos_cli.runtime.train import Lessons, Target, Turn

if TYPE_CHECKING:
    import torch

KNOWN, DISTILLED, UNTEACHABLE = "known", "distilled", "unteachable"
# Of a memory's questions so many must be left to teach and to examine with.
FEWEST = {TRAIN: 2, TEST: 1}
MOSTLY = 0.5
# Of the questions an adapter was taught so many are asked whenever it is put on a model; the name of what they give.
TRIED, TRIAL = 12, "trial"
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is taught or examined with: without its text, after it, and the tokens of the answer."""

    probe: Probe
    bare: tuple[int, ...]
    reading: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def turn(self) -> Turn:
        """The question without its text, and the answer."""
        return Turn(self.bare, self.answer)


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to become of a memory, why, and the questions that count; `before` is the share known without it."""

    memory: Kept
    standing: str
    why: str
    asked: tuple[Asked, ...] = ()
    before: float = 0.0

    def of(self, split: str) -> list[Asked]:
        """Its questions of a split."""
        return [one for one in self.asked if one.probe.split == split]


@dataclass(frozen=True, slots=True)
class Gates:
    """What an adapter must reach to be kept: shares, and for `drift` the growth of the perplexity of other text.

    `beneath` is asked of one that stands on others: the share lost of the test questions that these answer.
    """

    recall: float = 0.90
    drift: float = 0.02
    reading: float = 0.01
    obey: float = 0.95
    asserts: float = 0.05
    beneath: float = 0.05

    def failures(self, found: Mapping[str, float]) -> list[str]:
        """What falls short, in words; none when all is well."""
        told = (
            ("recall", found["recall"] >= self.recall, f"at least {self.recall:g}"),
            ("drift", found["drift"] <= self.drift, f"at most {self.drift:g}"),
            ("reading", found["reading"] <= self.reading, f"at most {self.reading:g}"),
            ("obey", found["obey"] >= self.obey, f"at least {self.obey:g}"),
            ("asserts", found["asserts"] <= self.asserts, f"at most {self.asserts:g}"),
            ("beneath", found.get("beneath", 0.0) <= self.beneath, f"at most {self.beneath:g}"),
        )
        return [f"{_NAMES[name]} is {found[name]:.3f}, the gate is {bar}" for name, passed, bar in told if not passed]


_NAMES = {
    "recall": "recall in other wordings", "drift": "the growth of other text's perplexity",
    "reading": "the loss of accuracy on other texts", "obey": "the share of contradicting texts obeyed",
    "asserts": "the share of untaught questions answered",
    "beneath": "the share lost of what the adapters beneath it answer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exam:
    """What an adapter is examined on, and how the model did before it: on other text, and on texts that it reads."""

    judged: Sequence[Judged]
    kept: retention.Kept
    perplexity: float
    read: float


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found: the figures by name, and for each memory the share of its questions answered without the text."""

    figures: dict[str, float]
    memories: dict[str, float]


# --- what can be taught


def triage(
    tutor: Tutor,
    memories: Iterable[Kept],
    *,
    seed: int = 0,
    extra: Callable[[Kept], Sequence[Probe]] = lambda memory: (),
    progress: Progress | None = None,
) -> list[Judged]:
    """What is to become of each memory; `extra` are questions that somebody else wrote about it."""
    told = list(memories)
    found = []
    for number, memory in enumerate(told, 1):
        found.append(judge(tutor, memory, extra(memory), seed=seed))
        if progress:
            progress(number, len(told), "memories asked about")
    return found


def judge(tutor: Tutor, memory: Kept, extra: Sequence[Probe], *, seed: int) -> Judged:
    """What is to become of one memory."""
    line = answers.line_of(memory)
    probes = [*probes_of(memory.id, line, kind=memory.kind, section=memory.section, seed=seed), *extra]
    if not tutor.traits.spans:
        probes += self_study(memory.id, line, lambda text: tutor.said(chat_ids(tutor.model, text)))
    # some will be found wrong, so more are asked than are kept
    probes = chosen(probes, most={split: 2 * most for split, most in MOST.items()})
    if not probes:
        return Judged(memory, UNTEACHABLE, "no value, date or name in it that a question could ask for")
    asked = [one for one in _asked(tutor, memory, probes) if one is not None]
    if not asked:
        return Judged(memory, UNTEACHABLE, "the model does not answer about it even when it reads it")
    without = tutor.right([one.turn for one in asked])
    left = [one for one, right in zip(asked, without, strict=True) if not right]
    before = 1 - len(left) / len(asked)
    if before > MOSTLY:
        return Judged(memory, KNOWN, "the model answers about it without reading it", before=before)
    kept = chosen([one.probe for one in left])
    left = [one for one in left if one.probe in kept]
    short = [split for split, fewest in FEWEST.items() if sum(one.probe.split == split for one in left) < fewest]
    if short:
        return Judged(memory, UNTEACHABLE, "too few questions about it that the model answers when it reads it")
    return Judged(memory, DISTILLED, "", tuple(left), before)


def _asked(tutor: Tutor, memory: Kept, probes: Sequence[Probe]) -> Iterator[Asked | None]:
    """The questions that the model answers rightly with the memory before them."""
    reading = [tutor.reading(probe.question, [memory]) for probe in probes]
    found = tutor.answers_to(reading, [probe.answer for probe in probes])
    for probe, prompt, answer in zip(probes, reading, found, strict=True):
        yield Asked(probe, tutor.bare(probe.question), prompt, answer) if answer else None


# --- teaching


def lessons(tutor: Tutor, judged: Sequence[Judged], kept: retention.Kept, *, teacher: Rows | None = None) -> Lessons:
    """What is taught and what must stay, with what the model finds likely now."""
    taught = [one for memory in judged for one in memory.of(TRAIN)]
    reads = teacher or (lambda asked: tutor.rows([Turn(one.reading, one.answer) for one in asked]))
    return Lessons(
        taught=[train.target_of(one.turn, rows) for one, rows in zip(taught, reads(taught), strict=True)],
        generic=_targets(tutor, kept.generic),
        reading=_targets(tutor, [*kept.reading, *kept.contrary]),
        neighbours=_targets(tutor, kept.untaught),
        beneath=_targets(tutor, kept.beneath),
    )


Rows = Callable[[Sequence[Asked]], "Iterator[torch.Tensor]"]


def stored_rows(
    tutor: Tutor, reader: Activations, memories: Mapping[str, Kept], folder: Path, asked: Sequence[Asked]
) -> Iterator[torch.Tensor]:
    """What the model finds likely with a memory's cache in the place of its text: [answer, vocabulary] for each.

    Raises CheckFailed for a memory whose cache cannot be used.
    """
    for one in asked:
        memory = memories[one.probe.memory]
        line = answers.line_of(memory)
        told = answers.prompt_for(
            one.probe.question, [memory], spans=tutor.traits.spans, unknown=tutor.traits.unknown
        )  # fmt: skip
        prompt = prompt_of(tutor.model, told.user, system=told.system, texts=[line])
        rows = reader.rows(prompt, Given(memory.id, line, folder), one.answer)
        if isinstance(rows, str):
            raise CheckFailed(f"{memory.id} has no activation memory to teach from: {rows}", hint="memos convert CUBE")
        yield rows


def _targets(tutor: Tutor, turns: Sequence[Turn]) -> list[Target]:
    return [train.target_of(turn, rows) for turn, rows in zip(turns, tutor.rows(turns), strict=True)]


def known_share(student: Tutor, judged: Sequence[Judged], *, thorough: bool = False) -> float:
    """The share of memories of whose dev questions the student is sure of most; test questions are not looked at.

    When it is to be thorough, no more than what the share of all dev questions comes to of what the gate asks for: of
    two memories a third of the questions may be wrong, and most of each be right.
    """
    asked = [(memory.of(DEV) or memory.of(TRAIN)[:2]) for memory in judged]
    sure = student.sure([one.turn for each in asked for one in each])
    left = iter(sure)
    mostly = [sum(next(left) for _ in each) > MOSTLY * len(each) for each in asked]
    share = sum(mostly) / max(1, len(mostly))
    return min(share, _share(sure) / Gates().recall) if thorough else share


# --- examining


def trial(student: Tutor, judged: Sequence[Judged]) -> float:
    """The share of the first TRIED questions it was taught that the student answers: what a load is compared with."""
    asked = [one.turn for memory in judged for one in memory.of(TRAIN)][:TRIED]
    return round(_share(student.right(asked)), 4)


def exam(tutor: Tutor, judged: Sequence[Judged], kept: retention.Kept) -> Exam:
    """An examination of what is about to be taught, from a model that has not learned it."""
    taught = [one for one in judged if one.standing == DISTILLED]
    return Exam(taught, kept, _perplexity(tutor, kept.generic), _share(tutor.right(kept.reading)))


def examine(student: Tutor, exam: Exam) -> Examined:
    """How the student does on test wordings, and on what must have stayed."""
    tests, kept = [(memory.memory.id, memory.of(TEST)) for memory in exam.judged], exam.kept
    right = iter(student.right([one.turn for _, each in tests for one in each]))
    by_memory = {name: sum(next(right) for _ in each) / len(each) for name, each in tests}
    count = sum(len(each) for _, each in tests)
    recall = sum(by_memory[name] * len(each) for name, each in tests) / max(1, count)
    figures = {
        "recall": recall,
        "questions": float(count),
        "drift": _perplexity(student, kept.generic) / exam.perplexity - 1,
        "reading": exam.read - _share(student.right(kept.reading)),
        "obey": _share(student.right(kept.contrary)),
        "asserts": _asserted(student, kept.untaught, exam.judged),
    }
    if kept.beneath:
        figures["beneath"] = 1 - _share(student.right(kept.beneath))
    return Examined({name: float(f"{value:.6g}") for name, value in figures.items()}, by_memory)


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 1.0


def _perplexity(tutor: Tutor, turns: Sequence[Turn]) -> float:
    """Of plain text, a token at a time."""
    losses = [
        -rows[range(len(turn.answer)), list(turn.answer)].sum().item()
        for turn, rows in zip(turns, tutor.rows(turns), strict=True)
    ]
    return math.exp(sum(losses) / max(1, sum(len(turn.answer) for turn in turns)))


def _asserted(student: Tutor, turns: Sequence[Turn], judged: Sequence[Judged]) -> float:
    """The share of questions that nobody taught which are now answered otherwise, and with something that was taught.

    A reader that copies has nothing to say without a text, so with it any other answer counts.
    """
    changed = [turn for turn, same in zip(turns, student.right(turns), strict=True) if not same]
    if not student.traits.spans:
        values = {answers.plain(one.probe.answer) for memory in judged for one in memory.asked}
        said = [answers.plain(student.said(turn.prompt)) for turn in changed]
        changed = [turn for turn, text in zip(changed, said, strict=True) if any(value in text for value in values)]
    return len(changed) / len(turns) if turns else 0.0
