"""The reading side of the plaintext table: ranked lists, rows by their place, indexes and tidying.

Every function takes an open Lance table of the columns that `plaintext.schema` names. Lists come back as Arrow tables
of `_rowid` and `_score` or `_distance`, best first. `where` is an SQL condition ("" for none) and is applied before
ranking. Row ids hold for one version of the table. Knows nothing of ranking across lists, or of where vectors come
from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memos_cli.cube import heap
from memos_cli.cube.native import Words

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_COLUMNS = ("near", "wide", "text")
VECTOR_COLUMNS = ("vector", "near_vector")
# Below this many rows a full scan of the vectors is as fast as an index and exact.
INDEXED_ROWS = 50_000
PROBES = 50
# Of the dot product of eight-bit numbers Lance makes no use of the processor's wide instructions: it takes ten times as
# long, and finds little more.
METRIC: Final = "cosine"
# Single-row commits leave a fragment each; past this many, queries slow down.
MOST_FRAGMENTS = 16
# Fragments of so many rows are large enough: merging them takes memory that grows with the table, and gains little.
FRAGMENT_ROWS = 4096
# Rows that are in no text index yet are searched one by one.
MOST_UNINDEXED = 512
# From so many rows on, rewriting and indexing a table takes enough memory that giving it back is worth the time.
LARGE_ROWS = 20_000


def text_list(table: Any, words: str, *, column: str, limit: int, where: str = "") -> pa.Table:
    """The rows whose `column` has any of `words`, by BM25. No word is an operator, and none must match."""
    return _ranked(table.search(Words(words, column)), "_score", limit=limit, where=where)


def vector_list(table: Any, vector: Any, *, column: str, limit: int, where: str = "") -> pa.Table:
    """The rows whose `column` is nearest to `vector` by cosine; all vectors are of length 1."""
    query = table.search(vector, vector_column_name=column).distance_type(METRIC).nprobes(PROBES)
    return _ranked(query, "_distance", limit=limit, where=where)


def _ranked(query: Any, score: str, *, limit: int, where: str) -> pa.Table:
    if where:
        query = query.where(where, prefilter=True)
    return query.limit(limit).select([score]).with_row_id(True).to_arrow()


def scan(table: Any, columns: Sequence[str], *, where: str = "", limit: int | None = None) -> pa.Table:
    """Columns of the rows that satisfy `where`, in table order, with their `_rowid`."""
    query = table.search().select(list(columns)).with_row_id(True)
    if where:
        query = query.where(where)
    if limit is not None:
        query = query.limit(limit)
    return query.to_arrow()


def take(table: Any, rowids: Iterable[int], columns: Sequence[str]) -> pa.Table:
    """Columns of the rows with these row ids, with their `_rowid`, in any order."""
    wanted = sorted(set(rowids))
    if not wanted:
        return scan(table, columns, limit=1).slice(0, 0)
    return table.take_row_ids(wanted).select(list(columns)).with_row_id().to_arrow()


def count(table: Any, where: str = "") -> int:
    """How many rows satisfy `where`."""
    return int(table.count_rows(where or None))


def indexed_columns(table: Any) -> frozenset[str]:
    """The columns that have an index of any kind."""
    return frozenset(index.columns[0] for index in table.list_indices())


def vector_columns(table: Any) -> tuple[str, ...]:
    """The vector columns that the table has; none when it was made without an embedder."""
    return tuple(name for name in VECTOR_COLUMNS if name in table.schema.names)


def ensure_indexes(table: Any) -> None:
    """Makes what is missing: text indexes always, vector and key indexes once the table is large enough to gain.

    Row ids and results stay the same. Call it where nobody else writes.
    """
    rows = count(table)
    if rows == 0:
        return
    have = {index.columns[0]: index for index in table.list_indices()}
    _index_text(table, missing=[name for name in TEXT_COLUMNS if name not in have])
    if rows >= INDEXED_ROWS:
        _index_vectors(table, missing=[name for name in vector_columns(table) if name not in have])
        _index_keys(table, missing=[name for name in ("id", "source") if name not in have])
    stale = max((index.num_unindexed_rows or 0 for index in have.values()), default=0)
    if stale > max(MOST_UNINDEXED, rows // 50):
        tidy(table)


def _index_text(table: Any, *, missing: Sequence[str]) -> None:
    import lancedb.index

    for name in missing:
        _index(table, name, lancedb.index.FTS(with_position=False))


def _index_vectors(table: Any, *, missing: Sequence[str]) -> None:
    from lancedb.index import IvfSq

    for name in missing:
        if _has_its_own(table, name):
            _index(table, name, IvfSq(distance_type=METRIC))


def _has_its_own(table: Any, column: str) -> bool:
    """Whether a vector column is worth an index: one of nulls, or of the vectors that turns have already, is not."""
    if count(table, f"{column} is not null") < INDEXED_ROWS:
        return False
    return column == "vector" or count(table, "kind = 'turn'") * 2 <= count(table)


def _index_keys(table: Any, *, missing: Sequence[str]) -> None:
    from lancedb.index import BTree

    for name in missing:
        _index(table, name, BTree())


def _index(table: Any, name: str, config: Any) -> None:
    with _lean(table):
        table.create_index(name, config=config)


def _lean(table: Any) -> AbstractContextManager[None]:
    """Around work on a whole table: as little memory as it can be done in, where that matters."""
    return heap.returning() if count(table) >= LARGE_ROWS else nullcontext()


def compact(table: Any) -> bool:
    """Keeps the table's directory small: True when it was rewritten, False when only old manifests were dropped.

    Lance keeps every version of a table, and each manifest lists every fragment, so a thousand small commits would
    make the directory grow with their square and queries slow. Call it where nobody else reads the directory.
    """
    fragments = table.stats()["fragment_stats"]["num_fragments"]
    if fragments > MOST_FRAGMENTS and fragments > count(table) // FRAGMENT_ROWS:
        tidy(table)
        return True
    if not table.kept:
        drop_manifests(table)
    return False


def tidy(table: Any) -> None:
    """Merges fragments, brings indexes up to date and removes what no current row needs."""
    with _lean(table):
        # Zero would do the same and warn of other readers; there are none in a draft.
        table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
    if table.kept:
        return
    drop_manifests(table)


def drop_manifests(table: Any) -> None:
    """Removes the manifests of the table's earlier versions; their data goes when it is next tidied."""
    folder = Path(str(table.uri).removeprefix("file://")) / "_versions"
    # Lance names a manifest by 2**64 - 1 - version, so that the newest sorts first.
    newest = folder / f"{2**64 - 1 - table.version:020d}.manifest"
    if not newest.is_file():
        return
    for path in folder.glob("*.manifest"):
        if path != newest:
            path.unlink(missing_ok=True)
