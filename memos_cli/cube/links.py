"""The links table beside the memories: what one memory has to do with another and no column of theirs tells.

A row is an edge: `mentions` (a memory names what another is about) or `contradicts` (two cannot both hold; made by a
`person` it is their word that both stay). What follows, supersedes or is derived from what is told by columns and
catalogues, and `operation/linking.py` reads it there. Absent until there is one; an Arrow file, written whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import arrow
from memos_cli.errors import Damaged

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "links.arrow"
MENTIONS, FOLLOWS, SUPERSEDES = "mentions", "follows", "supersedes"
CONTRADICTS, DERIVED = "contradicts", "derived-from"
KINDS = (MENTIONS, FOLLOWS, SUPERSEDES, CONTRADICTS, DERIVED)
# What a table may hold; the other kinds are told by columns, and twice told could be told differently.
STORED = frozenset({MENTIONS, CONTRADICTS})
INGEST, TIDY, JUDGE, PERSON = MAKERS = ("ingest", "tidy", "judge", "person")
LONGEST_WHY, MOST_BYTES = 200, 1 << 30
# Memories that one mentions.
MOST_MENTIONS = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Link:
    """An edge from one memory to another, by ids. `why` is in words, `weight` from 0 to 1 how much it says."""

    from_id: str
    to_id: str
    kind: str
    why: str
    weight: float
    made_by: str
    made_at: datetime

    @property
    def key(self) -> tuple[str, str, str]:
        """What there is one link of."""
        return self.from_id, self.to_id, self.kind

    @property
    def ends(self) -> frozenset[str]:
        """Both memories."""
        return frozenset((self.from_id, self.to_id))

    @property
    def is_decision(self) -> bool:
        """Whether somebody said that both stay though they contradict one another."""
        return self.kind == CONTRADICTS and self.made_by == PERSON


def schema() -> pa.Schema:
    """The columns of links.arrow."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("from_id", text), ("to_id", text), ("kind", text), ("why", text), ("weight", pa.float32()),
            ("made_by", text), ("made_at", pa.timestamp("us", tz="UTC")),
        ]
    )  # fmt: skip


def table(directory: Path) -> pa.Table:
    """The links in `directory`; no rows when there is no file. Raises Damaged, also for one that is far too large."""
    path = directory / FILE
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise Damaged(f"{path}: expected at most {MOST_BYTES} bytes, found {path.stat().st_size}")
    return arrow.read_table(path, schema())


def read(directory: Path, *, ids: Collection[str] | None = None, kind: str = "") -> list[Link]:
    """The links of a kind ("" for all), of those alone that have one of `ids` at an end, when given. Raises Damaged."""
    found = table(directory)
    if (ids is not None or kind) and found.num_rows:
        ends = zip(*(found[name].to_pylist() for name in ("from_id", "to_id", "kind")), strict=True)
        wanted = [(ids is None or one in ids or other in ids) and (not kind or of == kind) for one, other, of in ends]
        found = found.take([place for place, here in enumerate(wanted) if here]) if any(wanted) else found.slice(0, 0)
    # each moment by a sum: what Arrow makes of one takes longer than all else
    columns = {name: found[name].to_pylist() for name in found.schema.names if name != "made_at"}
    try:
        moments = [_EPOCH + timedelta(microseconds=each) for each in found["made_at"].cast("int64").to_pylist()]
    except (TypeError, OverflowError) as error:
        raise Damaged(f"{directory / FILE}: expected when each link was made, found no moment: {error}") from error
    return [Link(*row) for row in zip(*columns.values(), moments, strict=True)]


def encode(links: Iterable[Link]) -> bytes:
    """The bytes of the file; the same links give the same bytes, in whatever order they come."""
    return arrow.encode(arrow.table_of(sorted(links, key=lambda one: one.key), schema()))
