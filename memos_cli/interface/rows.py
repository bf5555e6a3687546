"""Rows of the table as what the API gives back: memories, places, hits. Pure translation, no decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memos_cli.interface.results import Memory


SHOWN = (
    "id", "text", "kind", "type", "topic", "tags", "source", "source_digest", "title", "section", "line_start",
    "line_end", "page", "turn", "session", "speaker", "role", "ref", "time", "event_time", "time_note", "origin",
    "state", "valid_from", "valid_to", "supersedes", "superseded_by", "created_at", "updated_at", "owner",
    "read_scope", "write_scope", "share_scope", "sensitivity", "priority", "expires_at", "decay_days", "legal_hold",
    "extra", "superseded_as", "true_from", "true_to",
)  # fmt: skip


# What place_of reads besides the source.
PLACED = ("line_start", "line_end", "page", "turn", "session")


def place_of(row: Mapping[str, Any]) -> str:
    """Where a memory stands in its source, as editors and people write it: `docs/a.md:12`, `talk.txt:7 (turn 3)`."""
    # on one line, whatever the file is called: a citation must not look like two
    place = str(row["source"]).replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
    if row.get("page") is not None:
        place += f" p.{row['page']}"
    if row.get("line_start") is not None:
        place += f":{row['line_start']}"
        if row.get("line_end") not in (None, row["line_start"]):
            place += f"-{row['line_end']}"
    if row.get("turn") is not None:
        session = f"{row['session']} " if row.get("session") else ""
        place += f" ({session}turn {row['turn']})"
    return place


def memory(row: Mapping[str, Any]) -> Memory:
    """A row as a Memory."""
    from memos_cli.cube.topics import path_of
    from memos_cli.interface.results import Memory
    from memos_cli.operation.told import decode

    values = {name: row[name] for name in SHOWN}
    told = {
        "tags": tuple(row["tags"] or ()),
        "place": place_of(row),
        "path": path_of(row),
        "extra": decode(row["extra"]),
    }
    return Memory(**{**values, **told})
