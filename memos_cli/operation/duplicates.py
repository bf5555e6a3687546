"""Memories that say what others say: the same words, nearly the same words, or one fact told by another shape.

Nearly the same are two texts that share most of their words *and* lie near one another as vectors, and in which
numbers, dates, names and every not agree, for those are what two texts differ in that look alike and are not. Which
pairs are looked at is told by their rarest words: two texts that share a large part of their words share one of those
(prefix filtering: Chaudhuri et al., ICDE 2006), so that not all pairs are. Pure: memories in, pairs out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import TYPE_CHECKING

from memos_cli.operation.claims import PRONOUN, claims_of, plain, sentences
from memos_cli.operation.conflicts import Statement
from memos_cli.operation.cues import FUNCTION_WORDS
from memos_cli.operation.values import Token, is_typed, keys, tokens

if TYPE_CHECKING:
    import numpy as np

EXACT, NEAR, FACT = "exact", "near", "fact"
# Chosen on the tuned half of tests/bench/pairs: docs/explanation/tidying.md.
OVERLAP, COSINE = 0.7, 0.93
# Without vectors words alone decide, so more of them are asked for.
OVERLAP_BY_WORDS = 0.85
FEWEST_WORDS, LIKE_LETTERS = 3, 0.8
# A word that so many texts have among their rarest finds too many pairs to look at.
MOST_SHARED = 100
_FILLING = frozenset({
    "please", "note", "remember", "reminder", "again", "fyi", "both", "also", "basically", "actually", "really",
    "simply", "just", "that", "them", "it", "indeed",
})  # fmt: skip
_PREPOSITIONS = frozenset({
    "in", "on", "at", "by", "to", "from", "of", "for", "with", "as", "into", "over", "under", "about", "against",
    "between",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Same:
    """Two memories that say the same, how that is known (`exact`, `near`, `fact`), and how near their vectors are."""

    kind: str
    one: str
    other: str
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Worded:
    """What is compared of a text: its words that mean something, names with what stands before them, and polarity."""

    words: frozenset[str]
    names: Mapping[str, str]
    typed: tuple[str, ...]
    negated: bool


def fingerprint(one: Statement) -> str:
    """What two texts of the same words share: case, accents, marks and articles aside."""
    said = " ".join(keys(one.text))
    # what begins with `it` is about what stands before it
    return f"{one.section if ':' in one.text or PRONOUN.match(one.text) else ''}|{said}"


def duplicates_among(statements: Sequence[Statement], *, vectors: Mapping[str, np.ndarray] | None = None) -> list[Same]:
    """Pairs that say the same; of several with the same words each with the first."""
    first: dict[str, str] = {}
    found, rest = [], []
    for one in statements:
        said = fingerprint(one)
        if said in first and said.strip("|"):
            found.append(Same(EXACT, first[said], one.id))
        elif said.strip("|"):
            first[said] = one.id
            rest.append(one)
    told = list(_of_one_fact(rest))
    taken = {(one.one, one.other) for one in told}
    near = [one for one in _near(rest, vectors) if (one.one, one.other) not in taken]
    return found + told + near


def _of_one_fact(statements: Sequence[Statement]) -> Iterator[Same]:
    """Single sentences that claim one thing, and the same."""
    known: dict[object, str] = {}
    for one in statements:
        claims = claims_of(one.text, kind=one.kind, section=one.section)
        if len(claims) != 1 or len(sentences(one.text)) != 1 or one.kind in ("row", "record"):
            continue
        (claim,) = claims
        told = (claim.subject, claim.relation, claim.value.core, claim.value.tail, claim.negated, claim.since)
        if told in known:
            yield Same(FACT, known[told], one.id)
        else:
            known[told] = one.id


def _near(statements: Sequence[Statement], vectors: Mapping[str, np.ndarray] | None) -> Iterator[Same]:
    worded = [_worded(one) for one in statements]
    for i, j in _candidates(worded):
        one, other = statements[i], statements[j]
        cosine = _cosine(one.id, other.id, vectors)
        if one.section != other.section and (":" in one.text or ":" in other.text):
            continue
        if _agree(worded[i], worded[j], cosine):
            yield Same(NEAR, one.id, other.id, cosine)


def _candidates(worded: Sequence[Worded]) -> Iterator[tuple[int, int]]:
    """Pairs of places whose words overlap by OVERLAP at least and whose numbers agree, found by the rarest words."""
    often = Counter(word for one in worded for word in one.words)
    index: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for j, one in enumerate(worded):
        if len(one.words) < FEWEST_WORDS:
            continue
        rare = sorted(one.words, key=lambda word: (often[word], word))
        prefix = [(word, one.typed) for word in rare[: len(rare) - math.ceil(OVERLAP * len(rare)) + 1]]
        near = {i for each in prefix for i in index[each]}
        for i in sorted(near):
            if _overlap(worded[i].words, one.words) >= OVERLAP:
                yield i, j
        for each in prefix:
            if len(index[each]) < MOST_SHARED:
                index[each].append(j)


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _cosine(one: str, other: str, vectors: Mapping[str, np.ndarray] | None) -> float | None:
    if vectors is None or one not in vectors or other not in vectors:
        return None
    return float(vectors[one] @ vectors[other])


def _worded(one: Statement) -> Worded:
    said = tokens(one.text)
    names = {
        token.key: _before(said, place)
        for place, token in enumerate(said)
        if token.named and token.key not in FUNCTION_WORDS and token.key not in _FILLING
    }
    words = frozenset(
        trunk(token.key) for token in said if token.key not in FUNCTION_WORDS and token.key not in _FILLING
    )
    negated = sum(plain(part).negated for part in sentences(one.text)) % 2 == 1
    return Worded(words, names, tuple(sorted(key.key for key in said if key.typed)), negated)


def _before(said: Sequence[Token], place: int) -> str:
    """The preposition that a name stands behind."""
    for token in reversed(said[max(0, place - 3) : place]):
        if token.key in _PREPOSITIONS:
            return token.key
        if not token.named and token.key not in ("and", "or", "the", "a", "an", "both"):
            return ""
    return ""


def trunk(word: str) -> str:
    """A word without the ending of a plural or of a verb's third person."""
    return (
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") and not is_typed(word) else word
    )


def _agree(one: Worded, other: Worded, cosine: float | None) -> bool:
    if one.negated != other.negated or one.typed != other.typed:
        return False
    for name in one.names.keys() & other.names.keys():
        if one.names[name] != other.names[name]:
            return False
    left, right = sorted(one.words - other.words), sorted(other.words - one.words)
    named = {trunk(name) for name in (*one.names, *other.names)}
    if not _is_respelt(left, right, named):
        return False
    if cosine is None:
        return _overlap(one.words, other.words) >= OVERLAP_BY_WORDS or not left or not right
    return cosine >= COSINE


def _is_respelt(left: Sequence[str], right: Sequence[str], named: set[str]) -> bool:
    """Whether words that only one of them has are the other's words misspelt or bent; one may have one word more."""
    few, many = sorted((left, right), key=len)
    if len(many) > len(few) + 1:
        return False
    free = list(many)
    for word in few:
        best = max(free, key=lambda other: _likeness(word, other))
        if _likeness(word, best) < LIKE_LETTERS or word in named or best in named:
            return False
        free.remove(best)
    return not any(word in named or is_typed(word) for word in free)


@lru_cache(maxsize=4096)
def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
