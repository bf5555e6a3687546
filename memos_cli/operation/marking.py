"""Marks: what is said of a memory apart from its words. Given with an ingest or an edit, and kept when words change.

Plain values; knows nothing of tables and sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from memos_cli.cube.filters import time_span
from memos_cli.cube.scopes import canonical, highest
from memos_cli.errors import Usage

# The columns that an edit of the words does not take back.
MARKED = (
    "type", "topic", "tags", "sensitivity", "owner", "priority", "expires_at", "read_scope", "write_scope",
    "share_scope", "legal_hold", "compliance", "decay_days",
)  # fmt: skip
# What only those may set who may govern the cube, once a memory is there.
GOVERNED = frozenset({"read_scope", "write_scope", "share_scope", "legal_hold"})
AS_CUBE, UNKNOWN = "cube", "unknown"


@dataclass(frozen=True, slots=True)
class Marks:
    """Metadata that a user gives to all memories of one ingest or edit; None leaves what is there.

    A scope of `cube` is that of the cube. `ttl_days` of 0 takes the end away, `decay_days` of 0 the own pace. What is
    true from or to a time (a year, month, day or moment) is so from its start and until its end; `unknown` takes it
    back.
    """

    type: str | None = None
    topic: str | None = None
    tags: tuple[str, ...] | None = None
    sensitivity: str | None = None
    ttl_days: int | None = None
    owner: str | None = None
    priority: int | None = None
    read_scope: str | None = None
    write_scope: str | None = None
    share_scope: str | None = None
    decay_days: int | None = None
    hold: bool | None = None
    true_from: str | None = None
    true_to: str | None = None

    def columns(self, now: datetime) -> dict[str, Any]:
        """The columns they set, by name. Raises Usage for a time to live that ends after the year 9999, or no scope."""
        given: dict[str, Any] = {
            "type": self.type, "topic": self.topic, "sensitivity": self.sensitivity, "owner": self.owner,
            "priority": self.priority, "tags": list(self.tags) if self.tags is not None else None,
            "expires_at": _days_after(now, self.ttl_days) if self.ttl_days else None,
            "decay_days": self.decay_days, "legal_hold": self.hold,
            "read_scope": _scope(self.read_scope), "write_scope": _scope(self.write_scope),
            "share_scope": _scope(self.share_scope),
        }  # fmt: skip
        found = {name: value for name, value in given.items() if value is not None}
        for name, given_time, side in (("true_from", self.true_from, 0), ("true_to", self.true_to, 1)):
            if given_time is not None:
                found[name] = None if given_time == UNKNOWN else time_span(given_time)[side]
        return {**found, "expires_at": None} if self.ttl_days == 0 else found


def _scope(given: str | None) -> str | None:
    """A scope as the column keeps it."""
    return given if given is None else "" if given == AS_CUBE else canonical(given)


def _days_after(moment: datetime, days: int) -> datetime:
    try:
        return moment + timedelta(days=days)
    except OverflowError as error:
        raise Usage(f"expected a time to live that ends before the year 10000, found {days} days") from error


def shared_marks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The marks that all rows of a source agree on, which its new words take; of labels the strictest there is."""
    first = rows[0] if rows else {}
    shared = {name: first[name] for name in MARKED if name in first and all(row[name] == first[name] for row in rows)}
    return {**shared, "sensitivity": highest([row["sensitivity"] for row in rows])} if rows else {}
