"""Finding: a question and tables in, memories out, best first.

Word lists from Lance, cosines, and what the question says of speaker and date are fused on one scale, with weights
that fit what the tables hold (`profile.py`). Without an embedder the word lists and the cues carry on, and the result
says so. Several tables are one ranking. Knows nothing of cubes, versions or permission: what may be seen comes in as
`where`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253  this file computes

from memos_cli.cube import search
from memos_cli.cube.filters import quote
from memos_cli.errors import Usage
from memos_cli.operation import profile as profiles
from memos_cli.operation.cues import read_cues
from memos_cli.operation.fuse import Fused, fuse, reorder, standard
from memos_cli.operation.hits import Hit, take_hits
from memos_cli.operation.holding import Scope, as_of_condition, hold, lasting_at, scope
from memos_cli.operation.periods import added_between, told_between
from memos_cli.operation.reading import Heard, complete, hear
from memos_cli.operation.rerank import late_interaction
from memos_cli.operation.signals import DEPTH, DEPTH_LEXICAL, Found, Question, ask_nearest, ask_words, gather
from memos_cli.operation.ties import Edges, raised
from memos_cli.operation.words import WordList

if TYPE_CHECKING:
    from memos_cli.runtime.embed import Embedder

__all__ = ["Hit", "Recalled", "Scoped", "recall"]

MODES = ("hybrid", "vector", "text")
AUTO, ONLY, OFF = "auto", "only", "off"
TIME_SCOPES = (AUTO, ONLY, OFF)
RAISED, FILTER, NOTHING = "raised", "filter", "nothing"
# A date without a year is one of so many years, where it is a filter.
YEARS_BACK = 20
# Of memories that helped answers so many are looked up, those that say most.
MOST_HELPED = 500
RERANKED, MOST_RERANKED = 24, 60
LONGEST_QUESTION = 8_192


@dataclass(frozen=True, slots=True)
class Scoped:
    """A table to search, the name of its cube, what of it may be seen, as SQL ("" for all), and its links."""

    name: str
    table: Any
    only: str = ""
    edges: Edges | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """The hits, how they were weighed, which signals were missing and why, and seconds by stage.

    `heard` is the question as it was understood, `time` what became of the time that it names: it `raised` memories of
    then, was a `filter`, or `nothing`. `as_of` and `true_at` are the moments that were asked for,
    if not now.
    """

    hits: tuple[Hit, ...]
    profile: str
    missing: Mapping[str, str]
    candidates: int
    heard: Heard
    as_of: datetime | None = None
    time: str = NOTHING
    true_at: datetime | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def recall(
    tables: Sequence[Scoped],
    *,
    text: str,
    limit: int = 10,
    mode: str = "hybrid",
    where: str = "",
    as_of: datetime | None = None,
    true_at: datetime | None = None,
    embedder: Embedder | None = None,
    rerank: bool = False,
    neighbours: int = 0,
    now: datetime | None = None,
    heard: Heard | None = None,
    time_scope: str = AUTO,
    helped: Mapping[str, float] | None = None,
) -> Recalled:
    """The `limit` memories that answer `text` best.

    `where` is an SQL condition from `cube.filters`; `as_of` recalls what was known then, `true_at` what was true then
    as far as is known; `neighbours` adds that many memories before and after each hit. `heard` is the question as
    somebody else read it. A time that it names raises memories of then, and is a filter where it says when something
    was known, true or put into memory; `time_scope` `only` makes it a filter always, `off` passes over it. `helped`
    says what memories are worth to answers, from -1 to 1. Raises Usage for an empty question or an unknown mode.
    """
    if not text.strip():
        raise Usage("expected words to look for, found none", hint="memos query CUBE 'what is the commit point?'")
    if mode not in MODES:
        raise Usage(f"expected a mode of {', '.join(MODES)}, found {mode!r}")
    if time_scope not in TIME_SCOPES:
        raise Usage(f"expected a time scope of {', '.join(TIME_SCOPES)}, found {time_scope!r}")
    clock = _Clock()
    text, today = text[:LONGEST_QUESTION], now or datetime.now(UTC)
    heard = heard or hear(text, now=as_of or today)
    timed = _timed(heard, time_scope, as_of=as_of, true_at=true_at, where=where, today=today)
    as_of, moment = timed.as_of, timed.as_of or today
    clock.lap("parse")
    scopes = [
        scope(
            hold(each.table), live=_live(each.table, as_of, timed.true_at, today), where=timed.where, now=moment,
            only=each.only,
        )
        for each in tables
    ]  # fmt: skip
    clock.lap("read")
    question, heard = _question(scopes, text, heard, time_scope, mode=mode, embedder=embedder, rerank=rerank)
    question = replace(question, within=timed.where != where, helped=_helped(scopes, helped or {}))
    clock.lap("embed")
    fused, finds = _search(scopes, question, clock=clock)
    fused = raised(fused, finds, [each.edges for each in tables])
    if question.reranks and embedder and len(fused):
        fused = _reranked(fused, finds, question, embedder=embedder, limit=limit)
        clock.lap("rerank")
    hits = take_hits(
        fused, finds, names=[each.name for each in tables], limit=limit, neighbours=neighbours, late=question.late
    )
    clock.lap("take")
    return Recalled(
        tuple(hits), question.profile.name, question.missing, len(fused), heard, as_of, timed.effect, timed.true_at,
        clock.seconds,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Timed:
    """The moments that are asked for, the condition, and what the time that a question names became."""

    as_of: datetime | None
    true_at: datetime | None
    where: str
    effect: str


def _timed(
    heard: Heard, time_scope: str, *, as_of: datetime | None, true_at: datetime | None, where: str, today: datetime
) -> _Timed:
    """What was asked for goes before what the words say."""
    if heard.when is None or time_scope == OFF:
        return _Timed(as_of, true_at, where, NOTHING)
    known, true = heard.as_of(today), heard.true_at(today)
    if (known or true) and as_of is None and true_at is None:
        return _Timed(known, true, where, FILTER)
    within = heard.added is not None or time_scope == ONLY
    if not within:
        return _Timed(as_of, true_at, where, RAISED)
    spans = heard.when.days(range(today.year - YEARS_BACK, today.year + 1))
    condition = added_between(spans) if heard.added else told_between(spans)
    return _Timed(as_of, true_at, f"({where}) and ({condition})" if where else condition, FILTER)


def _helped(scopes: Sequence[Scope], helped: Mapping[str, float]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The row ids of what is worth something, in their order, by table."""
    known = sorted(helped, key=lambda one: -abs(helped[one]))[:MOST_HELPED]
    if not known:
        return {}
    named = f"id in ({', '.join(map(quote, known))})"
    found = {}
    for each in scopes:
        rows = search.scan(each.holding.table, ["id"], where=named).sort_by("_rowid")
        worth = np.array([helped[one] for one in rows["id"].to_pylist()])
        found[id(each.holding)] = (rows["_rowid"].to_numpy().astype(np.int64), worth)
    return found


