"""Memories on their way out: rows as lines of JSON, or as markdown, and what neither has a place for.

Rows come with READ, in the order of their sources. Knows nothing of files and of who asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from memos_cli.cube.losses import Losses
from memos_cli.cube.piece import Piece
from memos_cli.operation.naming import content_key
from memos_cli.operation.told import decode

JSONL, MARKDOWN, OFFICIAL = "jsonl", "markdown", "memos"
FORMATS = (JSONL, MARKDOWN, OFFICIAL)
VERSION = 1
# What a line of JSON says, in this order; what is as EMPTY has it is left out.
SAID = (
    "id", "text", "kind", "type", "topic", "tags", "source", "source_digest", "title", "section", "position",
    "line_start", "line_end", "page", "turn", "session", "speaker", "role", "ref", "time", "event_time", "time_note",
    "origin", "state", "valid_from", "valid_to", "true_from", "true_to", "supersedes", "superseded_by", "superseded_as",
    "created_at", "updated_at", "owner", "read_scope", "write_scope", "share_scope", "sensitivity", "priority",
    "expires_at", "decay_days", "legal_hold", "compliance", "content_key", "extra",
)  # fmt: skip
READ = (*SAID, "uses", "last_used")
_ALWAYS = frozenset({"id", "text", "source", "state", "sensitivity"})
# What markdown shows of a memory.
SHOWN = frozenset({"text", "kind", "source", "section", "speaker", "role", "time", "title", "position", "session"})
# Always there, and telling nothing by itself.
_PLAIN = frozenset({
    "id", "created_at", "updated_at", "valid_from", "state", "source_digest", "line_start", "line_end", "page", "turn",
    "position", "origin", "content_key",
})  # fmt: skip
_FENCED = frozenset({"code", "function", "class"})
NO_PLACE = "markdown has no place for it"
LONGEST_MOMENT = 40


def lines(rows: Iterable[Mapping[str, Any]], *, level: str, losses: Losses) -> Iterator[str]:
    """A line of JSON for each row, with the label it has: its own, or `level`, that of its cube."""
    for row in rows:
        if row["uses"] or row["last_used"]:
            losses.add("memory", "uses, last_used", "how often it was recalled stays with its cube")
        yield json.dumps(line(row, level=level), ensure_ascii=False, separators=(",", ":")) + "\n"


def line(row: Mapping[str, Any], *, level: str) -> dict[str, Any]:
    """A row, with what it contradicts if anything, as a line says it; see docs/reference/format.md."""
    from memos_cli.cube.plaintext import EMPTY

    path = _headings(row)
    told = {
        **row, "sensitivity": row["sensitivity"] or level, "section": path, "extra": decode(row["extra"]),
        # the key of an edited memory is that of the words its source has
        "content_key": "" if _key(row, path) == row["content_key"] else row["content_key"],
    }  # fmt: skip
    said: dict[str, Any] = {"memos": VERSION}
    for name in SAID:
        value = told[name]
        if name in _ALWAYS or value not in (None, EMPTY.get(name), [], {}, ""):
            said[name] = moment(value) if isinstance(value, datetime) else value
    return said | ({"contradicts": against} if (against := row.get("contradicts")) else {})


def _headings(row: Mapping[str, Any]) -> list[str]:
    """The heading path as a list, as it was when the memory got its content key; else the path as one."""
    path = str(row["section"]).split(" > ") if row["section"] else []
    return path if len(path) < 2 or _key(row, path) == row["content_key"] else [row["section"]]


def _key(row: Mapping[str, Any], path: list[str]) -> str:
    names = {name: row[name] for name in ("text", "kind", "session", "speaker", "role")}
    return content_key(Piece(**names, section=tuple(path)))


def moment(value: datetime) -> str:
    """A time as the files of this program have it."""
    return value.isoformat().replace("+00:00", "Z")


def moment_of(value: Any) -> datetime | None:
    """The time, in UTC, that such words say; None for what is none, or has no zone."""
    if not isinstance(value, str) or len(value) > LONGEST_MOMENT:
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


def markdown(rows: Iterable[Mapping[str, Any]], *, losses: Losses) -> Iterator[str]:
    """A document: a heading for each source and each heading path, and memories as they were: bullets, turns, code."""
    from memos_cli.cube.plaintext import EMPTY

    first = True
    for source, here in groupby(rows, key=lambda row: row["source"]):
        yield f"{'' if first else chr(10)}# {_on_one_line(source)}\n"
        first = False
        for section, some in groupby(here, key=lambda row: row["section"]):
            yield f"\n## {_on_one_line(section)}\n" if section else ""
            before = ""
            for row in some:
                # items of one list stand together, all else by itself
                listed = _is_listed(row)
                yield f"{'' if listed and before == 'list' else chr(10)}{_written(row)}"
                before = "list" if listed else "block"
                for name in SAID:
                    value = row[name]
                    if name not in SHOWN | _PLAIN and value not in (None, EMPTY.get(name), [], ""):
                        losses.add("memory", name, NO_PLACE)
                losses.add("memory", "id, state, place and times of it", NO_PLACE)


def _is_listed(row: Mapping[str, Any]) -> bool:
    return row["kind"] not in _FENCED and row["kind"] != "paragraph"


def _written(row: Mapping[str, Any]) -> str:
    text = str(row["text"])
    if row["kind"] in _FENCED:
        fence = "`" * max(3, 1 + max((len(run) for run in _runs(text)), default=0))
        return f"{fence}\n{text}\n{fence}\n"
    if not _is_listed(row):
        return f"{text}\n"
    speaker = row["speaker"] or row["role"]
    time = f" ({row['time']:%Y-%m-%d %H:%M})" if row["time"] and speaker else ""
    said = f"**{_on_one_line(speaker)}**{time}: {text}" if speaker else text
    return "- " + said.replace("\n", "\n  ") + "\n"


def _runs(text: str) -> Iterator[str]:
    yield from re.findall("`+", text)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
