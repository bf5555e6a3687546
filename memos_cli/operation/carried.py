"""Memories that were taken out of a cube and are taken into another: each with the id and the source that it had.

So a text of one cube is the same memory in the next, and is found again when its source is ingested there. Works on a
run of `ingest.py`; knows no format.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from memos_cli.cube.sources import SourceReport
from memos_cli.operation.context import place
from memos_cli.operation.ingest import BATCH_EMBEDDED, Ingest
from memos_cli.operation.naming import content_key

if TYPE_CHECKING:
    from memos_cli.cube.piece import Piece
    from memos_cli.operation.ingest import Source


def admit(work: Ingest, source: Source, digest: str) -> SourceReport:
    """Adds the memories of a source that are not in the table yet.

    What is there under its id stays as it is, whatever the file says of it.
    """
    added, kept = work.tally.added, work.tally.kept
    asked: set[str] = set()
    for placed in place(_unknown(work, work.pieces(source))):
        row = work.row(source, digest, placed, key=content_key(placed.piece))
        if row["source"] not in asked:
            asked.add(row["source"])
            work.touch(row["source"])
        work.put([row])
    added, kept = work.tally.added - added, work.tally.kept - kept
    status = "added" if added else "unchanged"
    return SourceReport(source.uri, status, source.format, added=added, kept=kept, size_bytes=source.size)


def _unknown(work: Ingest, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces whose ids the table does not have; the others are counted as kept."""
    met: set[str] = set()
    while some := list(islice(pieces, BATCH_EMBEDDED)):
        ids = [str(dict(piece.said).get("id", "")) for piece in some]
        here = _here(work, ids)
        for identity, piece in zip(ids, some, strict=True):
            if identity in met or identity in here:
                work.tally.kept += 1
                continue
            met |= {identity} - {""}
            yield piece


def _here(work: Ingest, ids: list[str]) -> frozenset[str]:
    """Which of these ids the table has."""
    if work.memories is None:
        return frozenset()
    return frozenset(work.memories.take(filter(None, ids), columns=["id"])["id"].to_pylist())