def _live(table: Any, as_of: datetime | None, true_at: datetime | None, now: datetime) -> str:
    """What was known or true at a past time and is not over by now, as SQL; "" for what is recalled now."""
    names = table.schema.names if true_at else ()
    if as_of is None and true_at is None:
        return ""
    # Imported here: the patterns that it reads times with take long to make.
    from memos_cli.operation import truth

    known = as_of_condition(as_of) if as_of else truth.known_and_true(true_at, names) if true_at else ""
    true = truth.was_true(true_at, names) if as_of and true_at else ""
    return " and ".join(f"({part})" for part in (known, true, lasting_at(now)) if part)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _question(
    scopes: Sequence[Scope], text: str, heard: Heard, time_scope: str, *, mode: str,
    embedder: Embedder | None, rerank: bool,
) -> tuple[Question, Heard]:  # fmt: skip
    stats = profiles.add([each.stats for each in scopes])
    chosen = profiles.choose(stats)
    participants = stats.participants()
    cues = read_cues(text, participants=participants, when=heard.when)
    topics = frozenset().union(*(each.holding.topics for each in scopes))
    heard = complete(heard, cues, participants=participants, topics=topics)
    if time_scope == OFF:
        cues = replace(cues, when=None)
    missing = _missing(scopes, mode=mode, embedder=embedder, rerank=rerank)
    dense = mode != "text" and "meaning" not in missing
    words = {**chosen.words, **chosen.alone} if not dense else {} if mode == "vector" else chosen.words
    has = frozenset.intersection(*(each.holding.has for each in scopes)) if scopes else frozenset()
    meaning = {name: weight for name, weight in chosen.meaning.items() if dense and (name == "around" or name in has)}
    vector = embedder.embed([cues.meaning])[0] if dense and embedder else None
    return Question(cues, chosen, words, meaning, vector, missing, rerank and dense, heard.topic), heard


def _missing(scopes: Sequence[Scope], *, mode: str, embedder: Embedder | None, rerank: bool) -> dict[str, str]:
    """Signals that were asked for and cannot be had, with the reason."""
    missing = {}
    if mode != "text":
        if embedder is None:
            missing["meaning"] = "no embedder: found by words only"
        elif not all("vector" in each.holding.has for each in scopes):
            missing["meaning"] = "a table has no vectors: found by words only; memos reindex makes them"
    if rerank and (missing or mode == "text"):
        missing["rerank"] = "late interaction needs an embedder and vectors"
    if not all("near" in each.holding.indexed or not each.holding.count for each in scopes):
        missing["words"] = "a table has no text index; memos reindex makes one"
    return missing


