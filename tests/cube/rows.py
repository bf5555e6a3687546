"""Small tables of made-up memories for tests of search and recall."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253

from memos_cli.cube import search
from memos_cli.cube.metadata import EmbedderIdentity
from memos_cli.cube.plaintext import Memories, table_of

MONDAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def turn(number: int, speaker: str, text: str, **more: Any) -> dict[str, Any]:
    """A chat turn; ten to a session, a session a week."""
    session, time = number // 10, MONDAY + timedelta(weeks=number // 10)
    return {
        "id": f"{number:020x}", "text": text, "near": f"{speaker}: {text}", "wide": f"{speaker}: {text}",
        "kind": "turn", "source": "chat.jsonl", "source_digest": "sha256:0", "position": number, "turn": number + 1,
        "session": f"s{session}", "speaker": speaker, "time": time, "words": len(text.split()),
        "content_key": str(number), "valid_from": MONDAY, "created_at": MONDAY, "updated_at": MONDAY, **more,
    }  # fmt: skip


def with_windows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns with their neighbours in the search columns."""
    for name, reach in (("near", 1), ("wide", 2)):
        lines = [f"{row['speaker'] or row['role']}: {row['text']}" for row in rows]
        for i, row in enumerate(rows):
            around = range(max(0, i - reach), min(len(rows), i + reach + 1))
            row[name] = "\n".join(lines[j] for j in around if rows[j]["session"] == row["session"])
    return rows


def make_table(
    directory: Path, rows: Sequence[dict[str, Any]], *, embedder: Any = None, indexed: bool = True
) -> Memories:
    """A table of the rows, with vectors when there is an embedder, and its indexes."""
    identity = EmbedderIdentity(**embedder.identity) if embedder else None
    if embedder:
        for column, source in (("vector", "text"), ("near_vector", "near")):
            vectors = embedder.embed([row[source] for row in rows])
            rows = [{**row, column: vector} for row, vector in zip(rows, vectors, strict=True)]
    memories = Memories.create(directory, embedder=identity)
    memories.append(table_of(list(rows), embedder=identity))
    if indexed:
        search.ensure_indexes(memories.table)
    return memories


def unit_rows(count: int, *, dim: int, seed: int = 0) -> np.ndarray:
    """Clustered vectors of length 1."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(8, count // 200), dim))
    vectors = centres[random.integers(0, len(centres), count)] + 0.6 * random.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
