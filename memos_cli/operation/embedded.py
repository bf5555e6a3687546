"""Rows and their vectors: made here, or by workers that write their part of the table themselves.

What a worker is given and gives back are plain values, so any engine can carry them: where the table is and which
embedder it has, rows, and what was written. The writer hands batches out and puts in what comes back, in their order;
until `settle` the table does not have them. Knows no sources and no versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from memos_cli.errors import NotFound, WrongModel
from memos_cli.operation.context import meant

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import pyarrow as pa

    from memos_cli.cube.metadata import EmbedderIdentity
    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation.ingest import Embedder


def texts_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is embedded of these rows: their texts and what is meant by each, every one once."""
    return list(dict.fromkeys([row["text"] for row in rows] + [_meaning(row) for row in rows]))


def embed_rows(embedder: Embedder, rows: Sequence[dict[str, Any]]) -> int:
    """Sets both vectors of each row; a text that stands twice is embedded once. Returns how many texts there were."""
    texts = texts_of(rows)
    vector = dict(zip(texts, embedder.embed(texts), strict=True))
    for row in rows:
        row["vector"], row["near_vector"] = vector[row["text"]], vector[_meaning(row)]
    return len(texts)


def _meaning(row: dict[str, Any]) -> str:
    return meant(row["kind"], row["text"], row["near"])


def embed_again(embedder: Embedder, before: pa.Table, after: pa.Table) -> pa.Table:
    """The rows `after` with new vectors where their context is another than it was `before`."""
    from memos_cli.cube.plaintext import with_columns

    vectors: list[Any] = list(_matrix(before["near_vector"]))
    places = zip(before["near"].to_pylist(), after["near"].to_pylist(), after["kind"].to_pylist(), strict=True)
    stale = [i for i, (was, now, kind) in enumerate(places) if was != now and kind != "turn"]
    fresh = embedder.embed([after["near"][i].as_py() for i in stale])
    for i, vector in zip(stale, fresh, strict=True):
        vectors[i] = vector
    return with_columns(after, near_vector=vectors)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    import numpy as np

    width = column.type.list_size
    return np.asarray(column.combine_chunks().flatten(), dtype=np.float32).reshape(-1, width)


def embed_table(rows: pa.Table, *, embedder: Embedder | None, identity: EmbedderIdentity | None) -> pa.Table:
    """Rows of a table without vectors under the schema of an embedder, with its vectors."""
    import pyarrow as pa

    from memos_cli.cube.plaintext import schema, with_columns

    fields = schema(identity)
    if embedder is None:
        return rows.select(fields.names).cast(fields)
    told = rows.select(["kind", "text", "near"]).to_pylist()
    embed_rows(embedder, told)
    for field in fields:
        if field.name in VECTORS:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    rows = rows.select(fields.names).cast(fields)
    return with_columns(rows, **{name: [row[name] for row in told] for name in VECTORS})


VECTORS = ("vector", "near_vector")


# --- what workers do


@dataclass(frozen=True, slots=True)
class Target:
    """A table to write to: its folder, its embedder and what it is called, and where caches are kept."""

    directory: str
    spec: str
    identity: EmbedderIdentity | None
    home: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker holds: the table it writes to, and the embedder in memory."""

    target: Target
    embedder: Embedder | None


def set_up(target: Target) -> Held:
    """The embedder of a table, opened. Raises WrongModel where its name means another model, NotFound, MissingExtra."""
    from memos_cli.infrastructure.identity import default_home
    from memos_cli.runtime.embed import open_embedder

    if not Path(target.directory).is_dir():
        raise NotFound(f"expected the table of the cube in {target.directory}, found no folder there")
    home = Path(target.home)
    embedder = open_embedder(target.spec, home=home if home.is_dir() else default_home())
    found = embedder.identity["digest"] if embedder else None
    if found != (target.identity.digest if target.identity else None):
        raise WrongModel(f"a worker has another embedder {target.spec}: {found}", hint="the same files on every node")
    return Held(target, embedder)


def write_rows(held: Held, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Embeds rows and writes them beside the table; what `fragments.append` puts in."""
    from memos_cli.cube import fragments
    from memos_cli.cube.plaintext import table_of

    if held.embedder:
        embed_rows(held.embedder, rows)
    table = table_of(rows, embedder=held.target.identity)
    return fragments.write(Path(held.target.directory), table)


def write_table(held: Held, rows: pa.Table) -> tuple[str, ...]:
    """The same for rows of a table that are to have other vectors."""
    from memos_cli.cube import fragments

    table = embed_table(rows, embedder=held.embedder, identity=held.target.identity)
    return fragments.write(Path(held.target.directory), table)


class Crew(Protocol):
    """What the writer asks of those who work."""

    def put(self, item: Any) -> Iterator[Any]: ...
    def rest(self) -> Iterator[Any]: ...


class Writer:
    """Batches on their way through workers into a table. They are called when the first is there to be handed out.

    `permit` hears of rows before they go. Leaving the block without `settle` gives up what is not in the table.
    """

    def __init__(
        self,
        memories: Memories,
        call: Callable[[], AbstractContextManager[Crew]],
        *,
        permit: Callable[[Any], None] = lambda rows: None,
        keep: frozenset[str] | None = None,
    ) -> None:
        """`keep` are data files that stay though no row is in them; by default those that there are."""
        from memos_cli.cube import fragments

        self._memories, self._call, self._permit = memories, call, permit
        self._before = fragments.files(memories.directory) if keep is None else keep
        self._stack = ExitStack()
        self._crew: Crew | None = None
        self._written: list[str] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    def put(self, rows: Any) -> None:
        """Hands out a batch."""
        self._permit(rows)
        if self._crew is None:
            self._crew = self._stack.enter_context(self._call())
        for written in self._crew.put(rows):
            self._written += written

    def settle(self) -> None:
        """Waits for what is under way and puts all of it into the table."""
        from memos_cli.cube import fragments

        if self._crew is None:
            return
        for written in self._crew.rest():
            self._written += written
        fragments.append(self._memories, self._written)
        self._written = []
        fragments.drop_lost(self._memories, self._before)
