"""What an interrupted ingest left behind, and how one that runs records where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from time import perf_counter
from typing import Any, Protocol

from memos_cli.cube import extracted
from memos_cli.cube.sources import SourceState
from memos_cli.cube.sources import read as read_catalogue
from memos_cli.infrastructure import faults, vault
from memos_cli.interface import frame, sources
from memos_cli.interface.frame import PLAINTEXT, Desk
from memos_cli.operation.ingest import Ingest

# A batch is made durable this often: an interrupted run loses at most so many seconds of work.
CHECKPOINT_SECONDS = 1.0


class Run(Protocol):
    """What a journal asks of an ingest: whom to tell, and how much was there already."""

    desk: Desk
    resumed: int
    extracted: int


class Journal:
    """What an interrupted run left, and how this one records where it is.

    A checkpoint keeps the draft as it is; its progress names the sources that are done and, for the one in hand,
    how many of its pieces are in. A source that changed since is reconciled as any other that was seen before.
    """

    def __init__(self, draft: vault.Draft, run: Run, *, settle: Callable[[], None]) -> None:
        self.draft, self.run, self.settle = draft, run, settle
        self.before = read_catalogue(draft.path / PLAINTEXT)
        self.catalogue = self.before.copy()
        self.ledger_before = extracted.read(draft.base.path / PLAINTEXT)
        self.ledger = extracted.read(draft.path / PLAINTEXT)
        self._renamed: list[str] = []
        self._cut: dict[str, Any] = {}
        self._at: SourceState | None = None
        self._last = perf_counter()
        self._cost = 0.0
        self.marked = False  # whether enough was done to be worth keeping
        self.gather: Callable[[], None] = lambda: None  # has the table hold all that was handed out
        if draft.progress is not None:
            self._take_up(draft.progress)

    def _take_up(self, progress: dict[str, Any]) -> None:
        self._renamed = progress["renamed"]
        for old in self._renamed:
            self.catalogue.pop(old, None)
        for state in progress["sources"]:
            seen = SourceState(**{**state, "seen_at": datetime.fromisoformat(state["seen_at"])})
            self.catalogue[seen.uri] = seen
        self._cut = progress["cut"]
        if cut := self.catalogue.get(self._cut.get("uri", "")):
            # should it be gone now, nobody is to take it for read when it is back
            self.catalogue[cut.uri] = replace(cut, digest="")
        self.run.extracted = progress["extracted"]
        self.run.resumed = progress["rows"] + self.run.extracted
        self.run.desk.notify(f"taking up an interrupted ingest: {self.run.resumed} memories are in already")

    def is_news(self, source: sources.Source) -> bool:
        """Whether a source has not been read as it is now."""
        known = self.catalogue.get(source.uri)
        return known is None or known.digest != source.digest()

    def rename(self, old: str, uri: str) -> None:
        """A source has a new name: so have the parts of it that a model has read."""
        self._renamed.append(old)
        for key, asked in list(self.ledger.items()):
            if asked.source == old:
                del self.ledger[key]
                moved = replace(asked, source=uri)
                self.ledger[moved.key] = moved

    def begin(self, source: sources.Source) -> int:
        """The next source begins; returns how many of its pieces an interrupted run has put in already."""
        self._at = SourceState(source.uri, source.digest(), source.format, source.title, source.size, 0, frame.now())
        cut, self._cut = (self._cut, {}) if self._cut.get("uri") == source.uri else ({}, self._cut)
        if not cut or cut["digest"] != self._at.digest:
            return 0
        del self.catalogue[source.uri]
        return int(cut["pieces"])

    def batch(self, streamed: int) -> None:
        """A batch of the source in hand was appended; keeps the draft as it is, now and then."""
        faults.point("ingest_batch")
        if self._at is None or not self._due():
            return
        states = [*self.catalogue.values(), replace(self._at, memories=streamed)]
        self._mark(states, cut={"uri": self._at.uri, "digest": self._at.digest, "pieces": streamed})

    def end(self) -> None:
        """A source is done; keeps the draft as it is, now and then."""
        if self._due():
            self._mark(list(self.catalogue.values()), cut={})

    def asked(self, work: Ingest) -> None:
        """A model has answered; keeps the draft as it is, now and then."""
        if self._due():
            self.keep(work)

    def keep(self, work: Ingest) -> None:
        """Keeps the draft as it is, with all that was extracted so far."""
        work.flush()
        self.write_ledger()
        self._mark(list(self.catalogue.values()), cut={})

    def write_ledger(self) -> None:
        """Puts what was asked into the draft."""
        if self.ledger or self.ledger_before:
            vault.write_bytes(self.draft.path / PLAINTEXT / extracted.FILE, extracted.encode(self.ledger))

    def _due(self) -> bool:
        """Whether it is time again: often enough to lose little, seldom enough to cost a twentieth at most."""
        return perf_counter() - self._last >= max(CHECKPOINT_SECONDS, 20 * self._cost)

    def _mark(self, states: list[SourceState], *, cut: dict[str, Any]) -> None:
        start = perf_counter()
        self.gather()
        moved = [state for state in states if self.before.get(state.uri) != state]
        rows = sum(state.memories for state in moved)
        told = [{**asdict(state), "seen_at": state.seen_at.isoformat()} for state in moved]
        note = {"sources": told, "cut": cut, "rows": rows, "extracted": self.run.extracted, "renamed": self._renamed}
        self.settle()
        self.draft.checkpoint(note)
        self._last = perf_counter()
        self._cost = self._last - start
        self.marked = True
