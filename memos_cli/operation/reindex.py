"""A table written anew beside the old one and put in its place: other vectors, no deleted rows left in its files.

Needs no sources: the texts are in the table. Knows nothing of versions; works in the draft it was handed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube.plaintext import TABLE, Memories
from memos_cli.operation.embedded import VECTORS, embed_table

if TYPE_CHECKING:
    from memos_cli.cube.metadata import EmbedderIdentity
    from memos_cli.operation.embedded import Writer
    from memos_cli.operation.ingest import Embedder

BATCH = 512


def rewrite(
    directory: Path,
    *,
    embedder: Embedder | None,
    identity: EmbedderIdentity | None,
    writer: Callable[[Memories], AbstractContextManager[Writer | None]] = lambda fresh: nullcontext(),
) -> Iterator[int]:
    """Rewrites the table under `directory`, yielding how many rows are done; through the `writer` to it, if any."""
    import pyarrow as pa

    old = Memories.open(directory)
    beside = directory / "rewriting"
    fresh = Memories.create(beside, embedder=identity)
    columns = [name for name in old.schema.names if name not in VECTORS]
    done = 0
    with writer(fresh) as far:
        for batch in old.table.search().select(columns).to_batches(BATCH):
            rows = pa.Table.from_batches([batch])
            if rows.num_rows:
                if far:
                    far.put(rows)
                else:
                    fresh.append(embed_table(rows, embedder=embedder, identity=identity))
                done += rows.num_rows
                yield done
        if far:
            far.settle()
    shutil.rmtree(directory / f"{TABLE}.lance")
    (beside / f"{TABLE}.lance").rename(directory / f"{TABLE}.lance")
    beside.rmdir()
