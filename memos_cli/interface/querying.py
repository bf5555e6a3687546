"""The verb `query` of the Memory API: prompts in, memories with their places out. Makes no version."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from memos_cli.cube import filters
from memos_cli.errors import Usage, WrongModel
from memos_cli.interface import embedding, frame, reader
from memos_cli.interface.explaining import TOLD, candidates, prompt_read
from memos_cli.interface.found import Found, Hit, Neighbour
from memos_cli.interface.frame import Reading
from memos_cli.interface.opposing import edges_of, in_order, with_opposites
from memos_cli.interface.reader import Call, Reads
from memos_cli.interface.rows import place_of
from memos_cli.operation.reading import RULES
from memos_cli.operation.recall import AUTO, Recalled, Scoped, recall

if TYPE_CHECKING:
    from memos_cli.operation import recall as finding
    from memos_cli.runtime.embed import Embedder

prompts = reader.read_many


def query(
    cube: str | Path,
    text: str,
    *,
    also: Sequence[str | Path] = (),
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
) -> Found:
    """The `k` memories that answer `text` best, from a cube and those in `also`, ranked together.

    `as_of` finds what the cube held to be so then, `true_at` what was so then, as far as it is known now (or as of
    `as_of`). `budget` packs them into a context of so many tokens with citations, counted as `model` (`nano`, a folder
    or a hub id) does, else by the embedder's word pieces, else estimated; the result says which. A time that the prompt
    names raises memories of then; `time_scope` `only` leaves out all others, `off` passes over it. `reads` has a model
    read the prompt in the place of rules, `explain` tells the best candidates and why each ranks there; `by_use`
    ranks what helped answers before a little higher. What goes `to`
    another destination than `here`, such as a `file`, is only what may be shared and may go there. Raises Usage for an
    empty query or a filter that is not understood, NotFound, NotAllowed, WrongModel when two cubes' vectors are of
    different embedders.
    """
    (found,) = query_many(
        [cube, *also], [text], k=k, mode=mode, where=where, as_of=as_of, true_at=true_at, budget=budget,
        context=context, rerank=rerank, time_scope=time_scope, reads=reads, explain=explain, by_use=by_use,
        embedder=embedder, model=model, to=to, home=home, notify=notify,
    )  # fmt: skip
    return found


def query_many(
    cubes: Sequence[str | Path],
    calls: Iterable[str | Call],
    *,
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
    """A result per prompt, from cubes that stay open: the first pays for opening them, the others do not.

    Each prompt may set its own k, filter, time and mode. Each leaves a line in the trail of every cube.
    """
    desk = frame.desk(home, notify)
    names = check_cubes(desk, cubes)
    bench: Bench | None = None
    listen = reader.listener(reads)
    for given in calls:
        call = reader.read(given) if isinstance(given, str) else given
        asked = Asked.of(call, k=k, mode=mode, where=where, as_of=as_of, true_at=true_at, time_scope=time_scope)
        with ExitStack() as stack:
            seen = [stack.enter_context(frame.reading(desk, cube, "query", to=to)) for cube in cubes]
            if bench is None or not bench.holds(seen):
                bench = bench_of(desk, names, seen, embedder=embedder, model=model if budget else None)
            for each in seen:
                each.query = call.text
            with alone(desk):
                found = ask(
                    bench, seen, call, asked, budget=budget, context=context, rerank=rerank, listen=listen,
                    explain=explain, by_use=by_use,
                )  # fmt: skip
            yield found


def check_cubes(desk: frame.Desk, cubes: Sequence[str | Path]) -> list[str]:
    """The names of the cubes. Raises Usage when one is named twice."""
    names = [str(cube) for cube in cubes]
    if len({os.path.realpath(desk.path(cube)) for cube in cubes}) < len(names):
        raise Usage(f"expected each cube once, found {', '.join(names)}")
    return names


@dataclass(frozen=True, slots=True)
class Asked:
    """What a prompt asks for, its own settings before the command's."""

    k: int
    mode: str
    where: str
    as_of: datetime | None
    true_at: datetime | None = None
    time_scope: str = AUTO

    @classmethod
    def of(
        cls, call: Call, *, k: int, mode: str, where: str | None, as_of: str | None, true_at: str | None = None,
        time_scope: str = AUTO,
    ) -> Asked:  # fmt: skip
        moment, true = call.as_of or as_of, call.true_at or true_at
        condition = filters.to_sql(filters.parse(call.where or where or ""))
        known = _moment(moment) if moment else None
        scope = call.time_scope or time_scope
        return cls(call.k or k, call.mode or mode, condition, known, _during(true), scope)


