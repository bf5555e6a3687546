"""What a prompt asks for: its intent, whom and what it names, when it speaks of, its topic, and which forms serve it.

MemReader of the MemOS paper (section 5.2), by patterns of English and no model. `hear` reads what the words alone tell,
`complete` adds what the cubes are needed for: who takes part and which topics there are. Pure: knows nothing of tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from memos_cli.operation.cues import FUNCTION_WORDS, Cues
from memos_cli.operation.times import ADDED, KNOWN, TRUE, When, read_when

PLAINTEXT, ACTIVATION, PARAMETER = "plaintext", "activation", "parameter"
ANY = (PLAINTEXT, ACTIVATION, PARAMETER)
RULES = "rules"
FACT, QUOTE, TELL = "fact", "quote", "tell"
# The first that fits is the intent.
_INTENTS = (
    (TELL, r"^\s*(?:please\s+)?(?:remember|note|keep in mind|don'?t forget)\b(?!.*\?\s*$)"),
    (QUOTE, r"\b(?:verbatim|word for word|exact (?:words?|wording|text|phrase)|quote|cite|citation)\b"),
    ("compare", r"\b(?:compare[ds]?|difference between|differs?|versus|vs\.?)\b"),
    ("summary", r"\b(?:summari[sz]e|summary|overview|recap|tell me about|what do (?:you|we) know (?:about|of))\b"),
    ("change", r"\b(?:what(?:'s| is| has| have)? (?:new|changed?)|changed? since|used to|no longer|history of)\b"),
    ("count", r"\b(?:how (?:many|much|often)|(?:the )?number of|count of)\b"),
    ("time", r"\b(?:when|what (?:date|day|time|year|month)|which (?:date|day|year|month)|how long|since when)\b"),
    ("reason", r"\b(?:why|what for|for what reason|the reason)\b"),
    ("method", r"\b(?:how (?:do|does|did|can|could|should|to)|steps? to|way to)\b"),
    ("list", r"\b(?:list|name (?:all|the|every)|which (?:\w+ )?are|what are (?:all|the)|all (?:of )?the)\b"),
    ("place", r"\b(?:where|which (?:place|city|country|town|room|folder|file))\b"),
    ("person", r"\b(?:who|whom|whose)\b"),
    ("check", r"^\s*(?:is|are|was|were|did|does|do|can|could|has|have|had|should|will|would|may|must)\b"),
)  # fmt: skip
INTENTS = (*(name for name, _ in _INTENTS), FACT)
_PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _INTENTS)
# What is gathered from many memories, or to the letter, is in no adapter's few answers.
_READ = frozenset({"compare", "summary", "change", "list"})
KINDS = ("speaker", "quote", "code", "name")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{2,120})[\"”“»]")
_CODE = re.compile(
    r"`([^`]{1,120})`|(?<![\w/.-])((?:[\w.-]+/)+[\w.-]*\w|[\w-]+\.[a-z][a-z0-9]{0,5}|\w+_\w+|--?[a-z][\w-]+|[a-z]+[A-Z]\w*"
    r"|[A-Z]{2,}[\w-]*)(?![\w/])"
)
_NAME = re.compile(r"\b[A-Z][\w’-]*(?:'[A-Z]\w+)?(?:\s+(?:(?:of|the|de|von|van|der)\s+){0,2}[A-Z][\w’-]*)*")
MOST_ENTITIES = 16


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that a prompt names: its words, and what it is (`speaker` of a talk, `quote`, `code`, `name`)."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A prompt as a structured call. `read_by` is who read it: `rules`, or the name of a model."""

    intent: str = FACT
    entities: tuple[Entity, ...] = ()
    when: When | None = None
    topic: str = ""
    forms: tuple[str, ...] = ANY
    words: str = ""
    speaker: str = ""
    read_by: str = RULES

    def as_of(self, now: datetime) -> datetime | None:
        """When what is asked for was known, if the prompt says so (`as of March 2024`)."""
        return self.when.moment(now) if self.when and self.when.about == KNOWN else None

    def true_at(self, now: datetime) -> datetime | None:
        """When what is asked for was true, if the prompt says so (`in force in 2024`)."""
        return self.when.moment(now) if self.when and self.when.about == TRUE else None

    @property
    def added(self) -> When | None:
        """When what is asked for was put into memory, if the prompt says so (`memories added last week`)."""
        return self.when if self.when and self.when.about == ADDED else None


