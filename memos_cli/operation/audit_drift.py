"""The part of an audit that computes a sample of vectors again: are they still those of the recorded embedder?

A library that was brought up to date, or a model that was put in another's place, changes vectors without a word, and
a query is then compared with vectors of another kind. Knows nothing of where the embedder comes from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from memos_cli.operation.context import meant
from memos_cli.operation.findings import WARNING, Finding

if TYPE_CHECKING:
    import numpy as np

    from memos_cli.cube.plaintext import Memories

SAMPLE = 32
# Int8 on another processor moves a vector by a few thousandths; another model by far more.
LEAST_COSINE = 0.99
_COLUMNS = ["id", "kind", "text", "near", "vector", "near_vector"]


class Embedder(Protocol):
    """What makes vectors of texts, of unit length."""

    def embed(self, texts: Sequence[str]) -> np.ndarray: ...


def check(root: Path, memories: Memories, embedder: Embedder, *, seed: int = 0) -> Iterator[Finding]:
    """Whether the vectors of a few memories are what `embedder` makes of their texts now."""
    import numpy as np

    rows = memories.take(_sample(memories, seed), columns=_COLUMNS).to_pylist()
    wanted = [(row["id"], row["text"], row["vector"]) for row in rows if row["vector"]]
    wanted += [
        (row["id"], meant(row["kind"], row["text"], row["near"]), row["near_vector"])
        for row in rows
        if row["near_vector"]
    ]
    if not wanted:
        return
    fresh = embedder.embed([text for _, text, _ in wanted])
    cosines = np.einsum("nd,nd->n", fresh, np.asarray([vector for _, _, vector in wanted], dtype=np.float32))
    off = [index for index, cosine in enumerate(cosines) if not cosine >= LEAST_COSINE]
    if off:
        worst = min(off, key=lambda index: float(cosines[index]))
        message = (
            f"{len(off)} of {len(wanted)} vectors are not what the recorded embedder makes of their texts now; "
            f"the cosine of the worst is {float(cosines[worst]):.3f}"
        )
        yield Finding(WARNING, "drift", f"{root} memory {wanted[worst][0]}", message, f"memos reindex {root}")


def _sample(memories: Memories, seed: int) -> list[str]:
    ids: list[str] = []
    for batch in memories.table.search().where("vector is not null").select(["id"]).to_batches():
        ids += batch.column("id").to_pylist()
    chance = random.Random(seed)
    return ids if len(ids) <= SAMPLE else chance.sample(ids, SAMPLE)
