"""Small tables that are read and written whole: an Arrow file beside the memories, a row for each dataclass.

Knows nothing of what the rows mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Damaged

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """The file at `path`; no rows when there is no file. Raises Damaged for another schema or no Arrow."""
    import pyarrow as pa

    if not path.exists():
        return schema.empty_table()
    try:
        with pa.ipc.open_file(path) as file:
            table = file.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(f"{path} does not read as an Arrow file: {error}") from error
    if not table.schema.equals(schema):
        raise Damaged(f"{path}: expected columns {schema.names}, found {table.schema.names}")
    return table


def table_of(rows: Sequence[Any], schema: pa.Schema) -> pa.Table:
    """These dataclasses as a table, in their order."""
    import pyarrow as pa

    # Column by column: `asdict` copies each value deeply, which takes longer than all else together.
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def encode(table: pa.Table) -> bytes:
    """The bytes of a file that holds `table`; equal rows give equal bytes."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())
