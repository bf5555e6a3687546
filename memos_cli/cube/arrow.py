"""Small tables that are read and written whole: an Arrow file beside the memories, a row for each dataclass.

Knows nothing of what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Damaged

if TYPE_CHECKING:
    import pyarrow as pa


def read_rows(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """The rows in the file at `path`; none when there is no file. Raises Damaged for another schema or no Arrow."""
    import pyarrow as pa

    if not path.exists():
        return []
    try:
        with pa.ipc.open_file(path) as file:
            table = file.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(f"{path} does not read as an Arrow file: {error}") from error
    if not table.schema.equals(schema):
        raise Damaged(f"{path}: expected columns {schema.names}, found {table.schema.names}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def encode_rows(rows: Iterable[Any], schema: pa.Schema) -> bytes:
    """The bytes of a file that holds these dataclasses."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema))
    return bytes(sink.getvalue())
