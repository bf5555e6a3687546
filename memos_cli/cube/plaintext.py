"""The plaintext form: a Lance table with a row per memory.

This file holds the schema and the writing side; `search.py` reads. Every write happens in a directory of the
writer's own (the vault's staging clone), so a table is never changed where another process reads it. Knows nothing
of versions, of ranking, or of where vectors come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa  # noqa: TID253  this room is Lance's

from memos_cli.cube import external, lance
from memos_cli.cube.filters import quote
from memos_cli.cube.metadata import EmbedderIdentity, embedder_from
from memos_cli.errors import Damaged

TABLE = lance.MEMORIES
EMBEDDER_KEY = b"memos:embedder"
STATES = ("generated", "activated", "merged", "archived", "frozen", "expired", "forgotten")
RECALLED = ("activated", "merged", "frozen")
# Columns that tables of earlier programs do not have, and the value that all their rows have instead.
LATER: dict[str, Any] = {"decay_days": 0, "extra": "", "superseded_as": "", "true_from": None, "true_to": None}
_SQL_TYPES = {int: "int", str: "string"}
LIVE = "state in ('activated', 'merged', 'frozen') and valid_to is null"
_MOMENT = pa.timestamp("us", tz="UTC")


def live_at(moment: datetime) -> str:
    """LIVE, without what has outlived its time by `moment` (in UTC)."""
    time = moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"{LIVE} and (expires_at is null or expires_at > timestamp '{time}')"


def schema(embedder: EmbedderIdentity | None) -> pa.Schema:
    """The columns of memories.lance; the two vector columns exist only when there is an embedder."""
    text, count = pa.string(), pa.int32()
    columns: list[tuple[str, pa.DataType]] = [
        ("id", text), ("text", text), ("near", text), ("wide", text),
        ("kind", text), ("type", text), ("topic", text), ("tags", pa.list_(text)),
        ("source", text), ("source_digest", text), ("title", text), ("section", text), ("position", pa.int64()),
        ("line_start", count), ("line_end", count), ("page", count), ("turn", count),
        ("session", text), ("speaker", text), ("role", text), ("ref", text),
        ("time", _MOMENT), ("event_time", _MOMENT), ("time_note", text), ("words", count),
        ("origin", text), ("content_key", text),
        ("state", text), ("valid_from", _MOMENT), ("valid_to", _MOMENT),
        ("supersedes", text), ("superseded_by", text), ("created_at", _MOMENT), ("updated_at", _MOMENT),
        ("owner", text), ("read_scope", text), ("write_scope", text), ("share_scope", text), ("sensitivity", text),
        ("priority", count), ("expires_at", _MOMENT), ("legal_hold", pa.bool_()), ("compliance", pa.list_(text)),
        ("uses", pa.int64()), ("last_used", _MOMENT), ("heat", pa.float32()), ("decay_days", count),
        ("extra", text), ("superseded_as", text), ("true_from", _MOMENT), ("true_to", _MOMENT),
    ]  # fmt: skip
    metadata: dict[bytes, bytes] = {}
    if embedder:
        vector = pa.list_(pa.float32(), embedder.dim)
        columns += [("vector", vector), ("near_vector", vector)]
        metadata[EMBEDDER_KEY] = json.dumps(asdict(embedder), sort_keys=True).encode()
    return pa.schema(columns, metadata=metadata)


EMPTY: dict[str, Any] = {
    "type": "", "topic": "", "tags": [], "title": "", "section": "", "session": "", "speaker": "", "role": "",
    "ref": "", "time_note": "", "origin": "user_input", "state": "activated", "supersedes": "", "superseded_by": "",
    "owner": "", "read_scope": "", "write_scope": "", "share_scope": "", "sensitivity": "", "priority": 0,
    "legal_hold": False, "compliance": [], "uses": 0, "heat": 0.0,
    **LATER,
}  # fmt: skip


class Memories:
    """The open table of one version (read) or of a draft (read and write).

    With `only`, an SQL condition, it is as if there were no other rows: none is read, counted or changed. (`table` is
    Lance's own and knows nothing of that.)
    """

    def __init__(self, directory: Path, table: Any, *, only: str = "") -> None:
        self.directory, self.table, self.only = directory, table, only
        self.schema: pa.Schema = table.schema
        self.embedder = _embedder(self.schema, where=str(directory))

    @classmethod
    def open(cls, directory: Path) -> Memories:
        """The table of a version whose `plaintext/` is `directory`, or the one elsewhere that the version pins.

        Raises NotFound, Damaged, and of a table elsewhere what `external.open_pinned` does.
        """
        here = directory / f"{TABLE}.lance"
        pin = None if here.is_dir() else external.pin_beside(directory)
        table = external.open_pinned(pin) if pin else lance.open_table(directory, TABLE)
        check_columns(table.schema, where=pin.url if pin else str(here))
        return cls(directory, table)

    @classmethod
    def create(cls, directory: Path, *, embedder: EmbedderIdentity | None, url: str = "") -> Memories:
        """An empty table under `directory`, or at a `url` in an object store."""
        directory.mkdir(parents=True, exist_ok=True)
        columns = schema(embedder)
        table = external.create(url, schema=columns) if url else lance.create_table(directory, TABLE, schema=columns)
        return cls(directory, table)

    def narrowed(self, only: str) -> Memories:
        """The same table as if it had no other rows than those that satisfy an SQL condition ("" for all)."""
        return Memories(self.directory, self.table, only=both(self.only, only)) if only else self

    def extend(self) -> None:
        """Adds the columns that a table of an earlier program does not have."""
        lacking = {
            name: f"cast({quote(value) if isinstance(value, str) else value} as {_SQL_TYPES[type(value)]})"
            for name, value in LATER.items() if name not in self.schema.names and value is not None
        }  # fmt: skip
        nulls = [name for name, value in LATER.items() if name not in self.schema.names and value is None]
        if lacking:
            self.table.add_columns(lacking)
        if nulls:
            self.table.add_columns(pa.schema([schema(None).field(name) for name in nulls]))
        if lacking or nulls:
            self.schema = self.table.schema

    def append(self, rows: pa.Table) -> None:
        """Adds rows; the caller sees to it that their ids are new."""
        self.table.add(rows)

    def replace(self, rows: pa.Table) -> None:
        """Puts `rows` in the place of those with the same ids, in one commit of the table."""
        if rows.num_rows:
            self.table.merge_insert("id").when_matched_update_all().execute(rows)

    def change(self, ids: Sequence[str], **values: Any) -> None:
        """Sets columns to one value each on the rows with these ids; the rest of the row stays, vectors too."""
        for part in _parts(ids, size=500):
            rows = self.take(part)
            self.replace(with_columns(rows, **values))

    def take(self, ids: Iterable[str], *, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows with these ids, in no order; ids that are absent are left out."""
        wanted = list(dict.fromkeys(ids))
        found = [
            self.rows(f"id in ({', '.join(map(quote, part))})", columns=columns) for part in _parts(wanted, size=500)
        ]
        return pa.concat_tables(found) if found else self._empty(columns)

    def rows(self, where: str = "", *, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.Table:
        """Rows that satisfy an SQL condition ("" for all), in table order."""
        return self._with_later(self._query(where, columns, limit).to_arrow(), columns)

    def numbered(self, where: str = "", *, columns: Sequence[str]) -> pa.Table:
        """The same rows with their `_rowid`, by which `at` finds them again without a look at all."""
        return self._with_later(self._query(where, columns, None).with_row_id(True).to_arrow(), columns)

    def at(self, rowids: Iterable[int], *, columns: Sequence[str]) -> pa.Table:
        """The rows with these row ids, in no order; they are taken as they are, whatever `only` says."""
        have = [name for name in columns if name in self.schema.names or name not in LATER]
        return self._with_later(self.table.take_row_ids(sorted(rowids)).select(have).to_arrow(), columns)

    def batches(
        self, where: str = "", *, columns: Sequence[str], limit: int | None = None, size: int = 1024
    ) -> Iterator[list[dict[str, Any]]]:
        """The same rows as dicts, so many at a time, so that memory stays flat."""
        for batch in self._query(where, columns, limit).to_batches(size):
            yield self._with_later(pa.Table.from_batches([batch]), columns).to_pylist()

    def parts(self, size: int) -> Iterator[pa.Table]:
        """All rows and columns as tables of so many rows."""
        for batch in self._query("", None, None).to_batches(size):
            if batch.num_rows:
                yield self._with_later(pa.Table.from_batches([batch]), None)

    def _query(self, where: str, columns: Sequence[str] | None, limit: int | None) -> Any:
        query = self.table.search()
        if condition := both(self.only, where):
            query = query.where(condition)
        if columns is not None:
            query = query.select([name for name in columns if name in self.schema.names or name not in LATER])
        return query if limit is None else query.limit(limit)

    def _with_later(self, rows: pa.Table, columns: Sequence[str] | None) -> pa.Table:
        """The rows with the columns that were asked for and that this table does not have."""
        for name in LATER if columns is None else columns:
            if name in LATER and name not in rows.schema.names:
                field = schema(None).field(name)
                rows = rows.append_column(field, pa.array([LATER[name]] * len(rows), field.type))
        return rows

    def count(self, where: str = "") -> int:
        """How many rows satisfy an SQL condition ("" for all)."""
        return int(self.table.count_rows(both(self.only, where) or None))

    def has_source(self, uri: str) -> bool:
        """Whether a source ever gave a memory."""
        return self.count(f"source = {quote(uri)}") > 0

    def uris(self) -> frozenset[str]:
        """The uri of every source that ever gave a memory; read in batches, so memory stays flat."""
        seen: set[str] = set()
        for batch in self._query("", ["source"], None).to_batches():
            seen.update(batch.column("source").unique().to_pylist())
        return frozenset(seen)

    def of_source(self, uri: str, *, columns: Sequence[str]) -> pa.Table:
        """Every row of one source, superseded ones too, by position."""
        return self.rows(f"source = {quote(uri)}", columns=columns).sort_by("position")

    def _empty(self, columns: Sequence[str] | None) -> pa.Table:
        fields = self.schema
        if columns is not None:
            fields = pa.schema([fields.field(name) for name in columns if name in fields.names or name not in LATER])
        return self._with_later(fields.empty_table(), columns)


def both(first: str, second: str) -> str:
    """Two SQL conditions at once; "" stands for none."""
    return " and ".join(f"({part})" for part in (first, second) if part)


def table_of(rows: Sequence[dict[str, Any]], *, embedder: EmbedderIdentity | None) -> pa.Table:
    """Plain dicts as a table of the schema; columns that a dict lacks take the value of EMPTY, or null."""
    fields = schema(embedder)
    given = {name for row in rows for name in row}
    arrays = []
    for field in fields:
        default = EMPTY.get(field.name)
        if field.name not in given and not pa.types.is_nested(field.type):
            # Most columns of most batches: all rows alike.
            arrays.append(pa.repeat(pa.scalar(default, field.type), len(rows)))
            continue
        values = [row.get(field.name, default) for row in rows]
        arrays.append(
            _vectors(values, field.type) if pa.types.is_fixed_size_list(field.type) else pa.array(values, field.type)
        )
    return pa.Table.from_arrays(arrays, schema=fields)


def with_columns(rows: pa.Table, **values: Any) -> pa.Table:
    """`rows` with columns set: a list gives one value a row, anything else the same value for all."""
    for name, value in values.items():
        field = rows.schema.field(name)
        many = isinstance(value, list) and not pa.types.is_list(field.type)
        cells = value if many else [value] * rows.num_rows
        column = _vectors(cells, field.type) if pa.types.is_fixed_size_list(field.type) else pa.array(cells, field.type)
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    return rows


def _vectors(values: Sequence[Any], kind: pa.FixedSizeListType) -> pa.Array:
    """Vectors (numpy rows or None) as an arrow column, without a Python float per number."""
    import numpy as np

    width = kind.list_size
    flat = np.zeros((len(values), width), dtype=np.float32)
    for i, value in enumerate(values):
        if value is not None:
            flat[i] = value
    mask = pa.array([value is None for value in values])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), width, mask=mask)


def check_columns(found: pa.Schema, *, where: str) -> None:
    """Raises Damaged when a column is missing or of another type than the format says."""
    expected = schema(_embedder(found, where=where))
    for field in expected:
        index = found.get_field_index(field.name)
        if index < 0 and field.name in LATER:
            continue
        if index < 0:
            raise Damaged(f"{where}: expected a column {field.name!r}, found none")
        if not found.field(index).type.equals(field.type):
            raise Damaged(f"{where}: column {field.name!r}: expected {field.type}, found {found.field(index).type}")


def _embedder(found: pa.Schema, *, where: str) -> EmbedderIdentity | None:
    raw = (found.metadata or {}).get(EMBEDDER_KEY)
    if raw is None:
        return None
    try:
        return embedder_from(json.loads(raw), where=f"{where}: embedder")
    except ValueError as error:
        raise Damaged(f"{where}: the embedder's identity is not valid JSON") from error


def _parts(values: Iterable[str], *, size: int) -> Iterable[list[str]]:
    whole = list(values)
    return (whole[i : i + size] for i in range(0, len(whole), size))
