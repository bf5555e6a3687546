"""A table written anew: the same rows, or some of them, in files that hold nothing else.

Lance never takes a deleted or replaced row's bytes out of the files it is in: they stay, and travel with the table.
Knows nothing of versions; works in a folder that nobody else reads.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import lance
from memos_cli.cube.filters import quote
from memos_cli.cube.lance import MEMORIES as TABLE

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


def rewrite(directory: Path, *, where: str = "", after: Mapping[str, Sequence[str]] | None = None) -> int:
    """Writes the table under `directory` anew in its place, with the rows that satisfy `where` ("" for all).

    `after` moves rows: those with the ids that it has for an id stand behind the row with that one. Returns how many
    there are. Indexes are made anew by whoever tidies the table. Raises Damaged.
    """
    old = lance.open_table(directory, TABLE)
    beside = directory / _BESIDE
    beside.mkdir()
    rows = write(old, beside, where=where, after=after)
    shutil.rmtree(directory / f"{TABLE}.lance")
    (beside / f"{TABLE}.lance").rename(directory / f"{TABLE}.lance")
    beside.rmdir()
    return rows


def write(table: Any, directory: Path, *, where: str = "", after: Mapping[str, Sequence[str]] | None = None) -> int:
    """A new table under `directory` with the rows of `table` that satisfy `where`, read a batch at a time.

    `after` as with `rewrite`; what it moves is few.
    """
    fresh = lance.create_table(directory, TABLE, schema=lance.strip_unsafe(table.schema))
    return fill(fresh, table, where=where, after=after)


def fill(fresh: Any, table: Any, *, where: str = "", after: Mapping[str, Sequence[str]] | None = None) -> int:
    """The same into a table that is there and empty."""
    import pyarrow as pa

    schema: pa.Schema = lance.strip_unsafe(table.schema)
    query = table.search().select(schema.names)
    if where:
        query = query.where(where)
    moved = _moved(table, after or {}, schema)
    rows = 0

    def batches() -> Any:
        nonlocal rows
        for batch in query.to_batches(_BATCH_ROWS):
            part = pa.RecordBatch.from_arrays([batch.column(name) for name in schema.names], schema=schema)
            for piece in _with_moved(part, moved) if moved else [part]:
                rows += piece.num_rows
                yield piece

    if table.count_rows(where or None):
        fresh.add(pa.RecordBatchReader.from_batches(schema, batches()))
    return rows


def _moved(table: Any, after: Mapping[str, Sequence[str]], schema: pa.Schema) -> dict[str, list[pa.RecordBatch]]:
    """The rows to be moved, by the id of the row before them; under "" all their ids."""
    wanted = [one for ids in after.values() for one in ids]
    if not wanted:
        return {}
    found = table.search().where(f"id in ({', '.join(map(quote, wanted))})").select(schema.names).to_arrow()
    place = {one: number for number, one in enumerate(found["id"].to_pylist())}
    parts = {host: found.take([place[one] for one in ids]).to_batches() for host, ids in after.items()}
    return {**parts, "": found.to_batches()}


def _with_moved(part: pa.RecordBatch, moved: Mapping[str, Sequence[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """The rows of a batch without those that are moved, and with those that belong behind one of them."""
    away = {one for batch in moved[""] for one in batch.column("id").to_pylist()}
    begin = 0
    for number, identity in enumerate(part.column("id").to_pylist()):
        if identity in away:
            yield part.slice(begin, number - begin)
            begin = number + 1
        elif identity in moved:
            yield part.slice(begin, number + 1 - begin)
            yield from moved[identity]
            begin = number + 1
    yield part.slice(begin)
