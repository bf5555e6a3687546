"""Marks: what is said of a memory apart from its words. Given with an ingest or an edit, and kept when words change.

Plain values; knows nothing of tables and sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from memos_cli.errors import Usage
from memos_cli.operation.windows import rank

# The columns that an edit of the words does not take back.
MARKED = (
    "type", "topic", "tags", "sensitivity", "owner", "priority", "expires_at", "read_scope", "write_scope",
    "share_scope", "legal_hold", "compliance",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Marks:
    """Metadata that a user gives to all memories of one ingest; None leaves what is there."""

    type: str | None = None
    topic: str | None = None
    tags: tuple[str, ...] | None = None
    sensitivity: str | None = None
    ttl_days: int | None = None
    owner: str | None = None
    priority: int | None = None

    def columns(self, now: datetime) -> dict[str, Any]:
        """The columns they set, by name. Raises Usage for a time to live that ends after the year 9999."""
        given = {
            "type": self.type, "topic": self.topic, "sensitivity": self.sensitivity, "owner": self.owner,
            "priority": self.priority, "tags": list(self.tags) if self.tags is not None else None,
            "expires_at": _days_after(now, self.ttl_days) if self.ttl_days is not None else None,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


def _days_after(moment: datetime, days: int) -> datetime:
    try:
        return moment + timedelta(days=days)
    except OverflowError as error:
        raise Usage(f"expected a time to live that ends before the year 10000, found {days} days") from error


def shared_marks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The marks that all rows of a source agree on, which its new words take; of labels the strictest there is."""
    first = rows[0] if rows else {}
    shared = {name: first[name] for name in MARKED if name in first and all(row[name] == first[name] for row in rows)}
    return {**shared, "sensitivity": max((row["sensitivity"] for row in rows), key=rank)} if rows else {}
