"""The catalogue of sources beside the table: which file, in which state, gave how many memories.

It lets an unchanged source be recognised by its digest without reading a row. An Arrow file, written whole: one
read and one write a command, whatever the number of sources. Knows nothing of how sources are parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa  # noqa: TID253  this room is Arrow's

from memos_cli.errors import Damaged

FILE = "sources.arrow"
_SCHEMA = pa.schema(
    [
        ("uri", pa.string()), ("digest", pa.string()), ("format", pa.string()), ("title", pa.string()),
        ("size_bytes", pa.int64()), ("memories", pa.int64()), ("seen_at", pa.timestamp("us", tz="UTC")),
    ]
)  # fmt: skip


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


def read(directory: Path) -> dict[str, SourceState]:
    """Uri to state, in the order they were first seen; empty when there is no catalogue. Raises Damaged."""
    path = directory / FILE
    if not path.exists():
        return {}
    try:
        with pa.ipc.open_file(path) as file:
            table = file.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(f"{path} does not read as an Arrow file: {error}") from error
    if not table.schema.equals(_SCHEMA):
        raise Damaged(f"{path}: expected columns {_SCHEMA.names}, found {table.schema.names}")
    return {row["uri"]: SourceState(**row) for row in table.to_pylist()}


def encode(states: Mapping[str, SourceState]) -> bytes:
    """The bytes of the catalogue."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([asdict(state) for state in states.values()], schema=_SCHEMA)
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
