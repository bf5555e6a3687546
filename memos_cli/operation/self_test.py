"""A cube asks itself: questions about each memory, whether recall finds it, and which repair may help where not.

Questions are those that the cube keeps about a memory, or are made of its words. Their splits keep apart what is for
what: `dev` tells who fails, `train` is what a repair may use, and `test` alone says whether a repair helped. Takes
tables and gives figures; knows nothing of versions, or of who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from memos_cli.operation import probes
from memos_cli.operation.answer import Told, line_of, plain
from memos_cli.operation.cues import content_words
from memos_cli.operation.recall import Scoped, recall
from memos_cli.operation.why import words_shared

if TYPE_CHECKING:
    from memos_cli.cube.probes import Probe
    from memos_cli.runtime.embed import Embedder

TRAIN, DEV, TEST = probes.SPLITS
MOST = {TRAIN: 4, DEV: 2, TEST: 2}
K = 5
# How far down a memory is looked for: what is found at all can be told from what is not.
DEPTH = 20
# A sentence to go on with has so many words of the memory itself, or it could be of any under its heading.
FEWEST_WORDS = 2
# Prose of so many words may hold more than one memory should.
LONG_WORDS = 40
PROSE = frozenset({"paragraph", "page", "line", "memory"})
RE_EMBED, RE_CHUNK, WORDING = "re-embed", "re-chunk", "wording"
# Of a text's vector made again, so much at least is the same.
SAME = 0.995


class Kept(Told, Protocol):
    """A memory as it is asked about."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a memory, the answer that the memory has, how it was made and what it is for."""

    memory: str
    question: str
    answer: str
    kind: str
    split: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How one memory did in one split: questions, those that found it among the first k, and the mean of 1 / rank.

    `missed` is the first of them that did not.
    """

    asked: int = 0
    hits: int = 0
    reciprocal: float = 0.0
    missed: str = ""

    @property
    def score(self) -> tuple[int, float]:
        """What is better is larger."""
        return self.hits, round(self.reciprocal, 6)


NONE = Standing()


def questions_for(memory: Kept, stored: Sequence[Probe]) -> list[Asked]:
    """A few questions of each split: those that are kept for it first, then what its words give."""
    line = line_of(memory)
    kept = [
        probes.Probe(memory.id, one.question, one.answer or one.evidence, _kind(one.kind), one.split) for one in stored
    ]
    fresh = probes.probes_of(memory.id, line, kind=memory.kind, section=memory.section)
    told = {(one.split, plain(one.question)): one for one in [*fresh, *kept]}
    good = [one for one in told.values() if one in kept or _is_about(one, memory.text)]
    good.sort(key=lambda one: one not in kept)
    chosen = probes.chosen(good, most=MOST)
    return [Asked(one.memory, one.question, one.answer, one.kind, one.split) for one in chosen]


def _is_about(probe: probes.Probe, text: str) -> bool:
    """Whether a question has words of the memory itself: under one heading there are many."""
    fewest = 1 if probe.kind == probes.TEMPLATE else FEWEST_WORDS
    return len(words_shared(content_words(probe.question), text)) >= fewest


def _kind(kind: str) -> str:
    return kind if kind in (probes.TEMPLATE, probes.CLOZE, probes.REVERSED, probes.SELF) else probes.SELF


def testable(asked: Iterable[Asked]) -> bool:
    """Whether there is something to find out who fails by, and something else to tell whether a repair helped."""
    splits = {one.split for one in asked}
    return DEV in splits and TEST in splits


def standings(
    table: Scoped,
    asked: Sequence[Asked],
    *,
    split: str,
    embedder: Embedder | None,
    k: int = K,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Standing]:
    """How the memories of these questions did in a split; another memory of the same words counts as found."""
    found: dict[str, list[tuple[int, str]]] = {}
    chosen = [one for one in asked if one.split == split]
    for number, one in enumerate(chosen, 1):
        hits = recall([table], text=one.question, limit=DEPTH, embedder=embedder).hits
        places = (rank for rank, hit in enumerate(hits, 1) if one.memory in (hit.id, *hit.also))
        found.setdefault(one.memory, []).append((next(places, 0), one.question))
        if progress:
            progress(number)
    return {memory: _standing(ranked, k) for memory, ranked in found.items()}


def _standing(ranked: Sequence[tuple[int, str]], k: int) -> Standing:
    reciprocal = sum(1 / rank for rank, _ in ranked if rank) / len(ranked)
    missed = [question for rank, question in ranked if not 0 < rank <= k]
    return Standing(len(ranked), len(ranked) - len(missed), reciprocal, missed[0] if missed else "")


def total(found: Mapping[str, Standing]) -> tuple[int, int, float]:
    """Questions, hits, and the mean of 1 / rank over all questions."""
    asked = sum(one.asked for one in found.values())
    mean = sum(one.reciprocal * one.asked for one in found.values()) / max(1, asked)
    return asked, sum(one.hits for one in found.values()), mean


def joined(parts: Sequence[Standing]) -> Standing:
    """Several as one: of a memory that was parted."""
    asked, hits, mean = total({str(number): one for number, one in enumerate(parts)})
    return Standing(asked, hits, mean)


def failing(found: Mapping[str, Standing]) -> list[str]:
    """The memories that some question does not find, those first that fewest find."""
    missed = [memory for memory, one in found.items() if one.hits < one.asked]
    return sorted(missed, key=lambda memory: (found[memory].score, memory))


def repairs_for(row: Mapping[str, Any], asked: Sequence[Asked], *, embedder: Embedder | None) -> list[str]:
    """What may help a memory, the surest first: a vector that is not its own, a text of several things, its wording."""
    found = []
    if embedder is not None and not _vector_is_its_own(row, embedder):
        found.append(RE_EMBED)
    if row["kind"] in PROSE and row["words"] and row["words"] > LONG_WORDS:
        found.append(RE_CHUNK)
    if any(one.split == TRAIN for one in asked):
        found.append(WORDING)
    return found


def _vector_is_its_own(row: Mapping[str, Any], embedder: Embedder) -> bool:
    import numpy as np

    if "vector" not in row:
        return True
    if row["vector"] is None:
        return False
    made = embedder.embed([row["text"]])[0]
    return float(np.asarray(row["vector"], np.float32) @ made) >= SAME
