"""What an adapter says when it is asked: facts out of weights, with an estimate of how many of them are made up.

Nothing comes out of an adapter that is not asked for, so whom and what to ask about is given. Beside each such question
go others whose answer nobody taught (decoys): the same things asked of names that are in no memory, some in the
likeness of those that are, and other things asked of the same names. What the adapter says to these tells how much of
the rest is made up: the threshold is the least probability at which the estimated share of false facts is what was
allowed (target-decoy estimate of the false discovery rate, doi 10.1038/nmeth1019, with one false fact more than was
seen). Works on a model in memory; knows no cube.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from memos_cli.operation.answer import plain
from memos_cli.operation.facts import wordings
from memos_cli.operation.probes import TEST, pool
from memos_cli.operation.retention import alike
from memos_cli.runtime.train import Turn

if TYPE_CHECKING:
    from memos_cli.operation.tutor import Tutor
    from memos_cli.runtime.adapter import Adapted

# What a question is for: a fact that may be there, one of a name that nobody taught, one of a thing that nobody taught.
TARGET, STRANGER, UNHEARD = "target", "stranger", "unheard"
# Of so many wordings, none of which was trained, so many must be answered alike.
WORDINGS, AGREEING = 3, 2
LEAST_CHANCE = 0.5
# The adapter must have made it twice as likely, or it is what the model says anyway.
LEAST_GAIN = math.log(2)
MOST_ANSWER_TOKENS = 24
# Strangers per allowed false fact in one: fewer could not show a rate as small as is asked for.
STRANGERS_PER_RATE = 2
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to ask of one name, in several wordings; `kind` is what the question is for."""

    subject: str
    relation: str
    kind: str = TARGET

    def questions(self) -> list[str]:
        """The wordings, the first letter large."""
        said = [one.format(s=self.subject, r=self.relation) for one in wordings()["noun"][TEST][:WORDINGS]]
        return [one[0].upper() + one[1:] for one in said]


@dataclass(frozen=True, slots=True)
class Heard:
    """What was answered alike in most wordings.

    `chance` is the mean probability of the answer, `gain` by how much the adapter raises its logarithm (in nats, mean
    over the wordings), `agree` in how many wordings it was said, `question` the first of these.
    """

    ask: Ask
    value: str
    chance: float
    gain: float
    agree: int
    question: str


@dataclass(frozen=True, slots=True)
class Sifted:
    """What is kept at a threshold (None: at none), and the estimated share of it that is false.

    `outdone` are the targets whose value is likelier for another question.
    """

    kept: tuple[Heard, ...]
    threshold: float | None
    rate: float
    targets: int
    decoys: int
    decoys_heard: int
    heard: int
    outdone: int


def asks(
    subjects: Sequence[str], relations: Sequence[str], *, rate: float, apart: Collection[str] = (), seed: int = 0
) -> list[Ask]:
    """What to ask: every relation of every subject, with decoys. `apart` are names that no decoy may have."""
    random = Random(f"elicit {seed}")
    taken = {plain(one) for one in (*subjects, *apart)}
    count = max(len(subjects), math.ceil(STRANGERS_PER_RATE / rate))
    strange = _strangers(subjects, taken, count, random)
    heard = {plain(one) for one in relations}
    other = [one for one in pool(TEST)["relations"] if plain(one) not in heard]
    return [
        *(Ask(subject, relation) for subject in subjects for relation in relations),
        *(Ask(subject, relation, STRANGER) for subject in strange for relation in relations),
        *(Ask(subject, relation, UNHEARD) for subject in subjects for relation in other),
    ]


