"""The catalogue of sources beside the table: which file, in which state, gave how many memories.

It lets an unchanged source be recognised by its digest without reading a row. An Arrow file, written whole: one
read and one write a command, whatever the number of sources. Knows nothing of how sources are parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube.arrow import encode_rows, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "sources.arrow"


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


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, count = pa.string(), pa.int64()
    return pa.schema(
        [
            ("uri", text), ("digest", text), ("format", text), ("title", text), ("size_bytes", count),
            ("memories", count), ("seen_at", pa.timestamp("us", tz="UTC")),
        ]
    )  # fmt: skip


def read(directory: Path) -> dict[str, SourceState]:
    """Uri to state, in the order they were first seen; empty when there is no catalogue. Raises Damaged."""
    return {row["uri"]: SourceState(**row) for row in read_rows(directory / FILE, _schema())}


def encode(states: Mapping[str, SourceState]) -> bytes:
    """The bytes of the catalogue."""
    return encode_rows(states.values(), _schema())
