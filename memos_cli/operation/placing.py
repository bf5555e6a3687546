"""Where pieces of a source stand, and their windows with the words that are remembered of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.operation.context import Placed, place


def placed_as_remembered(
    pieces: Sequence[Piece], standing: dict[int, dict[str, Any]], guards: dict[int, tuple[Any, ...]]
) -> dict[int, Placed]:
    """Windows by index of piece, with the words that are remembered: a user's edit stands, what is hidden is absent."""
    seen: dict[int, Piece] = {}
    for j, piece in enumerate(pieces):
        row = standing.get(j)
        if row is None:
            seen[j] = piece
        elif row["state"] != "forgotten":
            seen[j] = piece if row["text"] == piece.text else replace(piece, text=row["text"])
    return dict(zip(seen, place(seen.values(), guards=[guards[j] for j in seen]), strict=True))


def place_of(placed: Placed) -> dict[str, Any]:
    """The columns that tell where a piece stands and what it is found by."""
    piece = placed.piece
    return {
        "position": placed.position, "line_start": piece.line_start, "line_end": piece.line_end, "page": piece.page,
        "turn": piece.turn, "near": placed.near, "wide": placed.wide,
    }  # fmt: skip


def place_in(row: dict[str, Any]) -> dict[str, Any]:
    """The same of a row that is remembered."""
    return {name: row[name] for name in ("position", "line_start", "line_end", "page", "turn", "near", "wide")}