def _strangers(subjects: Sequence[str], taken: set[str], count: int, random: Random) -> list[str]:
    """Names of nobody: as far as there are so many, one half in the likeness of the subjects, the other of a pool."""
    told = pool(TEST)
    drawn = [f"{first} {last}" for first in told["firsts"] for last in told["lasts"]]
    likenesses = [alike(one, other) for one in subjects for other in subjects if one != other]
    found: dict[str, str] = {}
    for names, limit in ((likenesses, count // 2), (drawn, count)):
        for name in random.sample(names, len(names)):
            if len(found) < limit and plain(name) not in taken:
                found.setdefault(plain(name), name)
    return list(found.values())


# --- asking


def hear(tutor: Tutor, adapted: Adapted, asked: Sequence[Ask], *, progress: Progress | None = None) -> list[Heard]:
    """What the model with its adapters says to each question, where most wordings agree, against it without them."""
    drafts = [_Draft(ask, ask.questions()) for ask in asked]
    for number in range(WORDINGS):
        # two that are not answered leave too few to agree
        open_ = [one for one in drafts if number - len(one.said) <= WORDINGS - AGREEING]
        answers = said(tutor, [tutor.bare(one.questions[number]) for one in open_])
        for draft, tokens in zip(open_, answers, strict=True):
            draft.hear(tutor, number, tokens)
        if progress:
            progress(number + 1, WORDINGS + 1, "wordings asked")
    found = [one for one in drafts if one.agreed()]
    turns = [Turn(tutor.bare(question), one.coded) for one in found for question in one.questions]
    with_it = _chances(tutor, turns)
    with adapted.off():
        without = _chances(tutor, turns)
    if progress:
        progress(WORDINGS + 1, WORDINGS + 1, "answers weighed")
    return [
        one.heard(with_it[at : at + WORDINGS], without[at : at + WORDINGS])
        for at, one in zip(range(0, len(turns), WORDINGS), found, strict=True)
    ]


@dataclass(slots=True)
class _Draft:
    """An ask and the answers so far, by the number of their wording."""

    ask: Ask
    questions: list[str]
    said: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    value: str = ""
    coded: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()

    def hear(self, tutor: Tutor, number: int, tokens: tuple[int, ...] | None) -> None:
        """Notes an answer that says something: not that it does not know, and nothing of the question."""
        text = tutor.text(tokens or ())
        says_nothing = plain(text) in ("", plain(tutor.refusal)) or plain(text) in plain(self.questions[number])
        if tokens and not says_nothing:
            self.said[number] = (text, (*tokens, *tutor.model.ends[:1]))

    def agreed(self) -> bool:
        """Whether most wordings were answered alike; then that is its value."""
        counts = Counter(plain(text) for text, _ in self.said.values())
        best, count = counts.most_common(1)[0] if counts else ("", 0)
        if count < AGREEING:
            return False
        self.numbers = tuple(number for number, (text, _) in self.said.items() if plain(text) == best)
        self.value, self.coded = self.said[self.numbers[0]]
        return True

    def heard(self, with_it: Sequence[float], without: Sequence[float]) -> Heard:
        """The answer with its weight; log-probabilities of it in each wording, with the adapters and without."""
        chance = sum(map(math.exp, with_it)) / len(with_it)
        gain = sum(on - off for on, off in zip(with_it, without, strict=True)) / len(with_it)
        return Heard(self.ask, self.value, chance, gain, len(self.numbers), self.questions[self.numbers[0]])


def said(tutor: Tutor, prompts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...] | None]:
    """What the model writes after each prompt, always the likeliest token; None for what does not end in time.

    All prompts go on together, a token a pass: most are answered with one word, and a pass over many is cheap.
    """
    written: list[list[int]] = [[] for _ in prompts]
    going = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    for _ in range(MOST_ANSWER_TOKENS):
        # what follows on the last token cannot change what is likely after the prompt
        turns = [Turn((*prompts[number], *written[number]), (0,)) for number in going]
        following = [int(rows[0].argmax()) for rows in tutor.rows(turns)]
        for number, token in zip(going, following, strict=True):
            written[number].append(token)
        going = [number for number in going if written[number][-1] not in tutor.model.ends]
    open_ = set(going)
    return [None if number in open_ else tuple(tokens[:-1]) for number, tokens in enumerate(written)]


def _chances(tutor: Tutor, turns: Sequence[Turn]) -> list[float]:
    """The log-probability of each answer, whole."""
    return [
        float(rows[range(len(turn.answer)), list(turn.answer)].sum())
        for turn, rows in zip(turns, tutor.rows(turns), strict=True)
    ]


# --- what to believe


def sift(asked: Sequence[Ask], heard: Sequence[Heard], *, rate: float) -> Sifted:
    """What is kept: the most at which the estimated share of false facts is at most `rate`.

    Ranked by how likely they are, not by how much likelier they were made: that grows with the length of an answer. A
    value that is said to several questions is believed of the one it is likeliest for, decoys included: what was taught
    of one name is said of others, and of other things, before anything is made up.
    """
    sure = [one for one in heard if one.chance >= LEAST_CHANCE and one.gain >= LEAST_GAIN]
    best = _best(sure)
    counts = Counter(one.kind for one in asked)
    decoys = counts[STRANGER] + counts[UNHEARD]
    targets = sorted((one for one in best if one.ask.kind == TARGET), key=lambda one: -one.chance)
    false = [one for one in best if one.ask.kind != TARGET]
    threshold, estimate = None, 0.0
    for one in targets:
        found = _estimate(targets, false, counts, one.chance)
        if found <= rate:
            threshold, estimate = one.chance, found
    kept = tuple(one for one in targets if threshold is not None and one.chance >= threshold)
    outdone = sum(one.ask.kind == TARGET for one in sure) - len(targets)
    return Sifted(kept, threshold, estimate, counts[TARGET], decoys, len(false), len(targets), outdone)


def _estimate(targets: Sequence[Heard], false: Sequence[Heard], counts: Counter[str], least: float) -> float:
    """The share of the targets at least this likely that are false: by the worse kind of decoy, and one more."""
    hits = Counter(one.ask.kind for one in false if one.chance >= least)
    worst = max((hits[kind] / counts[kind] for kind in (STRANGER, UNHEARD) if counts[kind]), default=1.0)
    more = 1 / max(1, counts[STRANGER] + counts[UNHEARD])
    return min(1.0, counts[TARGET] * (worst + more) / sum(one.chance >= least for one in targets))


def _best(heard: Sequence[Heard]) -> list[Heard]:
    """For each value the question it is likeliest for."""
    found: dict[str, Heard] = {}
    for one in heard:
        key = plain(one.value)
        if key not in found or found[key].chance < one.chance:
            found[key] = one
    return list(found.values())


# --- whom and what to ask about


def named(question: str) -> tuple[str, str] | None:
    """Subject and relation of a question in one of our own wordings; None for any other."""
    for pattern in _patterns():
        if match := pattern.fullmatch(question):
            return match["s"].strip(), match["r"].strip()
    return None


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """The wordings as patterns, those that say most of their own first."""
    all_ = [wording for split in wordings()["noun"].values() for wording in split]
    return tuple(_pattern(one) for one in sorted(all_, key=len, reverse=True))


def _pattern(wording: str) -> re.Pattern[str]:
    text = re.escape(wording).replace(r"\{s\}", "(?P<s>.+)").replace(r"\{r\}", "(?P<r>.+?)")
    return re.compile(text, re.IGNORECASE)


def distinct(names: Sequence[str]) -> Iterator[str]:
    """Each name once, as it was first written; empty ones are left out."""
    seen: set[str] = set()
    for name in (" ".join(one.split()) for one in names):
        if plain(name) and plain(name) not in seen:
            seen.add(plain(name))
            yield name
