"""The rows that mentions are looked for in: of a small table read at once, of a larger one as they are needed.

One question to a table takes longer than to pick from a few thousand rows, so for a small table there is one alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from memos_cli.cube.filters import quote

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.plaintext import Memories

# Up to so many rows, with those that are over, a table is read at once.
MOST_AT_ONCE = 4096
STANDS = ("id", "source", "title", "section", "position")
READ = ("id", "source", "section", "text", "state", "valid_to", "created_at")
_ALL = tuple(dict.fromkeys((*STANDS, *READ, "kind")))


class Rows:
    """The rows of a table as it is when this is made."""

    def __init__(self, memories: Memories, *, count: int) -> None:
        self._memories = memories
        self._held = memories.rows(columns=_ALL) if count <= MOST_AT_ONCE else None

    def count(self, uris: Collection[str] | None) -> int:
        """How many rows `of` gives."""
        return self._memories.count(_from(uris)) if self._held is None else self.of(uris).num_rows

    def of(self, uris: Collection[str] | None) -> pa.Table:
        """The rows of some sources or of all, the ended ones too, with the columns READ."""
        if self._held is None:
            return self._memories.rows(_from(uris), columns=READ)
        return (self._held if uris is None else self._among("source", uris)).select(READ)

    def take(self, ids: Collection[str]) -> pa.Table:
        """The rows with these ids, with the columns READ."""
        return self._memories.take(ids, columns=READ) if self._held is None else self._among("id", ids).select(READ)

    def standing(self, uris: Collection[str] | None) -> pa.Table:
        """What is recalled and is no turn of a conversation, of some sources or of all, with the columns STANDS."""
        from memos_cli.cube.plaintext import LIVE, both

        if self._held is None:
            return self._memories.rows(both(f"{LIVE} and kind != 'turn'", _from(uris)), columns=STANDS)
        import pyarrow.compute as pc

        compute: Any = pc
        rows = self._live(self._held if uris is None else self._among("source", uris))
        return rows.filter(compute.not_equal(rows["kind"], "turn")).select(STANDS)

    def saying(self, words: Collection[str] | None) -> pa.Table:
        """What is recalled and has one of some words in its text (None for any text), with its id and text.

        There may be others among them: that a text names something is for the caller to find.
        """
        from memos_cli.cube.plaintext import LIVE, both

        columns = ("id", "text")
        if self._held is not None:
            return self._live(self._held).select(columns)
        said = "" if words is None else " or ".join(f"lower(text) like {quote(f'%{word}%')}" for word in sorted(words))
        return self._memories.rows(both(LIVE, said), columns=columns)

    def _among(self, column: str, values: Collection[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        assert self._held is not None
        compute: Any = pc
        found = self._held[column]
        return self._held.filter(compute.is_in(found, value_set=pa.array(sorted(values), found.type)))

    def _live(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        from memos_cli.cube.plaintext import RECALLED

        compute: Any = pc
        recalled = compute.is_in(rows["state"], value_set=pa.array(RECALLED, rows["state"].type))
        return rows.filter(compute.and_(recalled, compute.is_null(rows["valid_to"])))


def _from(uris: Collection[str] | None) -> str:
    """The SQL condition for the rows of some sources, "" for all."""
    if uris is None:
        return ""
    return f"source in ({', '.join(map(quote, sorted(uris)))})" if uris else "false"
