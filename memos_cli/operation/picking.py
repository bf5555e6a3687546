"""Which cubes of a vault are worth opening for a question, told by their fingerprints alone.

Two rankings, of the words that a cube has and of how near its centres are, are put together as recall puts its lists
together: each on the scale of the best of its cubes, then added. A cube without vectors is taken by its words. Knows
nothing of files, and of no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np  # noqa: TID253  this file computes

from memos_cli.infrastructure.catalogue import Catalogue
from memos_cli.operation.cues import read_cues
from memos_cli.operation.fingerprint import hash_of, participants, words_of
from memos_cli.operation.words import rarity

# BM25 of a cube as if it were a text that has a word as often as so many of its memories have it.
SATURATION, LENGTH = 1.2, 0.1
# The scale of a list is that of its best cubes.
DEPTH = 100
WORDS_WEIGHT = 1.0
MOST_WORDS = 64


@dataclass(frozen=True, slots=True)
class Pick:
    """A cube by its place in the catalogue: its score, the best cosine of a centre (None: no vectors), the words of
    the question that it has, those that say most first."""

    place: int
    score: float
    closeness: float | None
    words: tuple[str, ...]


def as_said(catalogue: Catalogue, text: str, *, key: bytes) -> str:
    """The question as it is compared by meaning: who talks in some cube is named as they speak of themselves."""
    named = participants(text, knows=lambda word: bool(_span(catalogue, word)), key=key)
    return read_cues(text, participants=named).meaning


def pick(catalogue: Catalogue, text: str, *, vectors: Mapping[str, np.ndarray], key: bytes) -> list[Pick]:
    """All cubes that may be asked, the most promising first; `vectors` has the question's by embedder."""
    size = len(catalogue.entries)
    open_ = np.array([not each.closed and each.rows > 0 for each in catalogue.entries], bool)
    words, said = _words(catalogue, text, key=key)
    closeness = _closeness(catalogue, vectors)
    score = WORDS_WEIGHT * _standard(words, open_)
    known = ~np.isnan(closeness)
    if known.any():
        meaning = _standard(np.where(known, closeness, -1.0), open_ & known)
        score = score + np.where(known, meaning, _standard(words, open_))
    order = [place for place in np.argsort(-score, kind="stable").tolist() if open_[place]] if size else []
    return [
        Pick(
            place, float(score[place]), float(closeness[place]) if known[place] else None, tuple(said.get(place, ()))
        )
        for place in order
    ]  # fmt: skip


def _words(catalogue: Catalogue, text: str, *, key: bytes) -> tuple[np.ndarray, dict[int, list[str]]]:
    """BM25 of each cube, and by cube the words of the question that it has."""
    rows = np.array([each.rows for each in catalogue.entries], np.float64)
    score = np.zeros(len(rows))
    said: dict[int, list[str]] = {}
    length = 1 - LENGTH + LENGTH * rows / max(1.0, rows.mean()) if len(rows) else rows
    weighed = []
    for word in list(dict.fromkeys(words_of(text)))[:MOST_WORDS]:
        if span := _span(catalogue, hash_of(word, key)):
            weighed.append((rarity(len(span), len(rows)), word, span))
    for weight, word, span in sorted(weighed, key=lambda each: -each[0]):
        places = catalogue.places[span.start : span.stop]
        had = catalogue.counts[span.start : span.stop].astype(np.float64)
        score[places] += weight * had * (SATURATION + 1) / (had + SATURATION * length[places])
        for place in places.tolist():
            said.setdefault(place, []).append(word)
    return score, said


def _span(catalogue: Catalogue, word: int) -> range:
    """Where a word stands among those of all cubes."""
    begin, end = (int(np.searchsorted(catalogue.words, np.uint32(word), side=side)) for side in ("left", "right"))
    return range(begin, end)


def _closeness(catalogue: Catalogue, vectors: Mapping[str, np.ndarray]) -> np.ndarray:
    """The largest cosine of a centre of each cube with the question; nan without centres, or without that embedder."""
    found = np.full(len(catalogue.entries), np.nan)
    starts = catalogue.starts()
    for embedder, vector in vectors.items():
        mine = [
            i for i, each in enumerate(catalogue.entries)
            if each.embedder == embedder and each.centres and each.dim == len(vector)
        ]  # fmt: skip
        if not mine:
            continue
        parts = [catalogue.centres[starts[i] : starts[i + 1]] for i in mine]
        flat = np.concatenate(parts) if len(mine) < len(catalogue.entries) else catalogue.centres
        cosines = flat.reshape(-1, len(vector)).astype(np.float32) @ vector
        begins = np.concatenate([[0], np.cumsum([catalogue.entries[i].centres for i in mine])[:-1]])
        found[mine] = np.maximum.reduceat(cosines, begins)
    return found


def _standard(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The values in standard deviations from the mean of the best of them."""
    best = np.sort(values[among])[::-1][:DEPTH] if among.any() else np.zeros(1)
    spread = float(best.std()) or 1.0
    scaled: np.ndarray = (values - float(best.mean())) / spread
    return scaled
