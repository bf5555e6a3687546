"""What of the memories that a question found contradicts which, and which of them superseded another.

Both are told only of what may be seen now: a hit never tells of a memory that is hidden, over or closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memos_cli.cube import links
from memos_cli.cube.filters import quote
from memos_cli.interface import frame, seeing
from memos_cli.interface.found import Hit, Neighbour
from memos_cli.interface.frame import PLAINTEXT, Reading
from memos_cli.interface.rows import PLACED, place_of
from memos_cli.operation import hits as found_hits
from memos_cli.operation.recall import Recalled, Scoped
from memos_cli.operation.ties import Edges, together

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

_TOLD = ("id", "text", "speaker", "source", *PLACED)


def edges_of(seen: Reading) -> Edges | None:
    """The links of a version for recall; None where it has none."""
    rows = links.table(seen.path / PLAINTEXT)
    return Edges.of(rows) if rows.num_rows else None


def in_order(found: Recalled, tables: Sequence[Scoped], *, shown: int) -> Recalled:
    """What was found, of the first `shown` with what belongs together side by side."""
    against = {one: others for table in tables if table.edges for one, others in table.edges.contradicts.items()}
    first = found.hits[:shown]
    # what was superseded is recalled as of the past, or by another cube that does not know of it
    past = len(tables) > 1 or found.as_of is not None or found.true_at is not None
    heirs = _heirs(first, tables) if past else {}
    if not heirs and against.keys().isdisjoint(hit.id for hit in first):
        return found
    return replace(found, hits=(*together(first, against, heirs), *found.hits[shown:]))


def _heirs(hits: Sequence[found_hits.Hit], tables: Sequence[Scoped]) -> dict[str, str]:
    """By the id of a hit the id of the hit that superseded it, in whichever cube."""
    if not hits:
        return {}
    ids = ", ".join(quote(hit.id) for hit in hits)
    heirs: dict[str, str] = {}
    for table in tables:
        rows = table.table.search().where(f"id in ({ids}) and superseded_by in ({ids})").select(["id", "superseded_by"])
        heirs |= {row["id"]: row["superseded_by"] for row in rows.to_arrow().to_pylist()}
    return heirs


def with_opposites(hits: Sequence[Hit], seen: Sequence[Reading], tables: Sequence[Scoped]) -> tuple[Hit, ...]:
    """The hits, each with the memories that contradict it and are recalled now."""
    told = {hit.rank: hit for hit in hits}
    for each, table in zip(seen, tables, strict=True):
        against = table.edges.contradicts if table.edges else {}
        mine = [hit for hit in hits if hit.cube == table.name and hit.id in against]
        if not mine:
            continue
        others = {other for hit in mine for other in against[hit.id]}
        rows = {row["id"]: row for row in _live(each).take(others, columns=_TOLD).to_pylist()}
        each.touched += rows
        for hit in mine:
            known = [rows[other] for other in sorted(against[hit.id]) if other in rows]
            beside = tuple(Neighbour(row["id"], place_of(row), row["speaker"], row["text"]) for row in known)
            told[hit.rank] = replace(hit, contradicts=beside)
    return tuple(told.values())


def _live(seen: Reading) -> Memories:
    from memos_cli.cube.plaintext import LIVE

    return seen.memories.narrowed(f"{LIVE} and {seeing.alive(frame.now())}")
