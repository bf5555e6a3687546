"""Sentence patterns: how a relation's words become statements and questions.

A pattern is a string with {s} for the subject and {v} for the value. Each relation has several dozen of either sort,
made from its nouns, verbs and free sentences. One pattern in eight is held out by its digest: never trained, though
all its words are.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from zlib import crc32

HELD_ONE_IN = 8
_AUXILIARY = ("is", "was", "are", "were", "can", "will", "has")

NOUN_SAYS = (
    "{s}'s N is {v}.", "The N of {s} is {v}.", "{v} is the N of {s}.", "{v} is {s}'s N.", "{s} has {v} as N.",
    "As for the N of {s}, it is {v}.", "{s} ({N}: {v}).", "For {s}, the N is {v}.", "The N of {s}: {v}.",
    "When it comes to {s}, the N is {v}.", "In the case of {s}, {v} is the N.", "{s}: N {v}.", "{s} - N: {v}",
    "It is {v} that is the N of {s}.", "We noted {v} as the N of {s}.", "{v} was given as the N of {s}.",
    "{s} has a N, and it is {v}.", "About {s}: the N is {v}.", "I was told that the N of {s} is {v}.",
    "Note that {s}'s N is {v}.", "{s} now has {v} as the N.", "If you ask about {s}, the N is {v}.",
    "We know the N of {s}. It is {v}.", "Everyone asks about {s}. The N is {v}.", "{v}, that is the N of {s}.",
    "The N that {s} has is {v}.", "N of {s} = {v}.", "{s} wrote down {v} as N.",
)  # fmt: skip
NOUN_ASKS = (
    "W is {s}'s N?", "W is the N of {s}?", "Tell me the N of {s}.", "{s}'s N?", "Do you know the N of {s}?",
    "Give me {s}'s N.", "I need the N of {s}.", "W was the N of {s} again?", "Can you tell me {s}'s N?",
    "{s}: W is the N?", "Remind me W the N of {s} is.", "For {s}, W is the N?", "And the N of {s}?", "The N of {s}?",
    "Which N does {s} have?", "Do we know W {s}'s N is?", "Please give the N of {s}.", "W is the N that {s} has?",
    "When it comes to {s}, W is the N?", "I forgot the N of {s}. W is it?", "Could you look up the N of {s}?",
    "W did we note as the N of {s}?", "N of {s}?", "Say W the N of {s} is.",
)  # fmt: skip
VERB_SAYS = (
    "{s} F {v}.", "{s}: F {v}", "It is {v} that {s} F.", "We know that {s} F {v}.", "It seems that {s} F {v}.",
    "I heard that {s} F {v}.",
    "{s}, as everyone knows, F {v}.", "I was told that {s} F {v}.", "Note that {s} F {v}.",
    "It is true that {s} F {v}.",
    "As far as we know, {s} F {v}.", "They say {s} F {v}.", "{s} F {v}, I was told.",
    "{s} F {v}, as we know.",
    "If you ask about {s}: {s2} F {v}.", "{s} said so last week. {P} F {v}.", "We asked about {s}. {P} F {v}.",
    "Everyone knows {s}. {P} F {v}.", "About {s}: F {v}.", "{s}, who is well known here, F {v}.",
)  # fmt: skip
KIND_SAYS = (
    "The K {s} F is {v}.", "The K that {s} F is called {v}.", "{v} is the K {s} F.", "{v} is the K that {s} F.",
    "The K {s} F? It is {v}.", "As for the K {s} F, it is {v}.",
)  # fmt: skip
EMBEDDED = (
    "Do you know Q?", "Tell me Q.", "Can you tell me Q?", "I want to know Q.", "Any idea Q?", "Please say Q.",
    "Do we know Q?", "I forgot Q.", "Could you look up Q?", "Remind me Q.",
)  # fmt: skip
BY_SAYS = (
    "{v} B {s}.", "We know that {v} B {s}.", "It is {v} that B {s}.", "I heard that {v} B {s}.", "Note that {v} B {s}.",
    "As far as we know, {v} B {s}.", "For {s}, it is {v} that B {s2}.",
)  # fmt: skip
PRONOUNS = {"person": ("He", "She"), "animal": ("It", "He", "She")}


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of one side of the split."""

    says: tuple[str, ...]
    asks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between a subject and a value, with its patterns in both halves of the split."""

    name: str
    subject: str
    value: str
    nouns: tuple[str, ...]
    verbs: tuple[tuple[str, str, str], ...]
    train: Patterns
    held: Patterns
    who: tuple[str, ...] = ()


def is_held(relation: str, pattern: str) -> bool:
    """Whether a pattern is kept out of training."""
    return crc32(f"{relation}|{pattern}".encode()) % HELD_ONE_IN == 0


def make_relation(name: str, entry: Mapping[str, object], *, split: bool = True) -> Relation:
    """A relation from its entry in relations.toml; without `split` all patterns are for training."""
    words = _Words.of(entry)
    says, asks = tuple(dict.fromkeys(words.says())), tuple(dict.fromkeys(words.asks()))

    def kept(side: tuple[str, ...], *, held: bool) -> tuple[str, ...]:
        return tuple(each for each in side if (split and is_held(name, each)) is held)

    return Relation(
        name, words.subject, words.value, words.nouns, words.verbs,
        train=Patterns(kept(says, held=False), kept(asks, held=False)),
        held=Patterns(kept(says, held=True), kept(asks, held=True)),
        who=words.who,
    )  # fmt: skip


@cache
def relations() -> tuple[Relation, ...]:
    """All relations of relations.toml. A held pattern with a word that no trained pattern has is dropped."""
    text = (Path(__file__).parent / "relations.toml").read_text(encoding="utf-8")
    made = [make_relation(name, entry) for name, entry in tomllib.loads(text).items()]
    says = Counter(word for each in made for word in set(_tokens(each.train.says + each.train.asks)))

    def known(pattern: str) -> bool:
        return all(says[word] > 0 for word in _tokens([pattern]))

    def keep(side: Patterns) -> Patterns:
        return Patterns(tuple(filter(known, side.says)), tuple(filter(known, side.asks)))

    return tuple(replace(each, held=keep(each.held)) for each in made)


def pattern_words() -> tuple[str, ...]:
    """Every word of the trained patterns, as it stands in them."""
    found: set[str] = set()
    for each in relations():
        for pattern in each.train.says + each.train.asks:
            found.update(re.findall(r"[A-Za-z]+", re.sub(r"\{\w+\}('s)?", " ", pattern)))
    return tuple(sorted(found))


def _tokens(patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        yield from re.findall(r"[a-z]+", pattern.replace("{s}", "").replace("{v}", "").lower())


@dataclass(frozen=True, slots=True)
class _Words:
    subject: str
    value: str
    kinds: tuple[str, ...]
    adverbs: tuple[str, ...]
    pronouns: tuple[str, ...]
    nouns: tuple[str, ...]
    verbs: tuple[tuple[str, str, str], ...]
    by: tuple[str, ...]
    say: tuple[str, ...]
    ask: tuple[str, ...]
    who: tuple[str, ...]

    @classmethod
    def of(cls, entry: Mapping[str, object]) -> _Words:
        lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
        verbs = tuple(_verb(each) for each in lists.get("verbs", ()))
        rest = ("kinds", "adverbs", "pronouns", "nouns", "by", "say", "ask", "who")
        return cls(
            subject=str(entry["subject"]), value=str(entry["value"]), verbs=verbs,
            **{key: lists.get(key, ()) for key in rest},
        )  # fmt: skip

    def says(self) -> Iterator[str]:
        for noun in self.nouns:
            yield from (_noun(pattern, noun, "") for pattern in NOUN_SAYS)
        for finite, _, preposition in self.verbs:
            verb = f"{finite} {preposition}".strip()
            yield from (self._said(pattern, verb) for pattern in VERB_SAYS)
            for kind in self.kinds:
                yield from (re.sub(r"\bF\b", verb, re.sub(r"\bK\b", kind, pattern)) for pattern in KIND_SAYS)
        for by in self.by:
            yield from (
                re.sub(r"\bB\b", by, pattern).replace("{s2}", "{s}") for pattern in BY_SAYS if "{s2}" not in pattern
            )
        yield from self.say

    def _said(self, pattern: str, verb: str) -> str:
        return re.sub(r"\bF\b", verb, pattern).replace("{s2}", "{p}")

    def asks(self) -> Iterator[str]:
        what = "who" if "who" in self.pronouns else "what"
        for noun in self.nouns:
            yield from (_noun(pattern, noun, what) for pattern in NOUN_ASKS)
        for finite, base, preposition in self.verbs:
            for wh in self._wh(preposition):
                yield _capital(_inverted(wh, finite, base)) + "?"
                clause = _embedded(wh, finite)
                yield from (pattern.replace("Q", clause) for pattern in EMBEDDED)
        for by in self.by:
            for head in [*(f"which {kind}" for kind in self.kinds), *(each for each in self.pronouns if each == "who")]:
                clause = f"{head} {by} {{s}}"
                yield _capital(clause) + "?"
                yield from (pattern.replace("Q", clause) for pattern in EMBEDDED)
        yield from self.ask

    def _wh(self, preposition: str) -> Iterator[tuple[str, str]]:
        """Question heads with the preposition that stays behind at the end."""
        yield from ((adverb, "") for adverb in self.adverbs)
        yield from ((pronoun, preposition) for pronoun in self.pronouns)
        for kind in self.kinds:
            yield (f"which {kind}", preposition)
            yield (f"what {kind}", preposition)
            if preposition:
                yield (f"{preposition} which {kind}", "")


def _verb(text: object) -> tuple[str, str, str]:
    finite, base, preposition = (part.strip() for part in str(text).split("|"))
    return finite, base, preposition


def _noun(pattern: str, noun: str, what: str) -> str:
    filled = re.sub(r"\bN\b", noun, pattern.replace("{N}", noun))
    filled = re.sub(r"\bW\b", what, filled)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", _capital(filled))


def _inverted(wh: tuple[str, str], finite: str, base: str) -> str:
    head, left = wh
    first, *rest = finite.split()
    if not base or first in _AUXILIARY and not base:
        return " ".join([head, first, "{s}", *rest, left]).strip()
    return f"{head} {_auxiliary(finite, base)} {{s}} {base} {left}".strip()


def _auxiliary(finite: str, base: str) -> str:
    """Present or past, by the finite form: lives/live, has/have, goes/go are present, all else is past."""
    first, root = finite.split()[0], base.split()[0]
    present = {root + "s", root + "es", root[:-1] + "ies", "has" if root == "have" else "", "is"}
    return "does" if first in present else "did"


def _embedded(wh: tuple[str, str], finite: str) -> str:
    head, left = wh
    return f"{head} {{s}} {finite} {left}".strip()


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
