"""A cube of many memories, made without a source or an embedder's time.

Turns of dialogue whose words are drawn from real ones, with unit vectors in clusters about as tight as those of texts
(an index finds its way among clusters; among vectors with no structure it could not, nor would it need to). The rows
go through `cube.plaintext` into a cube of the API's own making, so a query treats it as any other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np  # noqa: TID253  a benchmark computes
import pyarrow as pa  # noqa: TID253

from memos_cli.cube import metadata
from memos_cli.cube.metadata import EmbedderIdentity, Plaintext
from memos_cli.cube.plaintext import EMPTY, Memories, schema
from memos_cli.interface import frame
from memos_cli.operation.ingest import BATCH_EMBEDDED
from tests.bench.turns import turns

DIM, CLUSTERS, SPREAD = 384, 200, 0.6
BATCH = 10_000
SESSION, TALK = 20, 1000  # turns in each
WORDS = 14
SPEAKERS = ("Ann", "Bo", "Cy", "Di")
# With more rows the second vector column is left null: dialogue does not search it, and it would double the disk.
BOTH_VECTORS = 100_000


def make_cube(root: Path, *, rows: int, home: Path, embedder: EmbedderIdentity) -> None:
    """A cube of `rows` memories at `root`, with all its indexes."""
    desk = frame.desk(home)
    owner = metadata.Governance(owner=desk.actor.key, owner_user=desk.actor.user)
    meta = replace(metadata.new(root.stem, governance=owner), plaintext=Plaintext(embedder=embedder))

    def fill(memories: Memories) -> None:
        for batch in batches(rows, embedder):
            # in the pieces of an ingest, so that it is tidied as one
            for start in range(0, len(batch), BATCH_EMBEDDED):
                memories.append(batch.slice(start, BATCH_EMBEDDED))

    frame.create(desk, root, meta, fill=fill)


def vectors(rows: int) -> Iterator[np.ndarray]:
    """The rows' vectors, a batch at a time; the same for the same number."""
    centres = _unit(np.random.default_rng(1).normal(size=(CLUSTERS, DIM)))
    for start in range(0, rows, BATCH):
        dice = np.random.default_rng(start + 2)
        count = min(BATCH, rows - start)
        noise = dice.normal(size=(count, DIM)) * SPREAD / np.sqrt(DIM)
        yield _unit(centres[dice.integers(0, CLUSTERS, count)] + noise)


def questions(count: int) -> np.ndarray:
    """Vectors to look for: in the clusters, and none of them a row's own."""
    centres = _unit(np.random.default_rng(1).normal(size=(CLUSTERS, DIM)))
    dice = np.random.default_rng(3)
    noise = dice.normal(size=(count, DIM)) * SPREAD / np.sqrt(DIM)
    return _unit(centres[dice.integers(0, CLUSTERS, count)] + noise)


def _unit(rows: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def batches(rows: int, embedder: EmbedderIdentity) -> Iterator[pa.Table]:
    """The rows of the table."""
    said = [word for turn in turns(1000) for word in turn.text.split()]
    fields = schema(embedder)
    for number, near in enumerate(vectors(rows)):
        yield _batch(number * BATCH, near, said, fields, both=rows <= BOTH_VECTORS)


def _batch(start: int, near: np.ndarray, said: list[str], fields: pa.Schema, *, both: bool) -> pa.Table:
    count = len(near)
    dice = random.Random(start)
    texts = [" ".join(said[at : at + WORDS]) for at in (dice.randrange(len(said) - WORDS) for _ in range(count))]
    names = [SPEAKERS[dice.randrange(2) + 2 * (i // TALK % 2)] for i in range(start, start + count)]
    lines = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(near.reshape(-1)), DIM)
    first = datetime(2024, 1, 1, tzinfo=UTC)
    told = {
        "id": [f"{i:020x}" for i in range(start, start + count)], "text": texts,
        "near": [_window(lines, i, 1) for i in range(count)], "wide": [_window(lines, i, 2) for i in range(count)],
        "kind": ["turn"] * count, "source": [f"talk-{i // TALK}.jsonl" for i in range(start, start + count)],
        "session": [f"session_{i // SESSION % (TALK // SESSION)}" for i in range(start, start + count)],
        "speaker": names, "position": list(range(start, start + count)), "words": [WORDS] * count,
        "time": [first + timedelta(minutes=7 * i) for i in range(start, start + count)],
        "valid_from": [first] * count, "created_at": [first] * count, "updated_at": [first] * count,
        "content_key": [f"{i:032x}" for i in range(start, start + count)], "vector": flat,
        "source_digest": ["sha256:" + "0" * 64] * count, **({"near_vector": flat} if both else {}),
    }  # fmt: skip
    columns = [
        told[field.name]
        if field.name == "vector" or (field.name == "near_vector" and both)
        else pa.array(told.get(field.name, [EMPTY.get(field.name)] * count), field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(columns, schema=fields)


def _window(lines: list[str], at: int, reach: int) -> str:
    session = at - at % SESSION
    return "\n".join(lines[max(session, at - reach) : min(session + SESSION, at + reach + 1)])
