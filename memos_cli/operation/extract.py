"""Memories that a model takes out of sources: asked for, read with suspicion, kept in step with what they came from.

What a model writes is a row of its own, with the place and the labels of the part of the source it was taken from. It
is `generated`: not recalled until somebody accepts it. It goes when the words it came from are no longer there; when
the model says the same of the words that took their place, it stays, accepted or hidden as it was.

Works on the table that an ingest fills. Knows nothing of who agreed to the cost; `permit` is asked before each text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memos_cli.cube.extracted import Asked, Key, content_key, window_of
from memos_cli.cube.piece import Piece, storable
from memos_cli.cube.scopes import rank
from memos_cli.operation import lifecycle, naming, windows
from memos_cli.operation.context import Placed
from memos_cli.operation.marking import Marks, shared_marks
from memos_cli.operation.windows import Row, Window, plain

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation.ingest import Ingest, Source
    from memos_cli.runtime.complete import Completer

ORIGIN, KIND, TYPE = "inference_extraction", "memory", "fact"
# Behind every piece of any source, so that no piece has a memory of this kind as its neighbour.
FIRST_POSITION = 1 << 40
FEWEST_FACT_WORDS = 2
_SPAN = ("line_start", "line_end", "page", "turn")

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_MARK = re.compile(r"^\s*(?:[-*+•–—>#]+\s+|\(?\d{1,3}[.):](?!\d)\s*|\[\d{1,3}\]\s*)*")
_NOTHING = re.compile(r"(?:none|no facts?|n/a|nothing)\b.{0,40}", re.IGNORECASE)
_WRAPPED = (("**", "**"), ('"', '"'), ("“", "”"), ("`", "`"))


def parse(answer: str, *, cut: bool = False) -> list[str]:
    """The facts in a model's answer, one a line, without the marks of a list.

    Left out: what a model says round them (thoughts, fences, headings, NONE), repetitions, lines that are too long
    or of one word, more than MOST_FACTS, and the last line of an answer that was `cut`.
    """
    lines = _THOUGHT.sub("", storable(answer)).splitlines()
    if cut and lines:
        lines.pop()
    facts: dict[str, str] = {}
    for line in lines:
        fact = _stripped(line)
        if _is_fact(fact):
            facts.setdefault(plain(fact), fact)
    return list(facts.values())[: windows.MOST_FACTS]


def _stripped(line: str) -> str:
    text = _MARK.sub("", line).strip()
    for before, after in _WRAPPED:
        inner = text[len(before) : -len(after)]
        if text.startswith(before) and text.endswith(after) and inner and before not in inner:
            text = inner.strip()
    return " ".join(text.split())


def _is_fact(text: str) -> bool:
    count = len(text.split())
    if text.startswith(("```", "<")) or text.endswith(":") or _NOTHING.fullmatch(text):
        return False
    # Scripts without spaces count as one word however much they say.
    enough = count >= FEWEST_FACT_WORDS or (not text.isascii() and len(text) > FEWEST_FACT_WORDS)
    return enough and count <= windows.LONGEST_FACT_WORDS and len(text) <= windows.LONGEST_FACT_WORDS * 10


@dataclass(slots=True)
class Extraction:
    """One run of a model over the sources of an ingest. Without `completer` it only tidies up after changed sources.

    At most `calls` are made, which is what was agreed to; `permit` raises NotAllowed for what may not be read by this
    model; `asked` tells that an answer is in.
    """

    work: Ingest
    ledger: dict[Key, Asked]
    completer: Completer | None = None
    calls: int = 0
    permit: Callable[[Window], None] = lambda window: None
    asked: Callable[[], None] = lambda: None
    made: int = 0
    left: int = 0
    ended: int = 0
    moved: int = 0

    def take(self, source: Source) -> None:
        """Brings the extracted memories of a source up to date. Raises what the completer raises."""
        if self.work.memories is None:
            return
        held = _Held(_standing(self.work, source.uri))
        parts = list(windows.cut(row for row in held.rows if not _window_of(row) and _is_read(row, self.work.now)))
        held.here = {window.key: window for window in parts}
        self._follow(held)
        for window in parts:
            if self._is_due(source.uri, window):
                self._ask(source, window, held)
        self._end(source.uri, held)

    def drop(self, uri: str) -> None:
        """Forgets that a source was asked about; its memories have gone with it."""
        for key in [key for key in self.ledger if key[0] == uri]:
            del self.ledger[key]

    def _is_due(self, uri: str, window: Window) -> bool:
        if self.completer is None or (uri, window.key, self.completer.name) in self.ledger:
            return False
        if not self.calls:
            self.left += 1
        return self.calls > 0

    def _ask(self, source: Source, window: Window, held: _Held) -> None:
        assert self.completer is not None
        self.permit(window)
        self.calls -= 1
        answer = self.completer.complete(windows.prompt(window), limit_tokens=windows.ANSWER_LIMIT_TOKENS)
        facts = [fact for fact in parse(answer.text, cut=answer.cut) if plain(fact) not in window.said]
        fresh = [fact for fact in facts if not held.claim(fact, window) and self._fits(fact)]
        rows = [self._row(source, window, fact, index, held) for index, fact in enumerate(fresh)]
        self.work.put(rows)
        held.rows += rows
        self.made += len(rows)
        asked = Asked(source.uri, window.key, self.completer.name, len(facts), self.work.now)
        self.ledger[asked.key] = asked
        self._write(held)
        self.asked()

    def _fits(self, fact: str) -> bool:
        if self.work.refuses is not None and self.work.refuses(fact):
            return False
        return self.work.embedder is None or self.work.embedder.fits(fact)

    def _row(self, source: Source, window: Window, fact: str, index: int, held: _Held) -> dict[str, Any]:
        assert self.completer is not None
        place = {name: window.place[name] for name in (*_SPAN, "session", "speaker", "time")}
        section = window.place["section"]
        piece = Piece(fact, kind=KIND, section=(section,) if section else (), ref=self.completer.name, **place)
        near = f"{section}\n{fact}".strip()
        placed = Placed(piece, position_of(window, index), near, near)
        key = content_key(window.key, _digest(fact))
        row = self.work.row(source, source.digest(), placed, key=key, taken=held.taken)
        row |= {"origin": ORIGIN, "type": row.get("type", TYPE), **window.labels}
        if held.was_accepted(fact, window):
            return {**row, "state": lifecycle.move(lifecycle.GENERATED, lifecycle.ACTIVATED)}
        # not valid before it is accepted
        return {**row, "state": lifecycle.GENERATED, "valid_from": None}

    def _follow(self, held: _Held) -> None:
        """Memories whose words stand elsewhere now go with them, and take a stricter label or this run's marks."""
        marks = self.work.marks.columns(self.work.now)
        there = [(row, held.here[key]) for row in held.facts if (key := _window_of(row)) in held.here]
        for row, window in there:
            held.change(row, {**_where(window), **({} if "sensitivity" in marks else _stricter(row, window))})
        if marks and there:
            self._memories.change([row["id"] for row, _ in there], **marks, updated_at=self.work.now)
            self.moved += len(there)
        self._write(held)

    def _write(self, held: _Held) -> None:
        """Writes the rows that `held` has changed."""
        changed, held.changed = held.changed, {}
        self.moved += len(changed)
        if not changed:
            return
        from memos_cli.cube.plaintext import with_columns

        rows = self._memories.take(changed)
        order = rows["id"].to_pylist()
        for name in sorted({name for columns in changed.values() for name in columns}):
            before = rows[name].to_pylist()
            rows = with_columns(
                rows, **{name: [changed[i].get(name, was) for i, was in zip(order, before, strict=True)]}
            )
        self._memories.replace(with_columns(rows, updated_at=self.work.now))

    def _end(self, uri: str, held: _Held) -> None:
        """Ends the memories whose words are gone, and drops what the ledger says of such words."""
        for key in [key for key in self.ledger if key[0] == uri and key[1] not in held.here]:
            del self.ledger[key]
        gone = [
            row["id"] for row in held.facts if _window_of(row) not in held.here and row["state"] != lifecycle.FORGOTTEN
        ]
        self.ended += len(gone)
        self.work.end(gone)

    @property
    def _memories(self) -> Memories:
        assert self.work.memories is not None
        return self.work.memories


