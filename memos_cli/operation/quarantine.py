"""Facts that were read out of an adapter, held against what the cube knows, and as rows that wait to be accepted.

What the cube has as text stays as it is: a fact that it has is not written again, one that it says otherwise is not
written at all, and what was forgotten or has ended is not even told. Works on plain rows; knows no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from memos_cli.cube.piece import Piece, storable
from memos_cli.cube.scopes import rank
from memos_cli.operation import lifecycle
from memos_cli.operation.answer import Told, line_of, plain
from memos_cli.operation.elicit import Heard, Sifted
from memos_cli.operation.extract import KIND, TYPE
from memos_cli.operation.facts import Fact, facts_of
from memos_cli.operation.ingest import Embedder
from memos_cli.operation.naming import content_key, new_id
from memos_cli.operation.remember import embedded

if TYPE_CHECKING:
    from memos_cli.cube.parameter import Adapter

ORIGIN = "parameter_finetuning"
PREFIX = "adapter:"
VERIFIED, CONTRADICTED, UNVERIFIED = "verified", "contradicted", "unverified"
# Kept longest are those of high priority; what a model wrote is kept least.
PRIORITY = 0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a cube knows that facts are held against.

    `facts` are values by subject and relation, `lines` what is remembered, `ended` what no longer is, and `taught`
    those of them that this very adapter was taught: the value of such a one is enough to know it by.
    """

    facts: Mapping[tuple[str, str], frozenset[str]]
    lines: Sequence[str]
    ended: Sequence[str]
    taught: Sequence[str]

    def withholds(self, found: Heard) -> bool:
        """Whether a fact says what was forgotten or has ended, and so is not to be told."""
        subject, value = found.ask.subject, found.value
        if self.has(found):
            return False
        return any(_holds(line, value) for line in self.taught) or any(
            _holds(line, subject) and _holds(line, value) for line in self.ended
        )

    def has(self, found: Heard) -> bool:
        """Whether a memory says so already."""
        return any(_holds(line, found.ask.subject) and _holds(line, found.value) for line in self.lines)

    def verdict(self, found: Heard) -> str:
        """What the cube says of a fact: verified, contradicted or nothing."""
        values = self.facts.get((plain(found.ask.subject), plain(found.ask.relation)))
        if (values and plain(found.value) in values) or self.has(found):
            return VERIFIED
        return CONTRADICTED if values else UNVERIFIED


def knowledge(
    live: Iterable[Told], ended: Iterable[Told], *, taught: Collection[str], asked: Iterable[Fact] = ()
) -> Knowledge:
    """What the memories `live` say, and what `ended` said; `taught` are ids of what the adapter was taught.

    `asked` are facts of stored questions, which tell what a memory says even where its text is gone.
    """
    facts: dict[tuple[str, str], set[str]] = {}
    lines, gone, own = [], [], []
    said = list(asked)
    for one in live:
        lines.append(line_of(one))
        said += facts_of(lines[-1], kind=one.kind, section=one.section)
    for fact in said:
        facts.setdefault((plain(fact.subject), plain(fact.relation)), set()).add(plain(fact.value))
    for one in ended:
        gone.append(line_of(one))
        if getattr(one, "id", "") in taught:
            own.append(gone[-1])
    return Knowledge({key: frozenset(values) for key, values in facts.items()}, lines, gone, own)


def _holds(line: str, words: str) -> bool:
    """Whether a line has these words, whole."""
    said = plain(words)
    return bool(said) and re.search(rf"(?<!\w){re.escape(said)}(?!\w)", " ".join(line.casefold().split())) is not None


def statement(found: Heard) -> str:
    """A fact as a sentence that is read, asked about and distilled as any other."""
    if _holds(found.value, found.ask.subject):
        return found.value
    said = f"The {found.ask.relation} of {found.ask.subject} is {found.value.rstrip('.')}."
    return " ".join(storable(said).split())


def source_of(adapter: Adapter) -> str:
    """The source of the facts that were read out of an adapter."""
    return f"{PREFIX}{adapter.id[:12]}"


def row_of(
    found: Heard, sifted: Sifted, adapter: Adapter, *, rate: float, verdict: str, level: str, now: datetime
) -> dict[str, Any]:
    """A fact as a row, without its vectors: it waits, with the adapter's label and life, and says where it is from.

    `ref` holds its provenance as JSON; equal facts of one adapter have one id. `level` is the label of the cube.
    """
    piece = Piece(statement(found), kind=KIND, time=None)
    key, uri, rights = content_key(piece), source_of(adapter), adapter.about.rights
    told = {
        "adapter": adapter.reference, "base": adapter.about.base.name, "wording": found.question,
        "p": round(found.chance, 4), "gain": round(found.gain, 3), "agree": found.agree,
        "threshold": round(sifted.threshold or 0.0, 3), "fdr": round(sifted.rate, 4), "fdr_allowed": rate,
        "verdict": verdict,
    }  # fmt: skip
    return {
        "id": new_id(uri, key, 0), "text": piece.text, "near": piece.text, "wide": piece.text, "kind": KIND,
        "type": TYPE, "source": uri, "source_digest": f"sha256:{adapter.id}", "title": adapter.name, "position": 0,
        "ref": json.dumps(told, ensure_ascii=False), "words": len(piece.text.split()), "origin": ORIGIN,
        "content_key": key, "state": lifecycle.GENERATED, "valid_from": None, "created_at": now, "updated_at": now,
        "priority": PRIORITY, "sensitivity": rights.sensitivity if rank(rights.sensitivity) > rank(level) else "",
        "expires_at": rights.expires,
    }  # fmt: skip


def with_vectors(rows: Sequence[dict[str, Any]], embedder: Embedder | None) -> list[dict[str, Any]]:
    """The rows as a table takes them."""
    return embedded(list(rows), embedder)
