"""A table written anew beside the old one and put in its place: other vectors, no deleted rows left in its files.

Needs no sources: the texts are in the table. Knows nothing of versions; works in the draft it was handed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube.plaintext import TABLE, Memories, schema, with_columns
from memos_cli.operation.context import meant

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.metadata import EmbedderIdentity
    from memos_cli.operation.ingest import Embedder

BATCH = 512
_VECTORS = ("vector", "near_vector")


def rewrite(directory: Path, *, embedder: Embedder | None, identity: EmbedderIdentity | None) -> Iterator[int]:
    """Rewrites the table under `directory`, yielding how many rows are done."""
    import pyarrow as pa

    old = Memories.open(directory)
    beside = directory / "rewriting"
    fresh = Memories.create(beside, embedder=identity)
    columns = [name for name in old.schema.names if name not in _VECTORS]
    done = 0
    for batch in old.table.search().select(columns).to_batches(BATCH):
        rows = pa.Table.from_batches([batch])
        if rows.num_rows:
            fresh.append(embedded(rows, embedder=embedder, identity=identity))
            done += rows.num_rows
            yield done
    shutil.rmtree(directory / f"{TABLE}.lance")
    (beside / f"{TABLE}.lance").rename(directory / f"{TABLE}.lance")
    beside.rmdir()


def embedded(rows: pa.Table, *, embedder: Embedder | None, identity: EmbedderIdentity | None) -> pa.Table:
    """The rows under the new schema, with vectors of the new embedder."""
    fields = schema(identity)
    if embedder is None:
        return rows.select(fields.names).cast(fields)
    own, meanings = rows["text"].to_pylist(), _meanings(rows)
    texts = list(dict.fromkeys(own + meanings))
    vector = dict(zip(texts, embedder.embed(texts), strict=True))
    nothing = {field.name: field.type for field in fields if field.name in _VECTORS}
    for name, kind in nothing.items():
        rows = rows.append_column(fields.field(name), _nulls(rows.num_rows, kind))
    rows = rows.select(fields.names).cast(fields)
    return with_columns(
        rows,
        vector=[vector[text] for text in own],
        near_vector=[vector[text] for text in meanings],
    )


def _meanings(rows: pa.Table) -> list[str]:
    columns = (rows[name].to_pylist() for name in ("kind", "text", "near"))
    return [meant(kind, text, near) for kind, text, near in zip(*columns, strict=True)]


def _nulls(count: int, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.nulls(count, kind)