def _where(window: Window) -> dict[str, Any]:
    return {name: window.place[name] for name in _SPAN}


def _stricter(row: Row, window: Window) -> dict[str, Any]:
    """The label of the words, when it is higher than the memory's own ("" is the cube's)."""
    theirs = window.labels["sensitivity"]
    return {"sensitivity": theirs} if rank(theirs) > rank(row["sensitivity"]) else {}


def _digest(fact: str) -> str:
    return hashlib.sha256(plain(fact).encode("utf-8", "replace")).hexdigest()[:16]


def _says(row: Row, fact: str, window: Window) -> bool:
    return (row["section"], row["session"]) == window.section and plain(row["text"]) == plain(fact)


def _window_of(row: Row) -> str:
    return window_of(row["content_key"]) or ""


@dataclass(slots=True)
class _Held:
    """The rows of one source while it is worked on: what it says and what models took from it."""

    rows: list[dict[str, Any]]
    here: dict[str, Window] = field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    past: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.taken = {row["id"] for row in self.rows}
        self.past = [row for row in self.rows if row["valid_to"] is not None and _window_of(row)]
        self.rows = [row for row in self.rows if row["valid_to"] is None]

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What models took from the source, hidden ones too."""
        return [row for row in self.rows if _window_of(row)]

    def change(self, row: dict[str, Any], columns: dict[str, Any]) -> None:
        """Notes the columns that differ, to be written."""
        columns = {name: value for name, value in columns.items() if row[name] != value}
        if columns:
            row |= columns
            self.changed.setdefault(row["id"], {}).update(columns)

    def claim(self, fact: str, window: Window) -> bool:
        """Whether a memory of this section says so already, or did and was hidden, or another was taken for it.

        One that stands though its own words are gone then belongs to `window`.
        """
        same = next((row for row in self.facts if _says(row, fact, window)), None)
        if same is None:
            out = (
                row["state"] == lifecycle.FORGOTTEN or bool(row["superseded_as"])
                for row in self.past
                if _says(row, fact, window)
            )
            return any(out)
        if _window_of(same) not in self.here:
            self.change(same, {"content_key": content_key(window.key, _digest(fact)), **_where(window)})
        return True

    def was_accepted(self, fact: str, window: Window) -> bool:
        """Whether this section's words once gave this very memory, and somebody accepted it."""
        return any(row["valid_from"] is not None for row in self.past if _says(row, fact, window))