def _search(scopes: Sequence[Scope], question: Question, *, clock: _Clock) -> tuple[Fused, list[Found]]:
    lists, nearest = _lists(scopes, question)
    clock.lap("words")
    found = [
        gather(each, {column: lists[column][i] for column in lists}, nearest[i], question)
        for i, each in enumerate(scopes)
    ]
    clock.lap("meaning")
    depth = DEPTH if question.meaning else DEPTH_LEXICAL
    pools = [each.pool for each in found]
    fused = fuse(pools, scaled=question.scaled, priors=question.priors, depth=depth, sparse=question.words)
    if question.profile.repeat:
        fused = _spread(fused, found, penalty=question.profile.repeat)
    clock.lap("fuse")
    return fused, found


def _lists(
    scopes: Sequence[Scope], question: Question
) -> tuple[dict[str, list[WordList]], list[dict[str, np.ndarray]]]:
    """The word lists by column, and the nearest rows of each large table, looked for at the same time."""

    def ask() -> list[dict[str, np.ndarray]]:
        return [ask_nearest(each, question) for each in scopes]

    def words() -> dict[str, list[WordList]]:
        return {name: ask_words(scopes, question.cues.words, name=name) for name in question.words}

    if question.vector is None or all(each.holding.held for each in scopes):
        return words(), ask()
    with ThreadPoolExecutor(1) as beside:
        nearest = beside.submit(ask)
        return words(), nearest.result()


def _spread(fused: Fused, found: Sequence[Found], *, penalty: float) -> Fused:
    """The candidates in an order in which each loses `penalty` for every better one of its session.

    Long chats answer one question in many turns; what another session says of it would never be seen.
    """
    better: Counter[tuple[int, int, int]] = Counter()
    repeated = np.zeros(len(fused))
    for i, (pool, place) in enumerate(zip(fused.pool.tolist(), fused.place.tolist(), strict=True)):
        rows = found[pool].rows
        session = (pool, int(rows.source[place]), int(rows.session[place]))
        repeated[i] = -penalty * better[session]
        better[session] += 1
    spread = Fused(fused.pool, fused.place, fused.score + repeated, {**fused.shares, "repeat": repeated})
    return reorder(spread, np.argsort(-spread.score, kind="stable"))


def _reranked(fused: Fused, found: Sequence[Found], question: Question, *, embedder: Embedder, limit: int) -> Fused:
    """The best candidates in the order that late interaction adds to."""
    count = min(len(fused), max(RERANKED, min(2 * limit, MOST_RERANKED)))
    texts, beside = _spoken(fused, found, count=count)
    closeness = question.profile.rerank * standard(
        late_interaction(question.cues.meaning, texts, beside, embedder=embedder)
    )
    shares = {**fused.shares, "rerank": np.concatenate([closeness, np.zeros(len(fused) - count)])}
    score = fused.score + shares["rerank"]
    order = np.concatenate([np.argsort(-score[:count], kind="stable"), np.arange(count, len(fused))])
    return reorder(Fused(fused.pool, fused.place, score, shares), order)


def _spoken(fused: Fused, found: Sequence[Found], *, count: int) -> tuple[list[str], list[list[str]]]:
    """The text of the first candidates, a turn with its speaker, and the turns beside each."""
    texts: list[str] = [""] * count
    beside: list[list[str]] = [[] for _ in range(count)]
    for number, each in enumerate(found):
        mine = np.flatnonzero(fused.pool[:count] == number)
        if not len(mine):
            continue
        before, after = each.rows.around
        places = fused.place[mine]
        sides = [[int(p) for p in (before[place], after[place]) if p >= 0] for place in places]
        wanted = sorted({int(place) for place in places} | {place for side in sides for place in side})
        said = _texts(each, wanted)
        for i, place, side in zip(mine.tolist(), places.tolist(), sides, strict=True):
            texts[i], beside[i] = said[place], [said[other] for other in side]
    return texts, beside


def _texts(each: Found, places: Sequence[int]) -> dict[int, str]:
    rowids = each.rows.rowid[list(places)].tolist()
    rows = each.scope.holding.take(rowids, ["text", "kind", "speaker", "section"])
    said = {row["_rowid"]: _said(row) for row in rows.to_pylist()}
    return {place: said[int(each.rows.rowid[place])] for place in places}


def _said(row: Mapping[str, Any]) -> str:
    head = row["speaker"] if row["kind"] == "turn" else row["section"]
    return f"{head}: {row['text']}" if head else str(row["text"])
