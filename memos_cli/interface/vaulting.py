"""The verb `query` over all named cubes of a home: a catalogue tells which are worth opening before any is opened.

The best of them are opened and ranked together, as several cubes always are; each decides anew who may ask it, and one
that refuses, or cannot be read, leaves its place to the next.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.cube.metadata import EmbedderIdentity
from memos_cli.errors import MemosError, NotFound, Usage
from memos_cli.infrastructure.catalogue import Catalogue
from memos_cli.infrastructure.vault import Vault
from memos_cli.interface import embedding, frame, reader
from memos_cli.interface.cataloguing import key_of, up_to_date
from memos_cli.interface.found import Found, VaultAsked, VaultCube
from memos_cli.interface.frame import Desk, Reading
from memos_cli.interface.querying import Asked, Bench, ask
from memos_cli.interface.reader import Call, Reads
from memos_cli.operation.recall import AUTO, LONGEST_QUESTION

if TYPE_CHECKING:
    from memos_cli.operation.picking import Pick

# Cubes that are opened for a question, and that are told of with --json and --explain.
OPENED, TOLD = 5, 20
MOST_OPENED = 50
# A cube whose score is so far below the best one's is not opened: of the questions that were tried it has the answer to
# one or two in a hundred, and opening all five takes twice as long (docs/explanation/retrieval.md).
FAR_BEHIND = 3.0
# Of fewer cubes the scale of the scores says too little for that.
MANY = 50


def query_vault(
    calls: Iterable[str | Call],
    *,
    most: int = OPENED,
    k: int = 5,
    mode: str = "hybrid",
    where: str | None = None,
    as_of: str | None = None,
    true_at: str | None = None,
    budget: int | None = None,
    context: int = 0,
    rerank: bool = False,
    time_scope: str = AUTO,
    reads: Reads | None = None,
    explain: bool = False,
    by_use: bool = False,
    embedder: str | None = None,
    model: str | None = None,
    to: str = frame.HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Iterator[Found]:
    """A result per prompt, from the `most` cubes of the home that promise most for it; see `query` for the rest.

    What a question finds is what `query` finds in those cubes together; `Found.vault` tells which they are and why.
    The catalogue is brought up to date once, before the first prompt. Raises NotFound when no cube has a name, or none
    may be asked.
    """
    if not 1 <= most <= MOST_OPENED:
        raise Usage(f"expected 1 to {MOST_OPENED} cubes to open, found {most}")
    desk = frame.desk(home, notify)
    counter = perf_counter()
    shelf = Shelf.of(desk, words_only=mode == "text" or embedder == "none")
    looking = perf_counter() - counter
    listen = reader.listener(reads)
    for given in calls:
        call = reader.read(given) if isinstance(given, str) else given
        asked = Asked.of(call, k=k, mode=mode, where=where, as_of=as_of, true_at=true_at, time_scope=time_scope)
        counter = perf_counter()
        ranking = shelf.rank(call.text)
        picking, looking = looking + perf_counter() - counter, 0.0
        with ExitStack() as stack:
            opened = open_best(stack, shelf, ranking, most=most, to=to)
            for each in opened.seen:
                each.query = call.text
                each.facts["vault"] = True
            bench = Bench.of(desk, opened.names, opened.seen, embedder=embedder, model=model if budget else None)
            found = ask(
                bench, opened.seen, call, asked, budget=budget, context=context, rerank=rerank, listen=listen,
                explain=explain, by_use=by_use,
            )  # fmt: skip
            yield replace(found, vault=_told(shelf, ranking, opened, picking))


@dataclass(frozen=True, slots=True)
class Shelf:
    """The catalogue as it is now, and what compares a question with it."""

    desk: Desk
    catalogue: Catalogue
    looked: int
    key: bytes
    encoders: dict[str, Any]
    words_only: bool
    told: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, desk: Desk, *, words_only: bool) -> Shelf:
        """The shelf of a home. Raises NotFound when there is no cube on it."""
        found, looked = up_to_date(desk)
        if not found.entries:
            raise NotFound(f"no cube has a name in {desk.home}", hint="memos ingest NAME SOURCE... makes one")
        recorded = set() if words_only else {each.embedder for each in found.entries} - {""}
        encoders = {name: encoder for name in sorted(recorded) if (encoder := _encoder(desk, name)) is not None}
        return cls(desk, found, looked, key_of(desk), encoders, words_only)

    def together(self, one: str, other: str) -> bool:
        """Whether cubes of these embedders can be ranked together: of the same, or by words where one has no vectors"""
        return one == other or (self.words_only and not (one and other))

    def rank(self, text: str) -> list[Pick]:
        """The cubes that may be asked, the most promising first."""
        from memos_cli.operation.picking import as_said, pick

        said = as_said(self.catalogue, text[:LONGEST_QUESTION], key=self.key)
        vectors = {name: encoder.embed([said])[0] for name, encoder in self.encoders.items()}
        return pick(self.catalogue, text, vectors=vectors, key=self.key)


def _encoder(desk: Desk, recorded: str) -> Any:
    """The embedder that an entry names; None where it cannot be had, and cubes are found by words."""
    encoder, why = embedding.for_query(desk, EmbedderIdentity(**json.loads(recorded)), spec=None, cube="of the vault")
    if why:
        desk.notify(f"cubes are picked by words only: {why}")
    return encoder


@dataclass(slots=True)
class Opened:
    """The cubes that a question is put to, and why others that promised as much were left out."""

    names: list[str] = field(default_factory=list)
    seen: list[Reading] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def lowest(ranking: Sequence[Pick]) -> float:
    """The score that a cube must have to be opened."""
    return ranking[0].score - FAR_BEHIND if len(ranking) >= MANY else -math.inf


def open_best(stack: ExitStack, shelf: Shelf, ranking: Sequence[Pick], *, most: int, to: str) -> Opened:
    """The best cubes that can be opened and ranked together; they are held until `stack` ends.

    Raises NotFound when there is none.
    """
    found, desk = Opened(), shelf.desk
    embedder, least = "", lowest(ranking)
    for one in ranking:
        entry = shelf.catalogue.entries[one.place]
        if len(found.seen) == most or (found.seen and one.score < least):
            break
        if found.seen and not shelf.together(entry.embedder, embedder):
            if len(found.left) < most:
                found.left[entry.name] = "its vectors are of another embedder than those of the best cube"
            continue
        try:
            seen = stack.enter_context(frame.reading(desk, Vault(desk.home).path(entry.name), "query", to=to))
            seen.open()
        except MemosError as error:
            found.left[entry.name] = error.message
            continue
        found.names.append(entry.name)
        found.seen.append(seen)
        embedder = embedder or entry.embedder
    for name in found.left.keys() - shelf.told:
        desk.notify(f"{name} is left out: {found.left[name]}")
        shelf.told.add(name)
    if not found.seen:
        raise NotFound("no cube of the vault may be asked", hint="memos list")
    return found


def _told(shelf: Shelf, ranking: Sequence[Pick], opened: Opened, seconds: float) -> VaultAsked:
    places = {shelf.catalogue.entries[one.place].name: one for one in ranking}
    shown = {name for rank, name in enumerate(places) if rank < TOLD} | {*opened.names, *opened.left}
    return VaultAsked(
        considered=len(ranking), looked_at=shelf.looked, seconds=round(seconds, 6),
        cubes=tuple(
            VaultCube(
                cube=name, rank=rank, score=round(one.score, 4), opened=name in opened.names,
                closeness=None if one.closeness is None else round(one.closeness, 4), words=one.words,
                left_out=opened.left.get(name, ""),
            )
            for rank, (name, one) in enumerate(places.items(), 1) if name in shown
        ),
    )  # fmt: skip
