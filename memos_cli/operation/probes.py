"""Questions that test whether a model knows a memory without reading it: made of the memory, by no other model.

Of a fact, wordings of its noun and its verb; of a value, the words before it; and the way back from the value. Each
wording belongs to one split (train, dev, test), so what is measured was never trained. A model that takes instructions
also writes some itself with the memory before it (self-study, arXiv 2506.06266 section 3). Many are thrown away later:
only what the model answers rightly with the memory and wrongly without is kept. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from memos_cli.operation.answer import plain
from memos_cli.operation.facts import Fact, facts_of, gaps_of, wordings

TRAIN, DEV, TEST = "train", "dev", "test"
SPLITS = (TRAIN, DEV, TEST)
TEMPLATE, CLOZE, REVERSED, SELF = "template", "cloze", "reversed", "self"
# How many questions of each split a memory has at most.
MOST = {TRAIN: 12, DEV: 3, TEST: 3}
ASK_OURSELVES = """\
Write {count} short questions that the following text answers, each with its answer in the text's own words.
One a line, as `question | answer`. Nothing else.

{text}"""
SELF_COUNT = 6
# Words before a gap that has no name or number before it.
FEWEST_WORDS = 4


@dataclass(frozen=True, slots=True)
class Probe:
    """A question about a memory, its answer in the memory's words, how it was made and what it is for."""

    memory: str
    question: str
    answer: str
    kind: str
    split: str


def probes_of(memory: str, line: str, *, kind: str = "", section: str = "", seed: int = 0) -> list[Probe]:
    """All questions that a memory has by its shape, in an order drawn with `seed`; the answers stand in its line."""
    random = Random(f"{seed} {memory}")
    facts = facts_of(line, kind=kind, section=section)
    found = [*_of_facts(memory, facts, random), *_of_gaps(memory, line, {fact.subject for fact in facts})]
    held = plain(line)
    unlike: dict[str, Probe] = {}
    for probe in found:
        if plain(probe.answer) and plain(probe.answer) in held and plain(probe.answer) not in plain(probe.question):
            unlike.setdefault(plain(probe.question), probe)
    return list(unlike.values())


def _of_facts(memory: str, facts: Sequence[Fact], random: Random) -> Iterator[Probe]:
    nouns, back = wordings()["noun"], wordings()["reversed"]
    for fact in facts:
        for split in SPLITS:
            for wording in _shuffled(nouns[split], random):
                yield Probe(memory, _filled(wording, fact), fact.value, TEMPLATE, split)
            for wording in back[split]:
                yield Probe(memory, _filled(wording, fact), fact.subject, REVERSED, split)
        for split, wording in zip(_splits(len(fact.asks)), fact.asks, strict=True):
            yield Probe(memory, _filled(wording, fact), fact.value, TEMPLATE, split)


def _splits(count: int) -> list[str]:
    """Of a verb's own questions the second is tested with, the third is looked at while training."""
    return [(TRAIN, TEST, DEV)[number % 3] for number in range(count)]


def _of_gaps(memory: str, line: str, subjects: Collection[str]) -> Iterator[Probe]:
    for gap in gaps_of(line):
        # `The home town of ...` goes on in many ways; what is asked for must be told apart by what stands before it
        if gap.value in subjects or len(gap.before.split()) < FEWEST_WORDS and not gaps_of(f"- - {gap.before}"):
            continue
        for split in SPLITS:
            for wording in wordings()["cloze"][split]:
                yield Probe(memory, wording.format(before=gap.before), gap.value, CLOZE, split)


def _shuffled(wordings_: Sequence[str], random: Random) -> list[str]:
    return random.sample(list(wordings_), len(wordings_))


def _filled(wording: str, fact: Fact) -> str:
    said = wording.format(s=fact.subject, r=fact.relation, v=fact.value)
    return said[0].upper() + said[1:]


def self_study(memory: str, line: str, ask: Callable[[str], str]) -> list[Probe]:
    """Questions that a model writes itself about a memory; those whose answer is not in its words are left out."""
    held = plain(line)
    found: dict[str, tuple[str, str]] = {}
    for written in ask(ASK_OURSELVES.format(count=SELF_COUNT, text=line)).splitlines():
        question, mark, answer = re.sub(r"^\s*(?:[-*]|\d+[.):])\s*", "", written).partition("|")
        question, answer = question.strip(), answer.strip()
        if mark and question.endswith("?") and plain(answer) and plain(answer) in held:
            found.setdefault(plain(question), (question, answer))
    splits = (TRAIN, TRAIN, DEV, TRAIN, TEST, TRAIN)
    return [
        Probe(memory, question, answer, SELF, splits[number % len(splits)])
        for number, (question, answer) in enumerate(found.values())
    ]


def chosen(probes: Sequence[Probe], *, most: Mapping[str, int] = MOST) -> list[Probe]:
    """At most so many of each split, kinds in turn, so that no memory is asked for in one way only.

    Of a memory whose wordings leave a split empty, none is moved there: a test of what was trained is no test.
    """
    kept: list[Probe] = []
    for split in SPLITS:
        kinds: dict[Any, list[Probe]] = {}
        for probe in probes:
            if probe.split == split:
                kinds.setdefault((probe.kind, plain(probe.answer)), []).append(probe)
        queues = sorted(kinds.values(), key=lambda queue: _ORDER[queue[0].kind])
        taken = 0
        while taken < most[split] and any(queues):
            for queue in queues:
                if queue and taken < most[split]:
                    kept.append(queue.pop(0))
                    taken += 1
    return kept


_ORDER = {TEMPLATE: 0, SELF: 1, CLOZE: 2, REVERSED: 3}


def pool(part: str) -> dict[str, list[str]]:
    """Made-up subjects, relations and values: two thirds of each to train with (`train`), the rest to test (`test`)."""
    told: dict[str, list[str]] = wordings()["pool"]
    cut = {name: 2 * len(values) // 3 for name, values in told.items()}
    return {name: values[: cut[name]] if part == TRAIN else values[cut[name] :] for name, values in told.items()}
