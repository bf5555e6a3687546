"""Moves of a plan that are about the texts of a cube: what says the same becomes one, what nobody uses is set aside,
and a table that is full of leavings is written anew.

They are worked out here and carried out by `performing.py`. Merging and archiving change what is recalled, so they are
in a plan only when somebody asked for them; writing a table anew changes nothing but its size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import lance
from memos_cli.infrastructure import uses
from memos_cli.interface import frame, wording
from memos_cli.interface.frame import PLAINTEXT
from memos_cli.interface.planned import PlannedItem
from memos_cli.interface.wording import ARCHIVE, COMPACT, MERGE
from memos_cli.operation import indicators, lifecycle, merging
from memos_cli.operation.indicators import Event

if TYPE_CHECKING:
    from memos_cli.interface.frame import Reading

# A version of a cube takes about so long, and a table is written and indexed at about so many bytes a second.
VERSION_SECONDS, WRITTEN_BYTES = 0.1, 5e6
# A table is written anew from so many bytes of leavings on, when they are such a share of it.
LEAST_BYTES, LEAST_SHARE = 1_000_000, 0.25
TABLE = "memories"
_DAY = timedelta(days=1)
_IDLE = ("id", "text", "state", "legal_hold", "priority", "created_at", "valid_from", "last_used", "expires_at")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plan may do that somebody has to ask for: archive what nobody used for so many days, merge, distill,
    discard what was made with other weights of the model."""

    archive_days: float | None = None
    merge: bool = False
    distill: bool = False
    discard: bool = False


NOTHING_MORE = Wish()


@dataclass(frozen=True, slots=True)
class Tended:
    """What is proposed of one kind for a cube."""

    kind: str
    items: tuple[PlannedItem, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a cube's use: events of its log, their half-life, bytes of activation files by memory."""

    events: Sequence[Event]
    half_life_days: float
    files: Mapping[str, int]


def tend(seen: Reading, wish: Wish, known: Known, *, ended: Collection[str]) -> tuple[Tended, ...]:
    """What is proposed for the texts of a cube that is open, apart from what has `ended`."""
    rules = seen.rules.governance
    if rules.frozen:
        return ()
    found = [Tended(COMPACT, tuple(_leavings(seen.path / PLAINTEXT)))]
    if not rules.legal_hold:
        merged = tuple(_merges(seen, known, ended)) if wish.merge else ()
        gone = {*ended, *(one.id for one in merged)}
        idle = tuple(_idle(seen, wish.archive_days, known, gone)) if wish.archive_days is not None else ()
        # the table is written anew last, when the others have left their leavings
        found = [Tended(MERGE, merged), Tended(ARCHIVE, idle), *found]
    return tuple(one for one in found if one.items)


def _merges(seen: Reading, known: Known, ended: Collection[str]) -> Iterator[PlannedItem]:
    """A line for each memory that another can stand for."""
    rows, found = merges_in(seen, without=ended)
    each = _share(sum(len(one.absorbed) for one in found.merges))
    used = indicators.fold(known.events, half_life_days=known.half_life_days)
    for one in found.merges:
        for absorbed in one.absorbed:
            uses_of = used.get(absorbed.id, indicators.NEVER).uses
            why = wording.merged(absorbed.how, one.id)
            size = -known.files.get(absorbed.id, 0)
            yield PlannedItem(absorbed.id, rows[absorbed.id]["text"], why, uses_of, 0.0, size, each, 0.0, 0.0)


def merges_in(
    seen: Reading, *, without: Collection[str] = ()
) -> tuple[Mapping[str, Mapping[str, Any]], merging.Merges]:
    """The memories that are recalled now, by id, and which of them become one."""
    import numpy as np

    from memos_cli.cube.plaintext import live_at

    has = [name for name in merging.COLUMNS if name != "vector"]
    vectors = ["vector"] if "vector" in seen.memories.schema.names else []
    table = seen.memories.rows(live_at(frame.now()), columns=[*has, *vectors])
    rows = {row["id"]: row for row in table.select(has).to_pylist() if row["id"] not in without}
    near = None
    if vectors:
        known = zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True)
        near = {one: np.asarray(vector, np.float32) for one, vector in known if vector is not None}
    return rows, merging.merges(rows.values(), vectors=near)


def _idle(seen: Reading, days: float, known: Known, gone: Collection[str]) -> Iterator[PlannedItem]:
    """A line for each memory that nobody has used for so many days, twice as many for each step of priority."""
    from memos_cli.cube.plaintext import live_at

    now = frame.now()
    last = uses.of_cube(seen.root, home=seen.desk.home, cube_id=seen.rules.id)
    condition = f"{live_at(now)} and state != 'frozen' and not legal_hold"
    rows = [
        row
        for part in seen.memories.batches(condition, columns=_IDLE, size=8192)
        for row in part
        if row["id"] not in gone and _is_idle(row, last.get(row["id"]), days, now)
    ]
    each = _share(len(rows))
    for row in rows:
        count, used = last.get(row["id"], (0, None))
        touched = lifecycle.last_touched(row, used) or now
        why = wording.idle(count, used is not None and touched == used, (now - touched) / _DAY)
        size = -known.files.get(row["id"], 0)
        yield PlannedItem(row["id"], row["text"], why, count, 0.0, size, each, 0.0, 0.0)


def _is_idle(row: Mapping[str, Any], use: uses.Use | None, days: float, now: datetime) -> bool:
    touched = lifecycle.last_touched(row, use[1] if use else None)
    patience = days * 2.0 ** min(max(0, row["priority"] or 0), lifecycle.MOST_PRIORITY)
    return touched is not None and (now - touched) / _DAY > patience


def _leavings(directory: Path) -> Iterator[PlannedItem]:
    """The table, where files of it that no row needs are a large part of it."""
    folder = directory / f"{TABLE}.lance"
    if not folder.is_dir():
        return  # it lies elsewhere, where earlier versions are kept
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told: Mapping[str, Any] = lance.open_table(directory, TABLE).stats()
    data = sum(
        path.stat().st_size
        for name in ("data", "_indices", "_deletions")
        for path in (folder / name).rglob("*")
        if path.is_file()
    )
    left = data - int(told["total_bytes"])
    if left >= LEAST_BYTES and left >= LEAST_SHARE * whole:
        yield PlannedItem("plaintext", "", wording.leavings(left, whole), 0, 0.0, -left, _seconds(whole), 0.0, 0.0)


def _share(count: int) -> float:
    """What each of so many memories takes that are changed in one version."""
    return VERSION_SECONDS / max(1, count)


def _seconds(size: int) -> float:
    return VERSION_SECONDS + size / WRITTEN_BYTES
