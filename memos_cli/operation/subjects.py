"""Whether the words of two memories are about one thing, or only look so: what stands under a heading is about it.

`Owner is Ana` under two headings tells of two things, `Ana lives in Lindau` of one wherever it stands. So words of two
places are about one thing when all they claim is of somebody or something that they name. What is a name is told by
where it stands with a capital letter, in all the memories that are looked at. Pure; reads English.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from memos_cli.operation.claims import claims_of, is_relation, is_told_by_verb, sentences
from memos_cli.operation.conflicts import Statement
from memos_cli.operation.cues import FUNCTION_WORDS
from memos_cli.operation.values import ARTICLES, tokens


@dataclass(frozen=True, slots=True)
class Names:
    """Words that are names, and words that are not, for they stand in small letters as often."""

    known: frozenset[str] = frozenset()
    common: frozenset[str] = frozenset()


def names_in(texts: Iterable[str]) -> Names:
    """What stands with a capital letter inside a sentence more often than without one, and the other words."""
    inside: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for text in texts:
        for sentence in sentences(text):
            for place, token in enumerate(tokens(sentence)):
                if not token.named:
                    small[token.key] += 1
                elif place:
                    inside[token.key] += 1
    known = frozenset(word for word, count in inside.items() if count > small[word]) - FUNCTION_WORDS
    return Names(known, frozenset(small) - known)


def names_its_subject(subject: str, text: str, names: Names, *, relation: str) -> bool:
    """Whether a claim's subject is a name, so that it is the same wherever the claim stands."""
    words = [word for word in subject.split() if word not in ARTICLES]
    if not words or any(is_relation(word) for word in words[:1]):
        return False
    if any(word in names.known for word in words):
        return True
    # only at the start of sentences: then the verb tells, for who `lives in` a place has a name
    leads = [each for sentence in sentences(text) if (each := tokens(sentence))]
    led = any(each[0].named and each[0].key == words[0] for each in leads)
    return led and words[0] not in names.common and is_told_by_verb(text, relation)


def stands_alone(one: Statement, names: Names) -> bool:
    """Whether a memory is understood without what it stands under: each of its sentences claims something of a name."""
    said = sentences(one.text)
    if not said:
        return False
    for sentence in said:
        claims = claims_of(sentence, kind=one.kind, section="")
        if not claims or not all(names_its_subject(c.subject, sentence, names, relation=c.relation) for c in claims):
            return False
    return True