def _moment(text: str) -> datetime:
    """What was valid "on a day" is what was valid when it ended; a time of day is meant to the letter."""
    start, end = filters.time_span(text)
    return start if ":" in text else end


def _during(text: str | None) -> datetime | None:
    """What was true "in a year" was true when it ended; of a year that is not over it is true now."""
    if not text:
        return None
    start, end = filters.time_span(text)
    now = datetime.now(UTC)
    return start if ":" in text else now if start <= now < end else end - timedelta(microseconds=1)


@dataclass(slots=True)
class Bench:
    """The open tables and the embedder that serve one prompt after another."""

    versions: list[str]
    tables: list[Scoped]
    embedder: Embedder | None
    missing: tuple[str, ...]
    counter: tuple[Callable[[str], int], str]

    @classmethod
    def of(
        cls, desk: frame.Desk, names: Sequence[str], seen: Sequence[Reading], *, embedder: str | None, model: str | None
    ) -> Bench:
        recorded = [each.memories.embedder for each in seen]
        with_vectors = [identity for identity in recorded if identity]
        for name, identity in zip(names, recorded, strict=True):
            if identity and identity != with_vectors[0]:
                raise WrongModel(
                    f"cube {names[recorded.index(with_vectors[0])]} has vectors of {with_vectors[0].label}, "
                    f"cube {name} of {identity.label}: they cannot be ranked together",
                    hint=f"memos reindex {name} --embedder {embedding.spec_of(with_vectors[0])}",
                )
        lacking = [name for name, identity in zip(names, recorded, strict=True) if not identity]
        first = with_vectors[0] if with_vectors and not lacking else None
        encoder, why = embedding.for_query(desk, first, spec=embedder, cube=(lacking or names)[0])
        versions = [each.version.digest for each in seen]
        for each in seen:
            each.tell_bound()
        tables = [
            Scoped(name, each.whole.table, each.shown, edges_of(each)) for name, each in zip(names, seen, strict=True)
        ]
        return cls(versions, tables, encoder, (why,) if why else (), _counter(model, encoder))

    def holds(self, seen: Sequence[Reading]) -> bool:
        """Whether the versions that are open are the ones to read, and what may be seen of them is the same."""
        shown = [each.shown for each in seen] == [table.only for table in self.tables]
        return shown and self.versions == [each.version.digest for each in seen]


def bench_of(
    desk: frame.Desk, names: Sequence[str], seen: Sequence[Reading], *, embedder: str | None, model: str | None
) -> Bench:
    """What serves prompts of these versions, taken from what the process keeps ready if it does."""

    def make() -> Bench:
        return Bench.of(desk, names, seen, embedder=embedder, model=model)

    return desk.warm.bench(names, seen, embedder=embedder, model=model, make=make) if desk.warm else make()


def alone(desk: frame.Desk) -> AbstractContextManager[object]:
    """While nobody else in this process recalls: the tables in memory are those of all its threads."""
    return desk.warm.recalling if desk.warm else nullcontext()


def ask(
    bench: Bench, seen: Sequence[Reading], call: Call, asked: Asked, *, budget: int | None, context: int, rerank: bool,
    listen: reader.Listener, explain: bool = False, by_use: bool = False,
) -> Found:  # fmt: skip
    start = perf_counter()
    heard, doubts = listen(call.text, asked.as_of or frame.now())
    reading = perf_counter() - start
    found = recall(
        bench.tables, text=call.text, limit=max(asked.k, TOLD) if explain else asked.k, mode=asked.mode,
        where=asked.where, as_of=asked.as_of, true_at=asked.true_at, embedder=bench.embedder, rerank=rerank,
        neighbours=context, heard=heard, time_scope=asked.time_scope, helped=_helped(seen) if by_use else None,
    )  # fmt: skip
    found = in_order(found, bench.tables, shown=asked.k)
    hits = tuple(_hit(rank, hit, seen, bench) for rank, hit in enumerate(found.hits[: asked.k], 1))
    if found.as_of is None and found.true_at is None:
        hits = with_opposites(hits, seen, bench.tables)
    for each, table in zip(seen, bench.tables, strict=True):
        own = [hit for hit in hits if hit.cube == table.name]
        each.touched += [hit.id for hit in own]
        # what the log keeps of a use: see infrastructure/uses.py
        each.facts |= {"ranks": [hit.rank for hit in own], "seconds": round(perf_counter() - start, 6)}
        if found.heard.read_by != RULES:
            each.facts["read_by"] = found.heard.read_by
    count, tokenizer = bench.counter
    untrusted = tuple(
        table.name for each, table in zip(seen, bench.tables, strict=True) if each.origin and not each.origin.trusted
    )
    packed = pack(hits, budget=budget, count_tokens=count, untrusted=untrusted) if budget else None
    return Found(
        query=call.text,
        id=call.id,
        prompt=prompt_read(found),
        cubes=tuple(table.name for table in bench.tables),
        mode=asked.mode,
        profile=found.profile,
        as_of=found.as_of,
        true_at=found.true_at,
        missing=(*_missing(bench, found), *doubts),
        untrusted=untrusted,
        hits=hits,
        considered=found.candidates,
        candidates=candidates(found, shown=asked.k) if explain else (),
        context=packed,
        context_tokens=count(packed) if packed is not None else None,
        tokenizer=tokenizer if packed is not None else None,
        seconds={
            **{name: round(value, 6) for name, value in found.seconds.items()},
            "parse": round(found.seconds["parse"] + reading, 6),
            "total": round(perf_counter() - start, 6),
        },
    )


