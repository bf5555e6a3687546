"""How close the closest memory is to a question: the number that says whether there is an answer to look for at all.

The score of a ranking cannot say so, for it compares candidates with one another: somebody is always first. Closeness
is the cosine of meaning with the question, as the speaker would put it, or else the share of the question's words that
one memory has, whichever is more; a share counts four fifths, as a word is found by chance more often. Measured in
docs/explanation/retrieval.md. Pure: texts and vectors in, a number out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from memos_cli.operation.cues import FUNCTION_WORDS, read_cues

if TYPE_CHECKING:
    import numpy as np

# Below these nothing is answered: with vectors, and by words alone.
FLOOR, FLOOR_BY_WORDS = 0.3, 0.1
WORDS_WEIGHT = 0.8
# Words with the same beginning count as one: "plants" and "planted".
TRUNK_LETTERS = 5


class Told(Protocol):
    """What is compared of a memory."""

    @property
    def text(self) -> str: ...
    @property
    def speaker(self) -> str: ...
    @property
    def section(self) -> str: ...


class Embedder(Protocol):
    """What makes a vector of the question."""

    def embed(self, texts: Sequence[str]) -> np.ndarray: ...


def closeness(
    question: str, memories: Sequence[Told], *, vectors: np.ndarray | None, embedder: Embedder | None
) -> float:
    """From 0 to 1, how close the closest of `memories` is; `vectors` are theirs, None without any."""
    if not memories:
        return 0.0
    speakers = {memory.speaker: True for memory in memories if memory.speaker}
    cues = read_cues(question, participants=speakers)
    wanted = _trunks(cues.words) or _trunks(question)  # "Who is Ana?" has no word but the name
    shares = [len(wanted & _trunks(f"{each.speaker} {each.section} {each.text}")) for each in memories]
    share = max(shares) / max(1, len(wanted))
    if vectors is None or embedder is None:
        return round(WORDS_WEIGHT * share, 4)
    cosine = float((vectors @ embedder.embed([cues.meaning])[0]).max())
    return round(max(0.0, cosine, WORDS_WEIGHT * share), 4)


def _trunks(text: str) -> set[str]:
    words = (word.casefold() for word in re.findall(r"[^\W_]+", text))
    return {word[:TRUNK_LETTERS] for word in words if word not in FUNCTION_WORDS}
