"""What a cube is about, in a few kilobytes: centres of its vectors, and which words how many of its memories have.

`sketch` makes it of a cube's rows; `picking.py` compares a question with those of all cubes. Words are kept as keyed
hashes, so that whoever gets hold of a fingerprint and not of the home's key reads none. What is labelled above
`internal` leaves no word, and no vector but the mean of five such memories or more. Knows nothing of cubes and files.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np  # noqa: TID253  this file computes

from memos_cli.operation.cues import FUNCTION_WORDS
from memos_cli.operation.profile import ROLES

# Centres of a cube at most; with more of them no question finds its cube better (docs/explanation/retrieval.md).
CENTRES = 64
ROUNDS = 3
# Of a larger table so many rows are looked at, spread over all of it.
MOST_ROWS = 20_000
# Of a cube's words those that most of its memories have.
MOST_WORDS = 8_192
# A mean of fewer labelled memories would tell what one of them says.
LEAST_TOGETHER = 5
# Of who talks in a cube, and of a question's words that may be names.
MOST_SPEAKERS, MOST_NAMED = 256, 64
HASH_BYTES, MOST_COUNT = 4, 65_535
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """`rows` memories: `centres` are float16 [centres, dim] of length 1; `words` ascending uint32, `counts` uint16."""

    rows: int
    centres: np.ndarray
    words: np.ndarray
    counts: np.ndarray


def sketch(
    texts: Iterable[str], *, about: str, speakers: Iterable[str], vectors: np.ndarray, guarded: np.ndarray, key: bytes
) -> Fingerprint:
    """The fingerprint of a cube: `texts` may be told, `about` is what it says of itself, `speakers` are who talk there.

    `guarded` are vectors [n, dim] of memories above `internal`, which only count together; of a cube without an
    embedder they and the `vectors` of the others are [n, 0].
    """
    had: Counter[str] = Counter()
    rows = 0
    for text in texts:
        had.update(set(words_of(text)))
        rows += 1
    for word in set(words_of(about)):
        had[word] = max(1, had[word])
    said = [(mark, MOST_COUNT) for name in speakers for mark in _marks(name)]
    hashes, counts = _hashed([*said[:MOST_SPEAKERS], *had.most_common(MOST_WORDS)], key)
    return Fingerprint(rows + len(guarded), _centres(vectors, guarded), hashes, counts)


def participants(text: str, *, knows: Callable[[int], bool], key: bytes) -> dict[str, bool]:
    """Who of those named in a text talks in some cube, as `read_cues` takes them; `knows` looks a hash up."""
    named = dict.fromkeys(_WORD.findall(text)[:MOST_NAMED])
    return {word: True for word in named if knows(hash_of(_mark(word), key))}


def _marks(name: str) -> set[str]:
    """What stands for a speaker: the words of the name, but not for a role, which nobody is called by."""
    return set() if name.casefold() in ROLES else {_mark(word) for word in _WORD.findall(name) if len(word) > 2}


def _mark(word: str) -> str:
    return f"@{word.casefold()}"


def words_of(text: str) -> list[str]:
    """The words that tell what a text is about, without case, accents and common endings."""
    plain = text.casefold()
    if not plain.isascii():
        plain = "".join(each for each in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(each))
    return [_stem(word) for word in _WORD.findall(plain) if word not in FUNCTION_WORDS]


def hash_of(word: str, key: bytes) -> int:
    """What stands for a word."""
    data = word.encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(data, key=key, digest_size=HASH_BYTES).digest(), "little")


def _stem(word: str) -> str:
    """A word without its ending; wrong for some words, but for the question's as for the text's."""
    if len(word) > 4 and word.endswith("ies"):
        word = f"{word[:-3]}y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word.removesuffix(ending)
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _hashed(had: Sequence[tuple[str, int]], key: bytes) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.array([hash_of(word, key) for word, _ in had], np.uint32)
    counts = np.minimum(np.array([count for _, count in had], np.int64), MOST_COUNT).astype(np.uint16)
    hashes, first = np.unique(hashes, return_index=True)
    return hashes, counts[first]


def _centres(vectors: np.ndarray, guarded: np.ndarray) -> np.ndarray:
    found = [centres_of(_told(vectors))]
    kept = _told(guarded)
    if len(kept) >= LEAST_TOGETHER:
        found.append(_unit(kept.mean(0, keepdims=True)))
    return np.concatenate(found).astype(np.float16)


def _told(vectors: np.ndarray) -> np.ndarray:
    """The vectors that there are: a row without one has zeros."""
    there: np.ndarray = vectors[np.any(vectors, axis=1)] if vectors.size else vectors[:0]
    return there


def centres_of(vectors: np.ndarray, most: int = CENTRES) -> np.ndarray:
    """At most so many centres of vectors of length 1: spherical k-means that begins with those farthest apart."""
    if len(vectors) <= most:
        return vectors
    centres = vectors[_far_apart(vectors, most)]
    for _ in range(ROUNDS):
        nearest = (vectors @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, vectors)
        filled = np.any(sums, axis=1)
        centres[filled] = _unit(sums[filled])
    return centres


def _far_apart(vectors: np.ndarray, count: int) -> list[int]:
    chosen = [0]
    far = 1 - vectors @ vectors[0]
    while len(chosen) < count:
        chosen.append(int(far.argmax()))
        far = np.minimum(far, 1 - vectors @ vectors[chosen[-1]])
    return chosen


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return unit
