"""Candidates into hits: whole rows from the tables, copies left out, neighbours beside them.

Knows nothing of how the candidates were ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memos_cli.cube import search
from memos_cli.cube.filters import quote
from memos_cli.operation.fuse import Fused
from memos_cli.operation.signals import Found

# What is told of a hit. Lance reads each column by itself, so that all 43 would take as long as the search.
TOLD = (
    "id", "text", "kind", "type", "topic", "tags", "source", "section", "position", "line_start", "line_end", "page",
    "turn", "session", "speaker", "role", "ref", "time", "time_note", "state",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that was found.

    `signals` are the shares that add up to `score`; `row` has the columns of TOLD; `also` are
    ids of memories with the same words that were left out; `before` and `after` are neighbours when asked for.
    """

    cube: str
    id: str
    score: float
    signals: Mapping[str, float]
    row: Mapping[str, Any]
    also: tuple[str, ...] = ()
    before: tuple[Mapping[str, Any], ...] = ()
    after: tuple[Mapping[str, Any], ...] = ()


def take_hits(fused: Fused, found: Sequence[Found], *, names: Sequence[str], limit: int, neighbours: int) -> list[Hit]:
    """The first `limit` different memories as hits."""
    hits: list[Hit] = []
    copies: dict[tuple[Any, ...], list[str]] = {}
    at = 0
    while at < len(fused) and len(hits) < limit:
        step = min(len(fused) - at, max(limit - len(hits), 8))
        for i, row in enumerate(_whole_rows(fused, found, at, step), at):
            key = _sameness(row)
            if key in copies:
                copies[key].append(row["id"])
            elif len(hits) < limit:
                copies[key] = []
                shares = {name: round(float(values[i]), 4) for name, values in fused.shares.items() if values[i]}
                hits.append(Hit(names[fused.pool[i]], row["id"], round(float(fused.score[i]), 4), shares, row))
        at += step
    hits = [replace(hit, also=tuple(copies[_sameness(hit.row)])) for hit in hits]
    return [_beside(hit, found, names=names, reach=neighbours) for hit in hits] if neighbours else hits


def _whole_rows(fused: Fused, found: Sequence[Found], at: int, count: int) -> list[dict[str, Any]]:
    """The columns of TOLD of the candidates from `at` on."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for number, each in enumerate(found):
        mine = [i for i in range(count) if fused.pool[at + i] == number]
        if not mine:
            continue
        rowids = [int(each.rows.rowid[fused.place[at + i]]) for i in mine]
        taken = each.scope.holding.take(rowids, TOLD)
        known = {row.pop("_rowid"): row for row in taken.to_pylist()}
        for i, rowid in zip(mine, rowids, strict=True):
            rows[i] = known[rowid]
    return rows


def _sameness(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for memories that say the same: same words, and for turns the same speaker at the same time."""
    words = " ".join(row["text"].casefold().split())
    return (words, row["speaker"], row["role"], row["time"]) if row["kind"] == "turn" else (words,)


def _beside(hit: Hit, found: Sequence[Found], *, names: Sequence[str], reach: int) -> Hit:
    """The hit with up to `reach` live memories before and after it in its source and session."""
    each = found[list(names).index(hit.cube)]
    position = int(hit.row["position"])
    condition = (
        f"source = {quote(hit.row['source'])} and session = {quote(hit.row['session'])} "
        f"and position between {position - reach} and {position + reach} and id != {quote(hit.id)}"
    )
    if each.scope.where:
        condition = f"({condition}) and ({each.scope.where})"
    table = each.scope.holding.table
    rows = search.scan(table, TOLD, where=condition).to_pylist()
    rows = sorted(({k: v for k, v in row.items() if k != "_rowid"} for row in rows), key=lambda row: row["position"])
    before = tuple(row for row in rows if row["position"] < position)
    return replace(hit, before=before, after=tuple(row for row in rows if row["position"] > position))
