"""A question and its answer as memories: what a model answered from memories becomes one that waits to be accepted.

The answer is the text, under the question as its heading, so that it is found by the words of both and read with both.
It carries the strictest label of what it was made from, and goes when the first of that goes. Works on plain rows;
knows nothing of who asks, or where the rows are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from memos_cli.cube.exchanges import uri_of
from memos_cli.cube.piece import Piece, storable
from memos_cli.cube.scopes import common, highest, rank
from memos_cli.operation import lifecycle
from memos_cli.operation.answer import plain, unmarked
from memos_cli.operation.context import meant, place
from memos_cli.operation.extract import KIND, ORIGIN, TYPE
from memos_cli.operation.ingest import LEXICAL_WINDOW_WORDS, Embedder
from memos_cli.operation.naming import content_key, new_id
from memos_cli.operation.organize import chunk

TITLE = "exchange"
_SCOPES = ("read_scope", "write_scope", "share_scope")
# What is read of the memories that an answer was made from.
LABELS = ("id", "owner", *_SCOPES, "sensitivity", "legal_hold", "compliance", "expires_at", "decay_days")


class Answered(Protocol):
    """What is remembered of an exchange."""

    @property
    def query(self) -> str: ...
    @property
    def answer(self) -> str | None: ...
    @property
    def model(self) -> str: ...


def source_of(exchange: Answered) -> str:
    """The source of the exchange's memories: equal for the same question and answer, however they are spaced."""
    return uri_of(plain(exchange.query), plain(unmarked(exchange.answer or "")))


def rows_of(
    exchange: Answered, basis: Sequence[Mapping[str, Any]], *, level: str, embedder: Embedder | None, now: datetime
) -> list[dict[str, Any]]:
    """The rows of an exchange: one, or several for an answer longer than the embedder's window.

    `basis` are the LABELS of the memories that the model was given, each with the label it has in effect; `level` is
    the label of the cube that the rows are for.
    """
    question = " ".join(storable(exchange.query).split())
    said = storable(unmarked(exchange.answer or ""))
    whole = Piece(said, kind=KIND, section=(question,), ref=exchange.model, time=now)
    pieces = list(chunk(whole, fits=embedder.fits if embedder else _fits))
    uri, labels = source_of(exchange), labels_of(basis, level=level)
    rows = []
    for placed in place(pieces):
        key = content_key(placed.piece)
        rows.append({
            "id": new_id(uri, key, placed.position), "text": placed.piece.text, "near": placed.near,
            "wide": placed.wide, "kind": KIND, "type": TYPE, "source": uri, "source_digest": "", "title": TITLE,
            "section": question, "position": placed.position, "ref": exchange.model, "time": now,
            "words": len(placed.piece.text.split()),
            "origin": ORIGIN, "content_key": key, "state": lifecycle.GENERATED, "valid_from": None,
            "created_at": now, "updated_at": now, **labels,
        })  # fmt: skip
    return embedded(rows, embedder)


def _fits(text: str) -> bool:
    return len(text.split()) <= LEXICAL_WINDOW_WORDS


def embedded(rows: list[dict[str, Any]], embedder: Embedder | None) -> list[dict[str, Any]]:
    """The rows with their vectors; as they are without an embedder."""
    if embedder is None:
        return rows
    texts = [row["text"] for row in rows] + [meant(KIND, row["text"], row["near"]) for row in rows]
    vectors = embedder.embed(texts)
    return [
        {**row, "vector": vectors[i], "near_vector": vectors[len(rows) + i]} for i, row in enumerate(rows)
    ]  # fmt: skip


def labels_of(basis: Sequence[Mapping[str, Any]], *, level: str) -> dict[str, Any]:
    """What a memory that was made of others carries: the strictest label, the narrowest scopes, the first end."""
    strictest = highest([row["sensitivity"] for row in basis])
    ends = [row["expires_at"] for row in basis if row["expires_at"] is not None]
    return {
        "sensitivity": strictest if rank(strictest) > rank(level) else "",
        "owner": _common([row["owner"] for row in basis], else_="") if basis else "",
        **{name: common([row[name] for row in basis]) if basis else "" for name in _SCOPES},
        "legal_hold": any(row["legal_hold"] for row in basis),
        "compliance": sorted({tag for row in basis for tag in row["compliance"] or ()}),
        "expires_at": min(ends, default=None),
        "decay_days": min((row["decay_days"] for row in basis if row["decay_days"]), default=0),
    }


def _common(values: Sequence[str], *, else_: str) -> str:
    return values[0] if len(set(values)) == 1 else else_
