"""Whose copy is it? Words of a text held against the keyed hashes of what each copy has alone.

A canary is found whole when all its words stand in their order, and in part when its rare words, an invented name and a
number, stand near each other in whatever sentence. The text is read once, as a stream of words.

How likely is that by chance? Canaries follow from a key that a writer without the copy knows nothing of, so each of its
sentences, or pairs of rare words, is one guess among 2**bits. With so many words there are so many guesses: the figure
is an upper bound by that count, for this many canaries of one copy, times the number of copies that were compared. It
says nothing of who gave the copy away.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memos_cli.infrastructure.ledger import Copy, Planted
from memos_cli.operation.canaries import Canary, words_of

# Rare words that stand no further apart than this belong together.
NEAR_WORDS = 40
_CACHE_WORDS = 1 << 19


@dataclass(frozen=True, slots=True)
class Found:
    """How many canaries of a copy there are in a text: of `planted`, `whole` ones and those in `part` only.

    `chance` bounds how likely that is for a text by somebody who never had the copy.
    """

    copy: Copy
    planted: int
    whole: int
    part: int
    chance: float


def planted(canary: Canary, *, key: bytes) -> Planted:
    """What the ledger keeps of a canary."""
    return Planted(
        len(canary.words), _hash(key, " ".join(canary.words)),
        tuple((at, _hash(key, word)) for at, word in canary.rare),
        int(canary.bits * 1000), int(canary.rare_bits * 1000),
    )  # fmt: skip


def trace(texts: Iterable[str], copies: Sequence[Copy], *, key: bytes) -> tuple[list[Found], int]:
    """The copies of which something is in the texts, the most first, and how many words were read."""
    look = _Look(copies, key)
    for text in texts:
        for word in words_of(text):
            look.take(word)
    found = [_told(copy, look.of(number), look.words, len(copies)) for number, copy in enumerate(copies)]
    there = [one for one in found if one.whole or one.part]
    return sorted(there, key=lambda one: (-one.whole, -one.part, one.copy.time)), look.words


def _hash(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]


class _Look:
    """A stream of words, and which canaries were in it."""

    def __init__(self, copies: Sequence[Copy], key: bytes) -> None:
        self.words = 0
        self._key = key
        self._known: dict[str, str] = {}
        # the same canary is in every version of a recipient's copy
        self._rare: dict[str, dict[str, tuple[Planted, int]]] = {}
        self._planted: dict[str, Planted] = {}
        self._copies = [tuple(one.whole for one in copy.canaries) for copy in copies]
        for copy in copies:
            for one in copy.canaries:
                self._planted[one.whole] = one
                for number, (_, said) in enumerate(one.rare):
                    self._rare.setdefault(said, {})[f"{one.whole} {number}"] = (one, number)
        longest = max((one.words for one in self._planted.values()), default=1)
        self._last: deque[str] = deque(maxlen=longest)
        self._due: dict[int, list[Planted]] = {}
        self._seen: dict[str, dict[int, int]] = {}
        self._whole: set[str] = set()
        self._part: set[str] = set()

    def take(self, word: str) -> None:
        """The next word."""
        at = self.words
        self.words += 1
        self._last.append(word)
        for one, number in self._rare.get(self._hashed(word), {}).values():
            self._meet(one, number, at)
        for one in self._due.pop(at, ()):
            if _hash(self._key, " ".join(list(self._last)[-one.words :])) == one.whole:
                self._whole.add(one.whole)

    def of(self, number: int) -> tuple[list[Planted], list[Planted]]:
        """The canaries of a copy that were met whole, and those in part."""
        mine = [self._planted[whole] for whole in self._copies[number]]
        return [one for one in mine if one.whole in self._whole], [
            one for one in mine if one.whole in self._part - self._whole
        ]

    def _meet(self, one: Planted, number: int, at: int) -> None:
        offset = one.rare[number][0]
        self._due.setdefault(at - offset + one.words - 1, []).append(one)
        seen = self._seen.setdefault(one.whole, {})
        seen[number] = at
        if len(seen) == len(one.rare) and max(seen.values()) - min(seen.values()) <= NEAR_WORDS:
            self._part.add(one.whole)

    def _hashed(self, word: str) -> str:
        said = self._known.get(word)
        if said is None:
            if len(self._known) >= _CACHE_WORDS:
                self._known.clear()
            said = self._known[word] = _hash(self._key, word)
        return said


def _told(copy: Copy, met: tuple[list[Planted], list[Planted]], words: int, copies: int) -> Found:
    whole, part = met
    return Found(copy, len(copy.canaries), len(whole), len(part), _chance(copy, whole, part, words, copies))


def _chance(copy: Copy, whole: Sequence[Planted], part: Sequence[Planted], words: int, copies: int) -> float:
    """The bound, in logarithms until the end: 100 canaries of 40 bits each are less than a float can hold."""
    if not (whole or part):
        return 1.0
    bits = math.log2(copies) + math.log2(math.comb(len(copy.canaries), len(whole) + len(part)))
    guesses = math.log2(max(words, 1))
    bits += sum(min(0.0, guesses - one.bits / 1000) for one in whole)
    bits += sum(
        min(0.0, guesses + (len(one.rare) - 1) * math.log2(2 * NEAR_WORDS) - one.rare_bits / 1000) for one in part
    )
    return float(2.0 ** max(-1000.0, min(0.0, bits)))
