"""What goes when memories are forgotten for good: they, their wording of before, and what was made of them.

Made of a memory are the facts that a model took from the part of the source it stood in, and answers that rest on it.
Reads a table and its catalogues; changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import exchanges
from memos_cli.cube.extracted import window_of
from memos_cli.cube.filters import quote
from memos_cli.operation import windows
from memos_cli.operation.absorbed import absorbed_by
from memos_cli.operation.lifecycle import FORGOTTEN
from memos_cli.operation.windows import plain

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

READ = (
    "id", "text", "source", "section", "session", "content_key", "state", "valid_to", "supersedes", "superseded_by",
    "line_start", "line_end", "legal_hold",
)  # fmt: skip
SAME_WORDS, EXTRACTED, ANSWERED = "said the same before", "a model took it from there", "an answer that rests on it"
MERGED = "it was put together with it"
_SUBJECT_COLUMNS = ("text", "section", "title", "speaker", "topic", "extra")
_ENDED = f"(valid_to is not null or state = '{FORGOTTEN}')"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Doomed:
    """Memories that go: rows by id, those among them that were not named with the reason why they go too, and the parts
    of sources, (uri, window), that models were asked about with them in it."""

    rows: Mapping[str, Row]
    along: Mapping[str, str] = field(default_factory=dict)
    windows: frozenset[tuple[str, str]] = frozenset()

    @property
    def sources(self) -> frozenset[str]:
        """The sources they are of."""
        return frozenset(row["source"] for row in self.rows.values())

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of those under legal hold, which must not go."""
        return tuple(identity for identity, row in self.rows.items() if row["legal_hold"])


def gather(memories: Memories, directory: Path, ids: Iterable[str]) -> Doomed:
    """All that goes with the memories `ids`. `directory` is the version's `plaintext/`."""
    rows: dict[str, Row] = {row["id"]: row for row in memories.take(ids, columns=READ).to_pylist()}
    along: dict[str, str] = {}
    asked: set[tuple[str, str]] = set()
    answered = exchanges.read(directory)
    fresh = set(rows)
    while fresh:
        found = {row["id"]: (row, SAME_WORDS) for row in _same_words(memories, rows)}
        for row, parts in _extracted(memories, {identity: rows[identity] for identity in fresh}):
            asked |= parts
            if row:
                found.setdefault(row["id"], (row, EXTRACTED))
        for row in memories.take(absorbed_by(memories, fresh), columns=READ).to_pylist():
            found.setdefault(row["id"], (row, MERGED))
        for row in _answers(memories, answered.values(), rows):
            found.setdefault(row["id"], (row, ANSWERED))
        fresh = set(found) - set(rows)
        for identity in fresh:
            rows[identity], along[identity] = found[identity]
    return Doomed(rows, along, frozenset(asked))


def about(memories: Memories, subject: str) -> list[str]:
    """Ids of the memories that name the subject, as words, in their text, heading, title, speaker or topic, or in what
    else their source says of them."""
    words = r"\s+".join(map(re.escape, subject.split()))
    wanted = re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
    found = []
    columns = [name for name in _SUBJECT_COLUMNS if name in memories.schema.names]
    for batch in memories.table.search().select(["id", *columns]).to_batches(1024):
        for row in batch.to_pylist():
            if any(wanted.search(row[name] or "") for name in columns):
                found.append(row["id"])
    return found


def _same_words(memories: Memories, rows: Mapping[str, Row]) -> Iterator[Row]:
    """What is no longer recalled and says the same: an earlier stay of the same words."""
    said = {plain(row["text"]) for row in rows.values()}
    ids = [
        row["id"]
        for batch in memories.table.search().where(_ENDED).select(["id", "text"]).to_batches(1024)
        for row in batch.to_pylist()
        if row["id"] not in rows and plain(row["text"]) in said
    ]
    yield from memories.take(ids, columns=READ).to_pylist()


def _extracted(memories: Memories, doomed: Mapping[str, Row]) -> Iterator[tuple[Row | None, set[tuple[str, str]]]]:
    """What models took from the parts of the sources that these memories stand in, and those parts."""
    for uri in sorted({row["source"] for row in doomed.values()}):
        rows = memories.of_source(uri, columns=list(dict.fromkeys((*READ, *windows.COLUMNS)))).to_pylist()
        facts = [row for row in rows if window_of(row["content_key"])]
        if not facts:
            continue
        here = [row for row in rows if not window_of(row["content_key"])]
        parts = list(windows.cut(row for row in here if row["id"] in doomed or _is_read(row)))
        gone = [row for row in here if row["id"] in doomed]
        hit = {part.key for part in parts if any(plain(row["text"]) in part.said for row in gone)}
        known = {part.key for part in parts}
        yield None, {(uri, key) for key in hit}
        for fact in facts:
            key = window_of(fact["content_key"]) or ""
            if key in hit or (key not in known and any(_stood_in(row, fact) for row in gone)):
                yield fact, {(uri, key)}


def _is_read(row: Row) -> bool:
    from memos_cli.cube.plaintext import RECALLED

    return row["valid_to"] is None and row["state"] in RECALLED


def _stood_in(row: Row, fact: Row) -> bool:
    """Whether a fact, whose part of the source is no longer as it was, was taken from around a memory."""
    if (row["section"], row["session"]) != (fact["section"], fact["session"]):
        return False
    spans = (row["line_start"], row["line_end"], fact["line_start"], fact["line_end"])
    if None in (row["line_start"], fact["line_start"]):
        return True
    first, last, start, end = spans
    return bool(first <= (end or start) and (last or first) >= start)


def _answers(memories: Memories, known: Iterable[exchanges.Exchange], rows: Collection[str]) -> Iterator[Row]:
    for exchange in known:
        if not set(exchange.cited).isdisjoint(rows):
            yield from memories.rows(f"source = {quote(exchange.source)}", columns=READ).to_pylist()
