"""Candidates into hits: whole rows from the tables, copies left out, neighbours beside them.

Knows nothing of how the candidates were ranked.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memos_cli.cube import search
from memos_cli.cube.filters import quote
from memos_cli.operation.fuse import Fused
from memos_cli.operation.holding import asks
from memos_cli.operation.signals import Found

# What is told of a hit. Lance reads each column by itself, so that all 43 would take as long as the search.
TOLD = (
    "id", "text", "kind", "type", "topic", "tags", "source", "section", "position", "line_start", "line_end", "page",
    "turn", "session", "speaker", "role", "ref", "time", "time_note", "state",
)  # fmt: skip
# Rows that are read at a time: at least so many, and so many more where some may fall behind.
LEAST, AHEAD = 8, 6


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


def take_hits(
    fused: Fused, found: Sequence[Found], *, names: Sequence[str], limit: int, neighbours: int, late: float = 0.0
) -> list[Hit]:
    """The first `limit` different memories as hits.

    `late`, zero or less, is what a question mark weighs where the fusion did not know of it: the texts of a large
    table are read here, for the best candidates only.
    """
    reading = _Reading(fused, found, late=late)
    hits: list[Hit] = []
    copies: dict[tuple[Any, ...], list[str]] = {}
    while len(hits) < limit and (best := reading.next(limit - len(hits))):
        key = _sameness(best.row)
        if key not in copies:
            shares = {name: round(share, 4) for name, share in best.shares.items() if share}
            hits.append(Hit(names[best.pool], best.row["id"], round(best.score, 4), shares, best.row))
        copies.setdefault(key, []).append(best.row["id"])
    for other in reading.read_ahead():
        if _sameness(other.row) in copies:
            copies[_sameness(other.row)].append(other.row["id"])
    hits = [replace(hit, also=tuple(copies[_sameness(hit.row)][1:])) for hit in hits]
    return [_beside(hit, found, names=names, reach=neighbours) for hit in hits] if neighbours else hits


@dataclass(frozen=True, slots=True)
class _Read:
    """A candidate whose row was read."""

    pool: int
    row: Mapping[str, Any]
    score: float
    shares: Mapping[str, float]


class _Reading:
    """Candidates, best first, whose rows are read a few at a time.

    With `late` a row's score is known once it is read and is at most what the fusion gave it, so a row that was read
    comes next when no other could still be better.
    """

    def __init__(self, fused: Fused, found: Sequence[Found], *, late: float) -> None:
        self._fused, self._found, self._late = fused, found, late
        self._waiting: list[tuple[float, int, _Read]] = []
        self._at = 0

    def next(self, wanted: int) -> _Read | None:
        """The best candidate that did not come yet; `wanted` is how many will be asked for."""
        while self._at < len(self._fused) and not (
            self._waiting and self._waiting[0] < (self._order(self._at), self._at)
        ):
            self._read(min(len(self._fused) - self._at, max(wanted + (AHEAD if self._late else 0), LEAST)))
        return heapq.heappop(self._waiting)[2] if self._waiting else None

    def read_ahead(self) -> list[_Read]:
        """What was read and did not come."""
        return [read for _, _, read in sorted(self._waiting)]

    def _order(self, i: int) -> float:
        return -float(self._fused.score[i]) if self._late else 0.0

    def _read(self, count: int) -> None:
        for i, row in enumerate(_whole_rows(self._fused, self._found, self._at, count), self._at):
            read = self._judged(i, row)
            heapq.heappush(self._waiting, (-read.score if self._late else 0.0, i, read))
        self._at += count

    def _judged(self, i: int, row: Mapping[str, Any]) -> _Read:
        pool, score = int(self._fused.pool[i]), float(self._fused.score[i])
        shares = {name: float(values[i]) for name, values in self._fused.shares.items()}
        if self._late and not self._found[pool].scope.holding.held and row["kind"] == "turn" and asks(row["text"]):
            score, shares = score + self._late, {**shares, "asks": self._late}
        return _Read(pool, row, score, shares)


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