def position_of(window: Window, index: int) -> int:
    """Where the memories of a window stand in the order of the source: after all pieces, in the order of windows."""
    return FIRST_POSITION + int(window.place["position"]) * windows.MOST_FACTS + index


def _is_read(row: Row, now: datetime) -> bool:
    from memos_cli.cube.plaintext import RECALLED

    over = row["expires_at"] is not None and row["expires_at"] <= now
    return row["state"] in RECALLED and not over


def _standing(work: Ingest, uri: str) -> list[dict[str, Any]]:
    assert work.memories is not None
    rows: list[dict[str, Any]] = work.memories.of_source(uri, columns=windows.COLUMNS).to_pylist()
    return rows


def due(work: Ingest, sources: Iterable[Source], ledger: dict[Key, Asked], *, model: str) -> Iterator[Window]:
    """The windows that a run would ask about, for an estimate; nothing is written and nothing asked.

    A source that is new or was changed is read; of one that was not, the table tells.
    """
    for source in sources:
        rows = _standing(work, source.uri) if work.memories else []
        live = [row for row in rows if row["valid_to"] is None and not _window_of(row)]
        known = work.catalogue.get(source.uri)
        if known is None or known.digest != source.digest() or work.marks != Marks():
            live = list(_read(work, source, {row["content_key"]: row for row in live}))
        for window in windows.cut(row for row in live if _is_read(row, work.now)):
            if (source.uri, window.key, model) not in ledger:
                yield window


def _read(work: Ingest, source: Source, known: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows as they will be: words that stand unchanged keep what was done to them (edited, hidden, labelled)."""
    from memos_cli.cube.plaintext import EMPTY

    nothing = dict.fromkeys(windows.COLUMNS)
    marks = work.marks.columns(work.now)
    shared = shared_marks(list(known.values()))
    for position, piece in enumerate(work.pieces(source)):
        key = naming.content_key(piece)
        fresh = work.row(source, "", Placed(piece, position, "", ""), key=key)
        was = known.get(key)
        place = {name: fresh[name] for name in ("position", "line_start", "line_end", "page", "turn")}
        yield {**nothing, **EMPTY, **fresh, **shared, **marks} if was is None else {**was, **place, **marks}
