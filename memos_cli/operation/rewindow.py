"""Search windows made anew after an edit or a forgetting, so that no neighbour is found by words that are gone, or
that have another label now.

Works on a table in a draft it was handed. Knows nothing of files or of who asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from memos_cli.cube.piece import Piece
from memos_cli.operation.absorbed import still_said
from memos_cli.operation.asked_as import near_of
from memos_cli.operation.context import WALLS, meant, place

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation.ingest import Embedder

_READ = (
    "id", "text", "kind", "section", "session", "speaker", "role", "position", "near", "wide", "state", "valid_to",
    "superseded_as", "extra", *WALLS,
)  # fmt: skip


def rewindow(memories: Memories, sources: Iterable[str], *, embedder: Embedder | None) -> int:
    """Brings `near`, `wide` and `near_vector` of these sources' memories up to date; returns how many changed."""
    changed = 0
    for uri in dict.fromkeys(sources):
        rows = [row for row in memories.of_source(uri, columns=_READ).to_pylist() if _stands(row)]
        guards = (tuple(row[name] for name in WALLS) for row in rows)
        windows = {
            row["id"]: (near_of(placed.near, row["extra"]), placed.wide)
            for row, placed in zip(rows, place(map(_piece, rows), guards=guards), strict=True)
        }
        stale = {row["id"]: windows[row["id"]] for row in rows if (row["near"], row["wide"]) != windows[row["id"]]}
        _write(memories, stale, embedder=embedder)
        changed += len(stale)
    return changed


def _stands(row: dict[str, Any]) -> bool:
    return still_said(row) and row["state"] not in ("forgotten", "expired")


def _piece(row: dict[str, Any]) -> Piece:
    return Piece(
        row["text"], kind=row["kind"], section=(row["section"],) if row["section"] else (), session=row["session"],
        speaker=row["speaker"], role=row["role"],
    )  # fmt: skip


def _write(memories: Memories, stale: dict[str, tuple[str, str]], *, embedder: Embedder | None) -> None:
    if not stale:
        return
    from memos_cli.cube.plaintext import with_columns

    rows = memories.take(stale)
    windows = [stale[identity] for identity in rows["id"].to_pylist()]
    rows = with_columns(rows, near=[near for near, _ in windows], wide=[wide for _, wide in windows])
    if embedder:
        columns = (rows[name].to_pylist() for name in ("kind", "text", "near"))
        meanings = [meant(kind, text, near) for kind, text, near in zip(*columns, strict=True)]
        rows = with_columns(rows, near_vector=list(embedder.embed(meanings)))
    memories.replace(rows)
