"""Reads of a Lance table through lancedb's compiled part alone.

Importing lancedb builds pydantic models, a REST client and wrappers that reading a local table never uses: nine tenths
of a cold query's import. Its compiled module `lancedb._lancedb` does the reading, and needs none of them. `open_native`
gives a handle with the few reads that memos makes, in the words of lancedb's own builder (`search`, `where`, `select`,
`to_arrow`), so that either can serve. That module's names are not promised to stay, so `lance.py` asks for it only in
releases that were checked, and falls back to lancedb itself. Knows nothing of the columns.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa


class Words(NamedTuple):
    """A search for any of some words in a column, by BM25."""

    words: str
    column: str


class Native:
    """An open table, to read."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def schema(self) -> pa.Schema:
        """The columns and the metadata."""
        return _wait(self._inner.schema)

    @property
    def version(self) -> int:
        """The number of the table's version."""
        return int(_wait(self._inner.version))

    @property
    def uri(self) -> str:
        """Where the table lies."""
        return str(_wait(self._inner.uri))

    def count_rows(self, filter: str | None = None) -> int:
        """How many rows satisfy an SQL condition (None for all)."""
        return int(_wait(lambda: self._inner.count_rows(filter)))

    def list_indices(self) -> Sequence[Any]:
        """Its indexes: `columns`, `num_unindexed_rows` of each."""
        found: Sequence[Any] = _wait(self._inner.list_indices)
        return found

    def search(
        self, wanted: Any = None, *, vector_column_name: str | None = None, query_type: str | None = None
    ) -> Query:
        """A query to build: for Words, for rows near a vector, or for all rows in their order."""
        query = self._inner.query()
        if wanted is None:
            return Query(query)
        if isinstance(wanted, Words):
            return Query(query.nearest_to_text({"query": wanted.words, "columns": [wanted.column]}))
        import pyarrow as pa

        near = query.nearest_to(pa.array(wanted))
        near.column(vector_column_name)
        return Query(near)

    def take_row_ids(self, rowids: Sequence[int]) -> Take:
        """The rows with these row ids."""
        return Take(self._inner.take_row_ids(list(rowids)))


class Query:
    """A query being built; each method but the last two gives it back."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def where(self, condition: str, *, prefilter: bool = True) -> Query:
        """Only rows that satisfy an SQL condition, applied before ranking."""
        assert prefilter
        self._inner.where(condition)
        return self

    def select(self, columns: Sequence[str]) -> Query:
        """Only these columns."""
        self._inner.select_columns(list(columns))
        return self

    def limit(self, limit: int) -> Query:
        """At most so many rows."""
        self._inner.limit(limit)
        return self

    def with_row_id(self, wanted: bool = True) -> Query:
        """With the column `_rowid`."""
        if wanted:
            self._inner.with_row_id()
        return self

    def distance_type(self, name: str) -> Query:
        """How near is measured."""
        self._inner.distance_type(name)
        return self

    def nprobes(self, count: int) -> Query:
        """How many partitions of a vector index are looked at."""
        self._inner.nprobes(count)
        return self

    def to_arrow(self) -> pa.Table:
        """All rows."""
        return _wait(lambda: _collect(self._inner.execute(None, None)))

    def to_batches(self, most_rows: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows a batch at a time, read as they are asked for."""
        stream = _wait(lambda: self._inner.execute(most_rows, None))
        while (batch := _wait(lambda: _next(stream))) is not None:
            yield batch


class Take(Query):
    """Rows by their row ids."""

    def to_arrow(self) -> pa.Table:
        """All rows."""
        return _wait(lambda: _collect(self._inner.execute()))


async def _collect(running: Awaitable[Any]) -> pa.Table:
    import pyarrow as pa

    stream = await running
    schema = stream.schema
    return pa.Table.from_batches([batch async for batch in stream], schema)


async def _next(stream: Any) -> pa.RecordBatch | None:
    async for batch in stream:
        found: pa.RecordBatch = batch
        return found
    return None


def open_native(
    folder: Path | str, name: str, *, version: int | None = None, storage: Mapping[str, str] | None = None
) -> Native:
    """The table `name` beneath a folder or URL, at a version of its own (default the newest).

    Raises what Lance raises, and ImportError when this way is not to be had.
    """
    compiled = _compiled()

    async def opened() -> Any:
        settings = {"storage_options": dict(storage)} if storage else {}
        table = await (await compiled.connect(str(folder), **settings)).open_table(name)
        if version is not None:
            await table.checkout(version)
        return table

    return Native(_wait(opened))


def _compiled() -> Any:
    """lancedb's compiled module, without lancedb: an empty package stands in its place meanwhile."""
    name = "lancedb._lancedb"
    if name in sys.modules or "lancedb" in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec("lancedb")
    if spec is None:
        raise ImportError("lancedb is not installed")
    package = types.ModuleType("lancedb")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["lancedb"] = package
    try:
        return importlib.import_module(name)
    finally:
        # Whoever wants lancedb itself gets it: Python finds the compiled module loaded.
        del sys.modules["lancedb"]


_PANICS = frozenset({"RustPanic", "PanicException"})


class _Loop:
    """An event loop that is closed with the thread it belongs to."""

    def __init__(self) -> None:
        self.loop, self.process = asyncio.new_event_loop(), os.getpid()

    def __del__(self) -> None:
        # In a child process it is the parent's: closing it there would take it from the parent.
        if self.process == os.getpid() and not self.loop.is_running():
            self.loop.close()


_here = threading.local()


def _own_loop() -> asyncio.AbstractEventLoop:
    held: _Loop | None = getattr(_here, "held", None)
    if held is None or held.process != os.getpid():
        held = _here.held = _Loop()
    return held.loop


def _wait(work: Callable[[], Awaitable[Any]]) -> Any:
    """What `work` gives in the end; in a thread of its own where this one runs an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _own_loop().run_until_complete(_done(work))
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(lambda: _wait(work)).result()


async def _done(work: Callable[[], Awaitable[Any]]) -> Any:
    # Lance's calls ask for the running loop, so they are made inside it.
    try:
        return await work()
    except BaseException as error:
        # Bytes that Lance does not expect can make it panic; the class of that cannot be imported.
        if type(error).__name__ in _PANICS:
            raise RuntimeError(f"it gave up on what the files hold ({error})") from error
        raise
