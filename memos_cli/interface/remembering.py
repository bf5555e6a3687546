"""The verb `remember`: what was answered from a cube is written back to it, and waits there to be accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import exchanges
from memos_cli.cube.exchanges import Exchange
from memos_cli.cube.filters import quote
from memos_cli.errors import Usage
from memos_cli.infrastructure import governance, vault
from memos_cli.interface import embedding, frame
from memos_cli.interface.denying import open_denial
from memos_cli.interface.found import Answered, Remembered
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk
from memos_cli.operation.remember import LABELS, rows_of, source_of

if TYPE_CHECKING:
    from memos_cli.runtime.embed import Embedder


def remember(
    cube: str | Path,
    answered: Sequence[Answered],
    *,
    embedder: str | None = None,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> list[Answered]:
    """Writes questions with their answers back to `cube` as memories in the state `generated`, in one new version.

    Each has the label of the strictest memory that the model was given. What has no answer is passed over, and what is
    remembered already is not written twice; when nothing is left there is no version. Gives back what came in, with
    `remembered` set. Raises NotAllowed when the cube is not yours to write, Usage when there is nothing to remember.
    """
    desk = frame.desk(home, notify)
    if not any(each.answer is not None for each in answered):
        raise Usage("nothing to remember: there is no answer")
    basis = _elsewhere(desk, answered, cube=desk.path(cube))
    with frame.changing(desk, cube, "remember", reason=reason, lock_timeout=lock_timeout) as change:
        encoder = embedding.for_cube(desk, change.memories.embedder, spec=embedder, cube=str(cube))
        for name, given in _given(answered).items():
            if desk.path(name) == change.root:
                basis.add(change, name, given)
        work = _Work(change, encoder, frame.now(), basis)
        ids = [work.put(each) if each.answer is not None else () for each in answered]
        number = work.commit()
    return [
        replace(each, remembered=Remembered(mine, number, not set(mine).isdisjoint(work.fresh)) if mine else None)
        for each, mine in zip(answered, ids, strict=True)
    ]


@dataclass(slots=True)
class _Basis:
    """What the answers were made from: labels by cube and id, each as in effect, and the cubes' own ids by name."""

    labels: dict[tuple[str, str], dict[str, Any]]
    cubes: dict[str, str]

    def add(self, seen: frame.Reading, name: str, ids: Sequence[str]) -> None:
        """Looks up memories of a cube that is open."""
        level = seen.rules.governance.sensitivity
        for row in seen.memories.take(ids, columns=LABELS).to_pylist():
            self.labels[name, row["id"]] = {**row, "sensitivity": row["sensitivity"] or level}
        self.cubes[name] = seen.cube.id


def _given(answered: Sequence[Answered]) -> dict[str, list[str]]:
    """Ids of the memories that the model was given, by the name of their cube."""
    named: dict[str, list[str]] = {}
    for hit in (hit for each in answered for hit in each.hits):
        named.setdefault(hit.cube, []).append(hit.id)
    return named


def _elsewhere(desk: Desk, answered: Sequence[Answered], *, cube: Path) -> _Basis:
    """The basis as far as it is in other cubes than the one that is written."""
    basis = _Basis({}, {})
    for name, ids in _given(answered).items():
        if desk.path(name) != cube:
            with frame.reading(desk, name, "show") as seen:
                seen.touched += ids
                # what was answered from one cube and is written into another leaves the first
                governance.insist(seen.may_leave(ids, frame.COPY), frame.COPY)
                basis.add(seen, name, ids)
    return basis


class _Work:
    """Exchanges on their way into a draft."""

    def __init__(self, change: Changing, embedder: Embedder | None, now: datetime, basis: _Basis) -> None:
        self.fresh: set[str] = set()
        self._change, self._embedder, self._now, self._basis = change, embedder, now, basis
        self._known = exchanges.read(change.path / PLAINTEXT)
        self._rows: list[dict[str, Any]] = []
        self._denial = open_denial(change.desk, change.path / PLAINTEXT)

    def put(self, each: Answered) -> tuple[str, ...]:
        """The ids of the exchange's memories: new ones, or those that are there, whatever became of them."""
        uri = source_of(each)
        there = self._change.whole.rows(f"source = {quote(uri)}", columns=["id"])["id"].to_pylist()
        there += [row["id"] for row in self._rows if row["source"] == uri]
        if there:
            return tuple(there)
        if self._denial and self._denial.refuses(each.answer or ""):
            self._change.desk.notify("an answer was not remembered: its words were forgotten for good")
            return ()
        known = (self._basis.labels.get((hit.cube, hit.id)) for hit in each.hits)
        rows = rows_of(
            each, [labels for labels in known if labels], level=self._change.cube.governance.sensitivity,
            embedder=self._embedder, now=self._now,
        )  # fmt: skip
        self._rows += rows
        self.fresh |= {row["id"] for row in rows}
        self._known[uri] = self._exchange(uri, each)
        return tuple(row["id"] for row in rows)

    def _exchange(self, uri: str, each: Answered) -> Exchange:
        read = sorted({f"{self._basis.cubes[hit.cube]}@{hit.version}" for hit in each.hits})
        cited = tuple(citation.id for citation in each.citations)
        return Exchange(uri, each.model, each.form, cited, tuple(read), self._now)

    def commit(self) -> int:
        """The number of the version that was made, or of the one there was when nothing is new."""
        from memos_cli.cube.plaintext import table_of

        change = self._change
        change.touched += sorted(self.fresh)
        if not self._rows:
            return change.version.number
        change.memories.append(table_of(self._rows, embedder=change.memories.embedder))
        vault.write_bytes(change.path / PLAINTEXT / exchanges.FILE, exchanges.encode(self._known.values()))
        models = ", ".join(sorted({row["ref"] for row in self._rows}))
        return change.commit({"remembered": len(self._rows), "model": models}).number
