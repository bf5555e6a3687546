"""The catalogue of sources beside the table: which file, in which state, gave how many memories.

It lets an unchanged source be recognised by its digest without reading a row. An Arrow file, written whole: one
read and one write a command. A command that touches few of many sources pays for those it touches: the others stay
in the table they were read as. Knows nothing of how sources are parsed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import arrow

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "sources.arrow"
# Rows that are made into objects together: one costs about as much as this many, for all columns are sliced.
_BLOCK_ROWS = 32


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source as it was when it was last read."""

    uri: str
    digest: str
    format: str
    title: str
    size_bytes: int
    memories: int
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of one source. `status` is added, changed, unchanged, vanished or pruned."""

    uri: str
    status: str
    format: str = ""
    added: int = 0
    kept: int = 0
    superseded: int = 0
    size_bytes: int = 0


class Catalogue(MutableMapping[str, SourceState]):
    """Uri to state, in the order they were first seen; a state is made when it is asked for."""

    def __init__(self, rows: pa.Table | None = None) -> None:
        """`rows` are what was read; None for a catalogue of nothing."""
        self._rows = _schema().empty_table() if rows is None else rows
        # A number is a row that is as it was read.
        self._held: dict[str, int | SourceState] = {uri: row for row, uri in enumerate(self._rows["uri"].to_pylist())}
        self._made: dict[int, list[SourceState]] = {}

    def __getitem__(self, uri: str) -> SourceState:
        held = self._held[uri]
        return self._state(held) if isinstance(held, int) else held

    def __setitem__(self, uri: str, state: SourceState) -> None:
        self._held[uri] = state

    def __delitem__(self, uri: str) -> None:
        del self._held[uri]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, uri: object) -> bool:
        return uri in self._held

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Catalogue) or other._rows is not self._rows:
            return super().__eq__(other)
        if self._held.keys() != other._held.keys():
            return False
        theirs = other._held
        return all(held == theirs[uri] or self[uri] == other[uri] for uri, held in self._held.items())

    __hash__ = None  # type: ignore[assignment]  # it changes

    def copy(self) -> Catalogue:
        """Another that can be changed by itself; what was read is shared."""
        twin = Catalogue.__new__(Catalogue)
        twin._rows, twin._held, twin._made = self._rows, dict(self._held), self._made
        return twin

    def column(self, name: str) -> list[Any]:
        """One value of every state, in order, without making the states."""
        cells = self._rows[name].to_pylist()
        return [cells[held] if isinstance(held, int) else getattr(held, name) for held in self._held.values()]

    def table(self) -> pa.Table:
        """A row for every state, in order."""
        import pyarrow as pa

        fresh = [held for held in self._held.values() if not isinstance(held, int)]
        both = pa.concat_tables([self._rows, arrow.table_of(fresh, self._rows.schema)])
        after = iter(range(self._rows.num_rows, both.num_rows))
        order = [held if isinstance(held, int) else next(after) for held in self._held.values()]
        return both if order == list(range(both.num_rows)) else both.take(pa.array(order, pa.int64()))

    def _state(self, row: int) -> SourceState:
        block, place = divmod(row, _BLOCK_ROWS)
        if block not in self._made:
            cells = self._rows.slice(block * _BLOCK_ROWS, _BLOCK_ROWS).to_pylist()
            self._made[block] = [SourceState(**cell) for cell in cells]
        return self._made[block][place]


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, count = pa.string(), pa.int64()
    return pa.schema(
        [
            ("uri", text), ("digest", text), ("format", text), ("title", text), ("size_bytes", count),
            ("memories", count), ("seen_at", pa.timestamp("us", tz="UTC")),
        ]
    )  # fmt: skip


def read(directory: Path) -> Catalogue:
    """The catalogue in `directory`; empty when there is none. Raises Damaged."""
    return Catalogue(arrow.read_table(directory / FILE, _schema()))


def column(states: Mapping[str, SourceState], name: str) -> list[Any]:
    """One value of every state, in order."""
    return states.column(name) if isinstance(states, Catalogue) else [getattr(each, name) for each in states.values()]


def encode(states: Mapping[str, SourceState]) -> bytes:
    """The bytes of the catalogue."""
    table = states.table() if isinstance(states, Catalogue) else arrow.table_of(list(states.values()), _schema())
    return arrow.encode(table)
