"""What must stay as it was while an adapter learns: plain text, other texts that are read, questions nobody taught.

Without these terms an adapter that knows its facts answers everything with them. Made from a pool of people, things and
values that are in no cube: two thirds to train with, the rest, in other wordings, to examine with. Contexts that
contradict what is taught are among what is read: what stands in the prompt goes before what was learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from memos_cli.operation.facts import Fact, facts_of, wordings
from memos_cli.operation.probes import REVERSED, TRAIN, Probe, pool
from memos_cli.operation.tutor import Line, Tutor
from memos_cli.runtime.generate import tokenize
from memos_cli.runtime.train import Turn

if TYPE_CHECKING:
    from memos_cli.operation.answer import Told

SAYINGS = ("The {r} of {s} is {v}.", "{s}'s {r} is {v}.", "{s} > {r}: {v}", "{s}, {r}: {v}", "{r} of {s}: {v}")
MOST_BESIDE = 4
PEOPLE = 0.75
# A prompt, and the words that answer it.
Asking = tuple[tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of each: texts that are read, contexts that contradict, questions that nobody taught."""

    reading: int = 240
    contrary: int = 320
    untaught: int = 480


@dataclass(frozen=True, slots=True)
class Kept:
    """Turns with the answers that the model gives before it learns. `reading` and `contrary` hold their text.

    `beneath` are questions that the adapters under the new one answer.

    To test with, `reading` has what it does not read rightly too, so that what is lost and won may be told.
    """

    generic: tuple[Turn, ...]
    reading: tuple[Turn, ...]
    contrary: tuple[Turn, ...]
    untaught: tuple[Turn, ...]
    beneath: tuple[Turn, ...] = ()


def kept(
    tutor: Tutor, memories: Sequence[Any], probes: Sequence[Probe], *, part: str, counts: Counts, seed: int,
    beneath: Sequence[Asking] = (),
) -> Kept:  # fmt: skip
    """What must stay, as the model answers now; `part` is train or test, and neither has a word of the other's pool."""
    random = Random(f"{seed} {part}")
    wanted = part == TRAIN
    return Kept(
        generic=tuple(_plain(tutor, train=wanted)),
        reading=_answered(tutor, list(_readings(tutor, part, random, counts.reading)), wrong=not wanted),
        contrary=_answered(tutor, list(_contrary(tutor, memories, probes, part, random, counts.contrary))),
        untaught=_untaught(tutor, memories, part, random, counts.untaught),
        beneath=_answered(tutor, beneath) if beneath else (),
    )


def _plain(tutor: Tutor, *, train: bool) -> Iterator[Turn]:
    """Sentences of no matter, word by word; every third is for the examination."""
    lines = (Path(__file__).parent / "generic.txt").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        ids = tokenize(tutor.model, line)
        if (number % 3 != 2) is train and len(ids) > 2:
            yield Turn((ids[0],), tuple(ids[1:]))


def _answered(tutor: Tutor, asked: Sequence[Asking], *, wrong: bool = False) -> tuple[Turn, ...]:
    """Those that the model answers rightly now, with its answer; of a reader that copies also the `wrong` ones."""
    if wrong and tutor.traits.spans:
        return tuple(Turn(prompt, tutor.coded(wanted)) for prompt, wanted in asked)
    found = tutor.answers_to([prompt for prompt, _ in asked], [wanted for _, wanted in asked])
    return tuple(Turn(prompt, one) for (prompt, _), one in zip(asked, found, strict=True) if one is not None)


def _readings(tutor: Tutor, part: str, random: Random, count: int) -> Iterator[Asking]:
    """Made-up memories, and a question that one of them answers."""
    for _ in range(count):
        facts = [_drawn(part, random) for _ in range(random.randint(1, MOST_BESIDE))]
        facts = list({(fact.subject, fact.relation): fact for fact in facts}.values())
        fact = random.choice(facts)
        yield tutor.reading(_question(fact, part, random), [_stated(one, random) for one in facts]), fact.value


def _contrary(
    tutor: Tutor, memories: Sequence[Told], probes: Sequence[Probe], part: str, random: Random, count: int
) -> Iterator[Asking]:
    """What is taught, said otherwise: the memory with another value in it, and a question that asks for that."""
    from memos_cli.operation.answer import line_of

    lines = {getattr(one, "id", ""): line_of(one) for one in memories}
    usable = [one for one in probes if one.split == part and one.answer in lines.get(one.memory, "")]
    for _ in range(count if usable else 0):
        probe = random.choice(usable)
        drawn = _drawn(part, random)
        other = drawn.subject if probe.kind == REVERSED else drawn.value
        line = lines[probe.memory].replace(probe.answer, other)
        if probe.answer not in probe.question and other != probe.answer:
            yield tutor.reading(probe.question, [Line(line)]), other


def _untaught(tutor: Tutor, memories: Sequence[Told], part: str, random: Random, count: int) -> tuple[Turn, ...]:
    """Questions without a text: of whom it is taught but for something else, of others for the same, of others with
    names alike for the same, and of neither."""
    from memos_cli.operation.answer import line_of

    taught = [fact for one in memories for fact in facts_of(line_of(one), kind=one.kind, section=one.section)]
    known = {(fact.subject, fact.relation) for fact in taught}
    subjects = {fact.subject for fact in taught}
    prompts = []
    for number in range(count):
        fact = _drawn(part, random)
        if taught and number % 4 == 0:
            fact = replace(fact, subject=random.choice(taught).subject)
        elif taught and number % 4 == 1:
            fact = replace(fact, relation=random.choice(taught).relation)
        elif taught and number % 4 == 2:
            like = alike(random.choice(taught).subject, random.choice(taught).subject)
            fact = replace(fact, subject=like, relation=random.choice(taught).relation)
        if (fact.subject, fact.relation) not in known and (number % 4 != 2 or fact.subject not in subjects):
            prompts.append(tutor.bare(_question(fact, part, random)))
    prompts = list(dict.fromkeys(prompts))
    if tutor.traits.spans:
        return _answered(tutor, [(prompt, tutor.refusal) for prompt in prompts])
    return tuple(Turn(prompt, tutor.coded(tutor.said(prompt) or tutor.refusal)) for prompt in prompts)


def alike(one: str, other: str) -> str:
    """A name in the likeness of two that are taught: how one begins and how the other ends."""
    return one[: (len(one) + 1) // 2] + other[len(other) // 2 :]


def _drawn(part: str, random: Random) -> Fact:
    told = pool(part)
    name = f"{random.choice(told['firsts'])} {random.choice(told['lasts'])}"
    subject = name if random.random() < PEOPLE else random.choice(told["things"])
    return Fact(subject, random.choice(told["relations"]), random.choice(told["values"]))


def _stated(fact: Fact, random: Random) -> Line:
    said = random.choice(SAYINGS).format(s=fact.subject, r=fact.relation, v=fact.value)
    return Line(said[0].upper() + said[1:])


def _question(fact: Fact, part: str, random: Random) -> str:
    said: str = random.choice(wordings()["noun"][part]).format(s=fact.subject, r=fact.relation)
    return said[0].upper() + said[1:]
