"""Sources into rows: unchanged ones cost nothing, edited ones cost their edited chunks, new ones stream.

A map from source to records followed by one commit (the vault's). Works on a table in a draft it was handed; when
to make a batch durable is the caller's `checkpoint`. Knows nothing of files on disk, locks or who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from memos_cli.cube.filters import quote
from memos_cli.cube.piece import Piece
from memos_cli.cube.sources import SourceReport, SourceState
from memos_cli.operation import truth
from memos_cli.operation.absorbed import revive, said_by_source, still_said
from memos_cli.operation.context import WALLS, Placed, place
from memos_cli.operation.embedded import embed_again, embed_rows, texts_of
from memos_cli.operation.lifecycle import FORGOTTEN, FROZEN, GENERATED, ended
from memos_cli.operation.marking import MARKED, Marks, shared_marks
from memos_cli.operation.naming import content_key, new_id
from memos_cli.operation.organize import chunk
from memos_cli.operation.placing import place_in, place_of, placed_as_remembered
from memos_cli.operation.reconcile import Move, align
from memos_cli.operation.told import columns_anew, parts

if TYPE_CHECKING:
    import numpy as np

    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation.embedded import Writer

# Big enough that sorting texts by length pays, small enough that an interrupted run loses seconds.
BATCH_EMBEDDED, BATCH_LEXICAL = 512, 8192
# Words of a memory where no embedder says how much it can take.
LEXICAL_WINDOW_WORDS = 180

# The format whose memories bring ids and sources of their own along.
CARRIED = "memos-jsonl"

# Sources that are looked up one by one; a look at all costs a few times as much.
LOOKS = 3
# Texts that a dry run times to say how long the real one will take.
SAMPLE = 32

# What is said of memories that a model wrote: nobody has taken them for true yet.
_WAITING = {"origin": "inference_extraction", "state": GENERATED, "valid_from": None}

_OLD = (
    "id", "text", "content_key", "position", "line_start", "line_end", "page", "turn", "near", "wide", "state",
    "valid_to", "superseded_as", "extra", *MARKED,
)  # fmt: skip


class Embedder(Protocol):
    """What ingest needs of an embedder."""

    def embed(self, texts: Sequence[str]) -> np.ndarray: ...
    def fits(self, text: str) -> bool: ...


class Source(Protocol):
    """What ingest needs of a source."""

    @property
    def uri(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def format(self) -> str: ...
    @property
    def title(self) -> str: ...
    def digest(self) -> str: ...
    def pieces(
        self, on_bad: Callable[[Any], None] | None = None, on_notice: Callable[[str], None] | None = None
    ) -> Iterator[Piece]: ...


@dataclass(slots=True)
class Tally:
    """Counts of one run, kept while it goes on."""

    added: int = 0
    kept: int = 0
    superseded: int = 0
    updated: int = 0
    chunks_embedded: int = 0
    texts_embedded: int = 0
    text_bytes: int = 0


@dataclass(slots=True)
class Ingest:
    """One run over many sources. `memories` is None for a dry run on a cube that does not exist.

    `checkpoint` is called with the number of pieces of a new source that are in the table. A source that was seen
    before is changed in one go: its moves only make sense together.
    """

    memories: Memories | None
    embedder: Embedder | None
    marks: Marks
    now: datetime
    catalogue: MutableMapping[str, SourceState]
    dry_run: bool = False
    on_bad: Callable[[Any], None] | None = None
    on_notice: Callable[[str], None] | None = None
    checkpoint: Callable[[int], None] = lambda streamed: None
    progress: Callable[[int], None] = lambda pieces: None
    touch: Callable[[str], None] = lambda uri: None  # asked before memories of a source are changed or counted
    tally: Tally = field(default_factory=Tally)
    sample: list[str] = field(default_factory=list)  # texts that a dry run would embed, to time
    _waiting: list[dict[str, Any]] = field(default_factory=list)
    _streaming: bool = False
    _streamed: int = 0  # pieces of the source in hand that are in the table
    _uris: frozenset[str] | None = None
    _looked: dict[str, bool] = field(default_factory=dict)
    _bad: list[Any] = field(default_factory=list)  # what of the source in hand was left out
    refuses: Callable[[str], bool] | None = None  # whether words were forgotten for good, and stay out
    writer: Writer | None = None  # takes batches to be embedded and written elsewhere; they are in after `settle`
    waits: bool = False  # whether a model wrote the sources, so that new memories wait to be accepted
    refused: set[str] = field(default_factory=set)  # content keys of pieces that were left out for that
    beside: set[str] = field(default_factory=set)  # memories that came or stood up, of whatever source

    def take(self, source: Source, *, skip: int = 0) -> SourceReport:
        """Brings the table up to date with one source. `skip` pieces of a new one are there from an earlier run.

        Raises Damaged for input that does not parse, unless `on_bad` takes it.
        """
        known = self.catalogue.get(source.uri)
        if known or self._was_here(source.uri):
            self.touch(source.uri)
        digest = source.digest()
        self._bad = []
        if known and known.digest == digest and not skip and self.marks == Marks():
            self.tally.kept += known.memories
            return SourceReport(source.uri, "unchanged", source.format, kept=known.memories, size_bytes=source.size)
        fresh = skip > 0 or (known is None and not (self._was_here(source.uri) and self._live_rows(source.uri)))
        if source.format == CARRIED:
            from memos_cli.operation.carried import admit

            self.settle()  # ids of other sources are looked for
            report = admit(self, source, digest)
        else:
            report = self._stream(source, digest, skip) if fresh else self._update(source, digest)
        self.flush()
        self._streaming = False
        memories = report.added + report.kept
        # a source that was not read whole is not known by its digest: the next ingest reads it again
        state = SourceState(
            source.uri, "" if self._bad else digest, source.format, source.title, source.size, memories, self.now
        )
        if known is None or state != replace(known, seen_at=self.now):
            self.catalogue[source.uri] = state
        return report

    def rename(self, old: str, source: Source) -> None:
        """Gives a source that has a new name its memories, all of them, under the name it has now."""
        self.touch(old)
        state = self.catalogue.pop(old)
        self.catalogue[source.uri] = replace(state, uri=source.uri, title=source.title)
        if self.memories is None:
            return
        ids = self.memories.of_source(old, columns=["id", "position"])["id"].to_pylist()
        self.tally.updated += len(ids)
        if not self.dry_run:
            self.memories.change(ids, source=source.uri, title=source.title, updated_at=self.now)

    def drop(self, uri: str) -> SourceReport:
        """Ends the validity of every live memory of a source that is gone."""
        self.touch(uri)
        state = self.catalogue.pop(uri)
        self.end([row["id"] for row in self._standing(uri) if row["state"] != FORGOTTEN])
        return SourceReport(uri, "pruned", state.format, superseded=state.memories, size_bytes=state.size_bytes)

    def end(self, ids: Sequence[str]) -> None:
        """Ends the validity of memories whose words are gone from their source, but for those that nothing ends."""
        fast = self._fast(ids)
        self._supersede([(identity, "") for identity in ids if identity not in fast])

    def put(self, rows: Sequence[dict[str, Any]]) -> None:
        """Adds rows that were made elsewhere; they are embedded and appended with the next flush."""
        for row in rows:
            self.beside.add(row["id"])
            self._add(row)

    def flush(self) -> None:
        """Embeds and appends what waits."""
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        self._embed(rows)
        if self.memories and not self.dry_run:
            from memos_cli.cube.plaintext import table_of

            if self.writer:
                self.writer.put(rows)
            else:
                self.memories.append(table_of(rows, embedder=self.memories.embedder))
            self._streamed += len(rows) if self._streaming else 0
            if self._streaming:
                self.checkpoint(self._streamed)

    def settle(self) -> None:
        """Has the table hold all that was handed to the writer."""
        self.flush()
        if self.writer:
            self.writer.settle()

    def pieces(self, source: Source) -> Iterator[Piece]:
        """A source's pieces, none longer than the embedder's window."""
        fits = self.embedder.fits if self.embedder else _fits_lexical
        stay = {row["content_key"] for row in self._live_rows(source.uri)} if self.refuses else set()
        for whole in source.pieces(self._leave_out if self.on_bad else None, self.on_notice):
            for piece in parts(whole, chunk(whole, fits=fits)):
                key = content_key(piece) if self.refuses and self.refuses(piece.text) else ""
                if not key or key in stay:  # what is remembered here was not forgotten
                    yield piece
                else:
                    self.refused.add(key)

    def _leave_out(self, bad: Any) -> None:
        assert self.on_bad is not None
        self._bad.append(bad)
        self.on_bad(bad)

    def _stream(self, source: Source, digest: str, skip: int) -> SourceReport:
        """A source never seen, or one that is back: rows leave as they come, so memory stays flat for any size."""
        count, self._streaming, self._streamed = 0, True, skip
        taken = self._ended_ids(source.uri)
        for placed in islice(place(self.pieces(source)), skip, None):
            self._add(self.row(source, digest, placed, key=content_key(placed.piece), taken=taken))
            count += 1
        return SourceReport(source.uri, "added", source.format, added=count + skip, size_bytes=source.size)

    def _update(self, source: Source, digest: str) -> SourceReport:
        """A source seen before: only what differs is written."""
        pieces = list(self.pieces(source))
        keys = [content_key(piece) for piece in pieces]
        there = self._all_of(source.uri)
        old = [row for row in there if said_by_source(row)]
        moves = list(align([row["content_key"] for row in old], keys))
        marks = self._marks_by_piece(old, moves)
        guards = {j: tuple(marks[j].get(name) or "" for name in WALLS) for j in marks}
        stands = {i for i, row in enumerate(old) if _is_fast(row)}
        new = placed_as_remembered(
            pieces,
            {j: old[i] for i, j, same in moves if i is not None and j is not None and (same or i in stands)},
            guards,
        )
        taken = {row["id"] for row in there}
        kept: list[tuple[dict[str, Any], Placed]] = []
        gone: list[tuple[str, str]] = []
        added = 0
        for i, j, same in moves:
            if same and i is not None and j is not None:
                if i in stands and self.marks != Marks():
                    continue
                kept += [(old[i], new[j])] if j in new else []
                continue
            if i is not None and i in stands:
                self._say_fast(source.uri)
                continue
            if j is not None:
                row = self.row(source, digest, new[j], key=keys[j], taken=taken)
                row["supersedes"] = old[i]["id"] if i is not None else ""
                self._add({**row, **marks[j], **dict(pieces[j].said), **self.marks.columns(self.now)})
                added += 1
            if i is not None and old[i]["state"] != FORGOTTEN:
                gone.append((old[i]["id"], row["id"] if j is not None else ""))
        if any(bad.whole for bad in self._bad):
            # its end could not be read, so what is not seen may well be there
            gone = [(identity, heir) for identity, heir in gone if heir]
        self._supersede(gone)
        self._move(kept, digest)
        stayed = len(pieces) - added
        self.tally.kept += stayed
        status = "changed" if added or gone else "unchanged"
        return SourceReport(source.uri, status, source.format, added, stayed, len(gone), source.size)

    def _marks_by_piece(self, old: Sequence[dict[str, Any]], moves: Sequence[Move]) -> dict[int, dict[str, Any]]:
        """What each piece is marked with: as the memory that it is or replaces, else as all; this run's marks first."""
        given, shared = self.marks.columns(self.now), shared_marks(old)
        before = {j: shared if i is None else {name: old[i][name] for name in MARKED} for i, j, _ in moves}
        return {j: {**marks, **given} for j, marks in before.items() if j is not None}

    def _fast(self, ids: Sequence[str]) -> set[str]:
        """Of some memories, those that stand whatever becomes of their source."""
        if self.memories is None or not ids:
            return set()
        rows = self.memories.take(ids, columns=["id", "state", "legal_hold", "source"]).to_pylist()
        for uri in {row["source"] for row in rows if _is_fast(row)}:
            self._say_fast(uri)
        return {row["id"] for row in rows if _is_fast(row)}

    def _say_fast(self, uri: str) -> None:
        if self.on_notice:
            self.on_notice(
                f"{uri}: what is frozen or under legal hold stands, though the source says something else now"
            )

    def _live_rows(self, uri: str) -> list[dict[str, Any]]:
        """Rows that stand for what the source says now, and hidden ones: these stay, so that their words stay hidden
        should they go from the source and come back.

        What a model took from it is not what it says; extract.py keeps that in step.
        """
        return [row for row in self._all_of(uri) if said_by_source(row)]

    def _standing(self, uri: str) -> list[dict[str, Any]]:
        return [row for row in self._all_of(uri) if still_said(row)]

    def _all_of(self, uri: str) -> list[dict[str, Any]]:
        return [] if self.memories is None else self.memories.of_source(uri, columns=_OLD).to_pylist()

    def _was_here(self, uri: str) -> bool:
        """Whether the table had memories of this source when the run began.

        The first few are asked for by name; then one look at all sources answers for those that follow.
        """
        if self.memories is None:
            return False
        if self._uris is None and len(self._looked) < LOOKS:
            if uri not in self._looked:
                self._looked[uri] = self.memories.has_source(uri)
            return self._looked[uri]
        if self._uris is None:
            self._uris = self.memories.uris()
        return self._looked.get(uri, uri in self._uris)

    def _ended_ids(self, uri: str) -> set[str] | None:
        """Ids of a source's memories that have ended; None when there are none, as of a source that is new."""
        if self.memories is None or not self._was_here(uri):
            return None
        rows = self.memories.rows(f"source = {quote(uri)} and valid_to is not null", columns=["id"])
        return set(rows["id"].to_pylist()) or None

    def _supersede(self, gone: list[tuple[str, str]]) -> None:
        self.tally.superseded += len(gone)
        if not gone or self.dry_run or self.memories is None:
            return
        from memos_cli.cube.plaintext import with_columns

        successor = dict(gone)
        rows = self.memories.take(successor)
        heirs = [successor[i] for i in rows["id"].to_pylist()]
        states = [ended(state) for state in rows["state"].to_pylist()]
        before = rows["valid_to"].to_pylist()
        changed = with_columns(
            rows, state=states, valid_to=[end or self.now for end in before], updated_at=self.now, superseded_by=heirs,
            superseded_as="",
        )  # fmt: skip
        self.memories.replace(changed)
        # what was archived before has nobody behind it
        live = {identity for identity, end in zip(rows["id"].to_pylist(), before, strict=True) if end is None}
        self.beside |= set(revive(self.memories, live, spared=successor, now=self.now))

    def _move(self, kept: list[tuple[dict[str, Any], Placed]], digest: str) -> None:
        """Rewrites rows whose place, context or marks changed; only a changed context is embedded again."""
        columns = self.marks.columns(self.now)
        moved = {
            row["id"]: (row, placed)
            for row, placed in kept
            if place_in(row) != place_of(placed)
            or row["extra"] != placed.piece.extra
            or any(row[name] != value for name, value in columns.items())
        }
        self.tally.updated += len(moved)
        again = [row for row, placed in moved.values() if row["near"] != placed.near and placed.piece.kind != "turn"]
        self.tally.texts_embedded += len(again) if self.embedder else 0
        if not moved or self.dry_run or self.memories is None:
            return
        from memos_cli.cube.plaintext import with_columns

        rows = self.memories.take(moved)
        placed = [moved[i][1] for i in rows["id"].to_pylist()]
        cells: dict[str, list[Any]] = {name: [place_of(item)[name] for item in placed] for name in place_of(placed[0])}
        was = [moved[i][0] for i in rows["id"].to_pylist()]
        told = {**columns_anew(was, [item.piece for item in placed]), **columns}
        changed = with_columns(rows, **cells, **told, source_digest=digest, updated_at=self.now)
        if self.embedder and again:
            changed = embed_again(self.embedder, rows, changed)
        self.memories.replace(changed)

    def _add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        self.tally.added += 1
        self.tally.text_bytes += len(row["text"].encode("utf-8", "replace"))
        if len(self._waiting) >= (BATCH_EMBEDDED if self.embedder else BATCH_LEXICAL):
            self.flush()
        self.progress(self.tally.added)

    def _embed(self, rows: list[dict[str, Any]]) -> None:
        """Sets both vectors of each row, or counts what that would be."""
        if self.embedder is None:
            return
        self.tally.chunks_embedded += len(rows)
        if self.dry_run or self.writer:
            self.tally.texts_embedded += len(texts_of(rows))
            self.sample += [row["near"] for row in rows[: SAMPLE - len(self.sample)]]
            return
        self.tally.texts_embedded += embed_rows(self.embedder, rows)

    def row(
        self, source: Source, digest: str, placed: Placed, *, key: str, taken: set[str] | None = None
    ) -> dict[str, Any]:
        """A piece of a source as a row, without its vectors."""
        piece = placed.piece
        identity = new_id(source.uri, key, placed.position, taken=taken)
        return {
            "id": identity, "text": piece.text, "kind": piece.kind, "source": source.uri, "source_digest": digest,
            "title": source.title, "section": " > ".join(piece.section), "session": piece.session,
            "speaker": piece.speaker, "role": piece.role, "ref": piece.ref, "time": piece.time,
            "event_time": piece.event_time, "time_note": piece.time_note, "words": len(piece.text.split()),
            "content_key": key, "valid_from": self.now, "created_at": self.now, "updated_at": self.now,
            "extra": piece.extra, **truth.said(piece.text), **place_of(placed), **dict(piece.said),
            **self.marks.columns(self.now), **(_WAITING if self.waits else {}),
        }  # fmt: skip


def _is_fast(row: Mapping[str, Any]) -> bool:
    """Whether a memory stands whatever becomes of its source."""
    return row["state"] == FROZEN or bool(row["legal_hold"])


def estimate_seconds(embedder: Embedder | None, *, texts: int, sample: Sequence[str]) -> float:
    """Seconds that embedding `texts` texts will take here, from a timed sample; 0 without an embedder."""
    from time import perf_counter

    if embedder is None or not texts or not sample:
        return 0.0
    embedder.embed(sample[:1])  # the first call loads the model
    start = perf_counter()
    embedder.embed(sample)
    return (perf_counter() - start) / len(sample) * texts


def _fits_lexical(text: str) -> bool:
    return len(text.split()) <= LEXICAL_WINDOW_WORDS