def _helped(seen: Sequence[Reading]) -> dict[str, float]:
    """What memories were worth to answers, by the logs of these cubes."""
    from memos_cli.infrastructure import uses
    from memos_cli.operation.indicators import utility

    logs = [path for each in seen for path in uses.paths_of(each.root, home=each.desk.home, cube_id=each.cube.id)]
    return utility(uses.accesses(logs))


def _missing(bench: Bench, found: Recalled) -> tuple[str, ...]:
    """Signals that could not be used, with the reason; the reason known here is the more exact one."""
    rest = [f"{name}: {why}" for name, why in found.missing.items() if not (bench.missing and name == "meaning")]
    return (*bench.missing, *rest)


def _hit(rank: int, hit: finding.Hit, seen: Sequence[Reading], bench: Bench) -> Hit:
    row = hit.row
    version = next(
        each.version.number for each, table in zip(seen, bench.tables, strict=True) if table.name == hit.cube
    )
    return Hit(
        rank=rank, score=hit.score, id=hit.id, text=row["text"], cube=hit.cube, place=place_of(row),
        source=row["source"], line_start=row["line_start"], line_end=row["line_end"], page=row["page"],
        turn=row["turn"], section=row["section"], session=row["session"], speaker=row["speaker"], role=row["role"],
        time=row["time"], time_note=row["time_note"], kind=row["kind"], type=row["type"], topic=row["topic"],
        tags=tuple(row["tags"] or ()), ref=row["ref"], state=row["state"], version=version, signals=dict(hit.signals),
        also=hit.also,
        before=tuple(Neighbour(other["id"], place_of(other), other["speaker"], other["text"]) for other in hit.before),
        after=tuple(Neighbour(other["id"], place_of(other), other["speaker"], other["text"]) for other in hit.after),
    )  # fmt: skip


def _counter(model: str | None, embedder: Embedder | None) -> tuple[Callable[[str], int], str]:
    """Counts tokens, and says by what: the configured model's, the embedder's word pieces, or 4 characters a token."""
    if model is not None:
        from memos_cli.runtime.tokens import open_counter

        return open_counter(model), model
    if embedder is not None:
        return embedder.count_tokens, str(embedder.identity["name"])
    return (lambda text: (len(text) + 3) // 4), "estimate: 4 characters a token"


def pack(hits: Sequence[Hit], *, budget: int, count_tokens: Callable[[str], int], untrusted: Sequence[str] = ()) -> str:
    """As many hits as fit into `budget` tokens, best first, each under a citation `[n] place`; one that is of a cube
    among `untrusted` says so, to whoever reads it.

    A hit that does not fit is passed over for a shorter one. The first is cut rather than left out, so that a small
    budget still gives something.
    """
    parts: list[str] = []
    for hit in hits:
        doubt = " (untrusted)" if hit.cube in untrusted else ""
        part = f"[{hit.rank}] {hit.place}{_when(hit)}{doubt}\n{_spoken(hit)}"
        if count_tokens("\n\n".join([*parts, part])) <= budget:
            parts.append(part)
        elif not parts:
            parts.append(_cut(part, budget=budget, count_tokens=count_tokens))
    return "\n\n".join(parts)


def _cut(text: str, *, budget: int, count_tokens: Callable[[str], int]) -> str:
    """The longest start of `text`, by whole words, that fits."""
    words = text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = count_tokens(" ".join(words[:middle])) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    return " ".join(words[:low])


def _when(hit: Hit) -> str:
    return f" {hit.time.date().isoformat()}" if hit.time else ""


def _spoken(hit: Hit) -> str:
    return f"{hit.speaker}: {hit.text}" if hit.speaker else hit.text