def hear(text: str, *, now: datetime) -> Heard:
    """What the words of a prompt tell by themselves."""
    when = read_when(text, now=now.date())
    intent = intent_of(text)
    return Heard(intent, entities_of(text, when=when), when, forms=forms_for(intent, when))


def intent_of(text: str) -> str:
    """What kind of answer is asked for."""
    return next((name for name, pattern in _PATTERNS if pattern.search(text)), FACT)


def forms_for(intent: str, when: When | None) -> tuple[str, ...]:
    """The forms of memory that can serve, in no order.

    What must be to the letter needs the text. An adapter knows single facts, and cannot be asked what was true when.
    """
    if intent == QUOTE:
        return (PLAINTEXT,)
    timed = when is not None and when.about in (KNOWN, TRUE, ADDED)
    return (PLAINTEXT, ACTIVATION) if timed or intent in _READ else ANY


def entities_of(text: str, *, when: When | None = None) -> tuple[Entity, ...]:
    """The quotes, code and names in a text, in their order; nothing of a time, and none twice."""
    found: dict[str, tuple[int, Entity]] = {}
    taken = [match.span() for match in _QUOTED.finditer(text)]
    for match in _QUOTED.finditer(text):
        found.setdefault(match[1].strip().casefold(), (match.start(), Entity(match[1].strip(), "quote")))
    for match in _CODE.finditer(text):
        if not _inside(match.start(), taken):
            said = match[1] or match[2]
            found.setdefault(said.casefold(), (match.start(), Entity(said, "code")))
            taken.append(match.span())
    for match in _NAME.finditer(text):
        name = _name_of(text, match)
        if name and not _inside(match.start(), taken) and not (when and name in when.words):
            found.setdefault(name.casefold(), (match.start(), Entity(name, "name")))
    ordered = sorted(found.values(), key=lambda one: one[0])
    return tuple(entity for _, entity in ordered if entity.text)[:MOST_ENTITIES]


def _inside(at: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(start <= at < end for start, end in spans)


def _name_of(text: str, match: re.Match[str]) -> str:
    """A run of words with capitals without those that only begin a sentence."""
    words = match.group().split()
    begins = not text[: match.start()].strip() or text[: match.start()].rstrip()[-1:] in ".?!:"
    while words and (words[0].casefold() in FUNCTION_WORDS or words[0].split("'")[0].casefold() in FUNCTION_WORDS):
        words, begins = words[1:], False
    if begins and len(words) == 1 and not text[match.end() :].startswith(("'s", "’s")):
        return ""  # `Summarise the release`: any word begins with a capital there
    if begins and len(words) > 1 and words[0].casefold() in _ORDERS:
        words = words[1:]
    return " ".join(words).removesuffix("’s")


_ORDERS = frozenset(
    re.findall(r"\w+", "tell show list name find give compare summarise summarize explain describe quote cite")
)


def complete(heard: Heard, cues: Cues, *, participants: Mapping[str, bool], topics: Collection[str]) -> Heard:
    """The same with what only the cubes tell: which names take part in talks, and which of their topics is named."""
    speakers = {name.casefold(): name for name in participants}
    entities = tuple(
        Entity(one.text, "speaker") if one.kind == "name" and _takes_part(one.text, speakers) else one
        for one in heard.entities
    )
    if cues.speaker and not any(_takes_part(one.text, {cues.speaker.casefold(): ""}) for one in entities):
        entities = (Entity(cues.speaker, "speaker"), *entities)
    # what a model calls it may be no path of these cubes, and then changes nothing
    topic = heard.topic if heard.topic in topics else topic_of(f"{cues.words} {heard.topic}", topics) or heard.topic
    return replace(heard, entities=entities, topic=topic, words=cues.words, speaker=cues.speaker)


def _takes_part(name: str, speakers: Mapping[str, str]) -> bool:
    said = name.casefold().removesuffix("'s").removesuffix("’s")
    return any(said == speaker or said == speaker.split()[0] for speaker in speakers if speaker.split())


def topic_of(words: str, topics: Collection[str]) -> str:
    """The topic whose last part the words name in full: the most words of it, then the deepest; "" for none."""
    said = {_singular(word) for word in re.findall(r"[^\W_]+", words.casefold())}
    fits = []
    for topic in topics:
        parts = [part for part in topic.casefold().split("/") if part]
        last = {_singular(word) for word in re.findall(r"[^\W_]+", parts[-1])} if parts else set()
        if last and last <= said:
            whole = {_singular(word) for part in parts for word in re.findall(r"[^\W_]+", part)}
            fits.append((len(whole & said), len(last), -len(parts), topic))
    return max(fits)[3] if fits else ""


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
