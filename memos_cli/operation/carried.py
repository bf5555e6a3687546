"""Memories that were taken out of a cube and are taken into another: each with the id and the source that it had.

So a text of one cube is the same memory in the next, and is found again when its source is ingested there. What it
contradicts comes along. Works on a run of `ingest.py`; knows no format.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from memos_cli.cube.sources import SourceReport
from memos_cli.errors import NotAllowed
from memos_cli.operation import stated
from memos_cli.operation.context import place
from memos_cli.operation.ingest import BATCH_EMBEDDED, Ingest
from memos_cli.operation.naming import content_key

if TYPE_CHECKING:
    from memos_cli.cube.links import Link
    from memos_cli.cube.piece import Piece
    from memos_cli.operation.ingest import Source


def admit(work: Ingest, source: Source, digest: str) -> SourceReport:
    """Adds the memories of a source that are not in the table yet.

    What is there under its id stays as it is, whatever the file says of it.
    """
    added, kept = work.tally.added, work.tally.kept
    asked: set[str] = set()
    came: set[str] = set()
    against: list[Link] = []
    for placed in place(_unknown(work, work.pieces(source))):
        row = work.row(source, digest, placed, key=content_key(placed.piece))
        if row["source"] not in asked:
            asked.add(row["source"])
            work.touch(row["source"])
        against += stated.decode(row.pop(stated.FIELD, ""), memory=row["id"])
        came.add(row["id"])
        work.put([row])
    _link(work, source, against, came)
    added, kept = work.tally.added - added, work.tally.kept - kept
    status = "added" if added else "unchanged"
    return SourceReport(source.uri, status, source.format, added=added, kept=kept, size_bytes=source.size)


def _link(work: Ingest, source: Source, against: Sequence[Link], came: Collection[str]) -> None:
    """Has the links table tell what these memories contradict, of those alone that are the actor's to change."""
    if not against or work.memories is None or work.dry_run:
        return
    work.settle()
    ends = {end for one in against for end in one.ends}
    rows = work.memories.take(ends, columns=["id", "source"]).to_pylist()
    theirs = {uri for uri in {row["source"] for row in rows if row["id"] not in came} if not _is_open(work, uri)}
    there = {row["id"] for row in rows if row["source"] not in theirs or row["id"] in came}
    lost = stated.take_in(work.memories.directory, against, came=came, there=there)
    if lost and work.on_notice:
        work.on_notice(f"{source.uri}: {lost} contradictions are left out, with memories that are not here")


def _is_open(work: Ingest, uri: str) -> bool:
    try:
        work.touch(uri)
    except NotAllowed:
        return False
    return True


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
