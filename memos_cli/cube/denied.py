"""What was forgotten for good, so that no ingest brings it back: a file beside the table, with a row for each memory.

It holds keyed hashes only, under a key that never leaves the home of who forgot: with the file alone nobody can tell,
or try, what the words were, and another home cannot use it. Absent until something is purged; an Arrow file, written
whole. Knows nothing of how a hash is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import arrow

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "denied.arrow"


@dataclass(frozen=True, slots=True)
class Denied:
    """A memory that was forgotten for good, in hashes: its id, its words, runs of them, its source.

    `key` tells which key they were made with, and nothing else about it.
    """

    id: str
    words: str
    runs: tuple[str, ...]
    source: str
    key: str
    denied_at: datetime


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, moment = pa.string(), pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            ("id", text), ("words", text), ("runs", pa.list_(text)), ("source", text), ("key", text),
            ("denied_at", moment),
        ]
    )  # fmt: skip


def read(directory: Path) -> list[Denied]:
    """What was forgotten for good, in the order it was; nothing when there is no such file. Raises Damaged."""
    rows = arrow.read_table(directory / FILE, _schema()).to_pylist()
    return [Denied(**{**row, "runs": tuple(row["runs"] or ())}) for row in rows]


def encode(entries: Iterable[Denied]) -> bytes:
    """The bytes of the file."""
    return arrow.encode(arrow.table_of(list(entries), _schema()))
