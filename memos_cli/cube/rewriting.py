"""A table written anew: the same rows, or some of them, in files that hold nothing else.

Lance never takes a deleted or replaced row's bytes out of the files it is in: they stay, and travel with the table.
Knows nothing of versions; works in a folder that nobody else reads.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import lance
from memos_cli.cube.plaintext import TABLE

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 512
_STEP = re.compile(r"(\d+)-")
_BESIDE = "rewriting"


def is_clean(directory: Path) -> bool:
    """Whether the files of the table under `directory` are known to hold its rows and no others.

    That is so while all of its history is there to see, from the first transaction on, and left nothing behind: no
    deleted row, no data file that no fragment has, no index of before. Once Lance has tidied a table up, its indexes
    may hold words of rows that are gone, and nothing tells.
    """
    place = directory / f"{TABLE}.lance"
    table = lance.open_table(directory, TABLE)
    fragments: int = table.stats()["fragment_stats"]["num_fragments"]
    steps = sorted(int(match[1]) for path in _files(place / "_transactions") if (match := _STEP.match(path.name)))
    indexes = [path for path in (place / "_indices").glob("*")]
    return (
        not any(_files(place / "_deletions"))
        and len(_files(place / "data")) == fragments
        and steps == list(range(len(steps)))
        and len(indexes) == len(table.list_indices())
    )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def rewrite(directory: Path, *, where: str = "") -> int:
    """Writes the table under `directory` anew in its place, with the rows that satisfy `where` ("" for all).

    Returns how many there are. Indexes are made anew by whoever tidies the table. Raises Damaged.
    """
    old = lance.open_table(directory, TABLE)
    beside = directory / _BESIDE
    beside.mkdir()
    rows = write(old, beside, where=where)
    shutil.rmtree(directory / f"{TABLE}.lance")
    (beside / f"{TABLE}.lance").rename(directory / f"{TABLE}.lance")
    beside.rmdir()
    return rows


def write(table: Any, directory: Path, *, where: str = "") -> int:
    """A new table under `directory` with the rows of `table` that satisfy `where`, read a batch at a time."""
    import pyarrow as pa

    schema: pa.Schema = lance.strip_unsafe(table.schema)
    query = table.search().select(schema.names)
    if where:
        query = query.where(where)
    fresh = lance.create_table(directory, TABLE, schema=schema)
    rows = 0

    def batches() -> Any:
        nonlocal rows
        for batch in query.to_batches(_BATCH_ROWS):
            rows += batch.num_rows
            yield pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)

    if table.count_rows(where or None):
        fresh.add(pa.RecordBatchReader.from_batches(schema, batches()))
    return rows
