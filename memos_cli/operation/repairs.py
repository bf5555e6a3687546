"""Repairs of memories that recall misses, done on the table of a draft, and taken back where they did not help.

The words of a memory stay what they are, in whole or in parts. Knows nothing of versions, or of what is worth keeping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memos_cli.cube.piece import Piece
from memos_cli.operation import lifecycle
from memos_cli.operation.asked_as import with_wordings
from memos_cli.operation.context import meant
from memos_cli.operation.naming import content_key, new_id
from memos_cli.operation.organize import chunk
from memos_cli.operation.rewindow import rewindow

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation.ingest import Embedder

# A part of a text that was cut has at most so many words.
PART_WORDS = 24


def re_embed(memories: Memories, ids: Sequence[str], *, embedder: Embedder) -> None:
    """Makes the vectors of these memories anew from their words."""
    from memos_cli.cube.plaintext import with_columns

    rows = memories.take(ids)
    columns = (rows[name].to_pylist() for name in ("kind", "text", "near"))
    meanings = [meant(kind, text, near) for kind, text, near in zip(*columns, strict=True)]
    made = {"vector": list(embedder.embed(rows["text"].to_pylist())), "near_vector": list(embedder.embed(meanings))}
    memories.replace(with_columns(rows, **made))


def reword(
    memories: Memories, wordings: Mapping[str, Sequence[str]], *, embedder: Embedder | None, now: datetime
) -> list[str]:
    """Has memories found by other wordings too; those whose `extra` has no room for them are left out."""
    from memos_cli.cube.plaintext import with_columns

    rows = memories.take(wordings)
    done, extras = [], []
    for row in rows.select(["id", "extra"]).to_pylist():
        try:
            extras.append(with_wordings(row["extra"], wordings[row["id"]]))
            done.append(row["id"])
        except ValueError:
            extras.append(row["extra"])
    memories.replace(with_columns(rows, extra=extras, updated_at=now))
    rewindow(memories, rows["source"].to_pylist(), embedder=embedder)
    return done


def re_chunk(
    memories: Memories, ids: Sequence[str], *, embedder: Embedder | None, now: datetime
) -> dict[str, tuple[str, ...]]:
    """Puts the parts of each text in its place, each a memory that supersedes the whole; the new ids by the old."""
    from memos_cli.cube.plaintext import table_of

    found: dict[str, tuple[str, ...]] = {}
    for row in memories.take(ids).to_pylist():
        parts = list(chunk(_piece(row), fits=lambda text: len(text.split()) <= PART_WORDS))
        if len(parts) < 2:
            continue
        taken = set(memories.of_source(row["source"], columns=["id", "position"])["id"].to_pylist())
        fresh = [_part(row, part, taken, now) for part in parts]
        if embedder:
            for part, vector in zip(fresh, embedder.embed([part["text"] for part in fresh]), strict=True):
                part["vector"] = part["near_vector"] = vector
        memories.append(table_of(fresh, embedder=memories.embedder))
        memories.change(
            [row["id"]], state=lifecycle.ended(row["state"]), valid_to=now, updated_at=now,
            superseded_by=fresh[0]["id"],
        )  # fmt: skip
        rewindow(memories, [row["source"]], embedder=embedder)
        found[row["id"]] = tuple(part["id"] for part in fresh)
    return found


def _piece(row: Mapping[str, Any]) -> Piece:
    return Piece(
        row["text"], kind=row["kind"], section=(row["section"],) if row["section"] else (),
        line_start=row["line_start"], line_end=row["line_end"], page=row["page"], session=row["session"],
        speaker=row["speaker"], role=row["role"],
    )  # fmt: skip


def _part(row: Mapping[str, Any], part: Piece, taken: set[str], now: datetime) -> dict[str, Any]:
    key = content_key(part)
    text = part.text.strip()
    return {
        **row, "id": new_id(row["source"], key, row["position"], taken=taken), "text": text, "near": text, "wide": text,
        "words": len(text.split()), "content_key": key, "line_start": part.line_start, "line_end": part.line_end,
        "supersedes": row["id"], "superseded_by": "", "valid_from": now, "created_at": now, "updated_at": now,
    }  # fmt: skip


def take_back(
    memories: Memories, before: pa.Table, *, added: Sequence[str] = (), embedder: Embedder | None = None
) -> None:
    """Puts rows back as they were, and takes out what was added for them."""
    if added:
        names = ", ".join(f"'{one}'" for one in added)
        memories.table.delete(f"id in ({names})")
    memories.replace(before)
    rewindow(memories, before["source"].to_pylist(), embedder=embedder)
