"""Columns that say the same of every row, and takes that leave them out.

Of a page of rows that are all alike Lance keeps one value, and unpacks it for the whole page at each take: at a
million rows that is 4 to 8 ms a column, several times what a column of different values costs, whatever encoding is
asked for. Most tables have a dozen such columns. Knows nothing of what the columns mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memos_cli.cube import search
from memos_cli.cube.filters import quote

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are read at a time to tell columns apart.
LOOKED_AT = 1000
LONGEST_VALUE = 200


def alike(table: Any, columns: Iterable[str]) -> dict[str, pa.Scalar]:
    """The value of each of these columns that has the same in all rows, found by looking for rows that differ."""
    names = list(columns)
    if not names:
        return {}
    seen = search.scan(table, names, limit=LOOKED_AT)
    same = {name: seen[name][0] for name in names if _plain(seen[name].to_pylist())}
    while same:
        differs = " or ".join(_differs(name, value.as_py()) for name, value in same.items())
        others = search.scan(table, list(same), where=differs, limit=LOOKED_AT)
        if not others.num_rows:
            break
        same = {name: value for name, value in same.items() if set(others[name].to_pylist()) == {value.as_py()}}
    return same


def _plain(values: Sequence[Any]) -> bool:
    """Whether all are the same short text, number or null."""
    if not values or any(value != values[0] for value in values):
        return False
    return values[0] is None or isinstance(values[0], int | str) and len(str(values[0])) <= LONGEST_VALUE


def _differs(name: str, value: str | int | None) -> str:
    if value is None:
        return f"{name} is not null"
    return f"({name} is null or {name} != {quote(value) if isinstance(value, str) else value})"


def take(table: Any, rowids: Iterable[int], columns: Sequence[str], *, same: Mapping[str, pa.Scalar]) -> pa.Table:
    """Columns of the rows with these row ids, with their `_rowid`; what `same` holds is not read."""
    import pyarrow as pa

    taken = search.take(table, rowids, [name for name in columns if name not in same])
    for name in columns:
        if name in same:
            taken = taken.append_column(name, pa.repeat(same[name], taken.num_rows))
    return taken
