"""What was archived though its source still says it: as the duplicate of another memory, or as the loser of a conflict.

Its `superseded_by` names the heir, its `superseded_as` says why. It stays in step with its source, so that an ingest
does not bring it in again. When the heir of a duplicate is gone from its own source, the duplicate stands up in its
place, for what it says is still said. The loser of a conflict stays down. Works on a table in a draft it was handed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memos_cli.cube.extracted import window_of
from memos_cli.cube.filters import quote
from memos_cli.operation import lifecycle

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

DUPLICATE, CONFLICT = "duplicate", "conflict"
# What a memory has that is recalled again.
RESTORED: Mapping[str, Any] = {"valid_to": None, "superseded_by": "", "superseded_as": ""}
_PART = 500


def still_said(row: Mapping[str, Any]) -> bool:
    """Whether a row (with `valid_to` and `superseded_as`) is what its source says now, recalled or not."""
    return row["valid_to"] is None or row["superseded_as"] in (DUPLICATE, CONFLICT)


def said_by_source(row: Mapping[str, Any]) -> bool:
    """The same of a row with its `content_key`, and no model took it from there."""
    return still_said(row) and window_of(row["content_key"]) is None


def absorbed_by(memories: Memories, ids: Collection[str]) -> dict[str, str]:
    """The duplicates that these memories stand for, each with its heir."""
    return dict(_behind(memories, ids, f"superseded_as = '{DUPLICATE}'"))


def behind(memories: Memories, ids: Collection[str]) -> dict[str, str]:
    """The same, and what lost a conflict to them."""
    return dict(_behind(memories, ids, "superseded_as != ''"))


def _behind(memories: Memories, ids: Collection[str], condition: str) -> Iterator[tuple[str, str]]:
    if "superseded_as" not in memories.schema.names:
        return
    wanted = list(ids)
    for start in range(0, len(wanted), _PART):
        named = ", ".join(map(quote, wanted[start : start + _PART]))
        rows = memories.rows(f"{condition} and superseded_by in ({named})", columns=["id", "superseded_by"])
        yield from zip(rows["id"].to_pylist(), rows["superseded_by"].to_pylist(), strict=True)


def revive(memories: Memories, gone: Collection[str], *, spared: Collection[str] = (), now: datetime) -> list[str]:
    """Has one duplicate of each of these memories, which are gone, stand in its place; the ids of those that do.

    What else stood behind the memory that is gone stands behind it then. None of those `spared` is chosen.
    """
    heirs: dict[str, list[str]] = defaultdict(list)
    for identity, heir in absorbed_by(memories, gone).items():
        if identity not in spared:
            heirs[heir].append(identity)
    return [_stand_up(memories, behind, now=now) for behind in heirs.values()]


def _stand_up(memories: Memories, behind: Sequence[str], *, now: datetime) -> str:
    rows = memories.take(behind, columns=["id", "created_at", "state"]).to_pylist()
    first, *rest = sorted(rows, key=lambda row: (row["created_at"], row["id"]))
    state = lifecycle.move(first["state"], lifecycle.ACTIVATED)
    if rest:
        state = lifecycle.move(state, lifecycle.MERGED)
        memories.change([row["id"] for row in rest], superseded_by=first["id"], updated_at=now)
    memories.change([first["id"]], state=state, **RESTORED, updated_at=now)
    return str(first["id"])
