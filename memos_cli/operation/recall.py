"""Finding: a question and tables in, memories out, best first.

Word lists from Lance, cosines, and what the question says of speaker and date are fused on one scale, with weights
that fit what the tables hold (`profile.py`). Without an embedder the word lists and the cues carry on, and the result
says so. Several tables are one ranking. Knows nothing of cubes, versions or permission: what may be seen comes in as
`where`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253  this file computes

from memos_cli.cube import search
from memos_cli.errors import Usage
from memos_cli.operation import profile as profiles
from memos_cli.operation.cues import Cues, When, read_cues
from memos_cli.operation.fuse import Fused, Pool, fuse, reorder, standard
from memos_cli.operation.holding import Holding, Rows, Scope, around, as_of_condition, hold, scope
from memos_cli.operation.profile import Profile
from memos_cli.operation.rerank import late_interaction
from memos_cli.operation.words import WordList, word_lists

if TYPE_CHECKING:
    from memos_cli.runtime.embed import Embedder

MODES = ("hybrid", "vector", "text")
# Candidates that each list sends into the fusion. Word lists alone need more of them: there are fewer lists.
DEPTH, DEPTH_LEXICAL = 100, 150
RERANKED, MOST_RERANKED = 24, 60
LONGEST_QUESTION = 8_192


@dataclass(frozen=True, slots=True)
class Scoped:
    """A table to search and the name of the cube it belongs to."""

    name: str
    table: Any


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that was found.

    `signals` are the shares that add up to `score`; `row` has every column but the vectors and search texts; `also`
    are ids of memories with the same words that were left out; `before` and `after` are neighbours when asked for.
    """

    cube: str
    id: str
    score: float
    signals: Mapping[str, float]
    row: Mapping[str, Any]
    also: tuple[str, ...] = ()
    before: tuple[Mapping[str, Any], ...] = ()
    after: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Recalled:
    """The hits, how they were weighed, which signals were missing and why, and seconds by stage."""

    hits: tuple[Hit, ...]
    profile: str
    missing: Mapping[str, str]
    candidates: int
    seconds: Mapping[str, float] = field(default_factory=dict)


def recall(
    tables: Sequence[Scoped],
    *,
    text: str,
    limit: int = 10,
    mode: str = "hybrid",
    where: str = "",
    as_of: datetime | None = None,
    embedder: Embedder | None = None,
    rerank: bool = False,
    neighbours: int = 0,
    now: datetime | None = None,
) -> Recalled:
    """The `limit` memories that answer `text` best.

    `where` is an SQL condition from `cube.filters`; `as_of` recalls what was valid then; `neighbours` adds that many
    memories before and after each hit. Raises Usage for an empty question or an unknown mode.
    """
    if not text.strip():
        raise Usage("expected words to look for, found none", hint="memos query CUBE 'what is the commit point?'")
    if mode not in MODES:
        raise Usage(f"expected a mode of {', '.join(MODES)}, found {mode!r}")
    moment = as_of or now or datetime.now(UTC)
    clock = _Clock()
    live = as_of_condition(as_of) if as_of else ""
    scopes = [scope(hold(each.table), live=live, where=where, now=moment) for each in tables]
    clock.lap("read")
    question = _question(scopes, text[:LONGEST_QUESTION], moment=moment, mode=mode, embedder=embedder, rerank=rerank)
    clock.lap("embed")
    fused, finds = _search(scopes, question, clock=clock)
    if question.reranks and embedder and len(fused):
        fused = _reranked(fused, finds, question, embedder=embedder, limit=limit)
        clock.lap("rerank")
    hits = _hits(fused, finds, names=[each.name for each in tables], limit=limit, neighbours=neighbours)
    clock.lap("take")
    return Recalled(tuple(hits), question.profile.name, question.missing, len(fused), clock.seconds)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True, slots=True)
class _Question:
    """The question as it is searched for."""

    cues: Cues
    profile: Profile
    words: Mapping[str, float]
    meaning: Mapping[str, float]
    vector: np.ndarray | None
    missing: Mapping[str, str]
    reranks: bool

    @property
    def scaled(self) -> dict[str, float]:
        """Weights of the signals that are put on a common scale."""
        length = {"length": self.profile.priors["length"]} if "length" in self.profile.priors else {}
        return {**self.words, **self.meaning, **length}

    @property
    def priors(self) -> dict[str, float]:
        return {name: weight for name, weight in self.profile.priors.items() if name != "length"}


def _question(
    scopes: Sequence[Scope], text: str, *, moment: datetime, mode: str, embedder: Embedder | None, rerank: bool
) -> _Question:
    stats = profiles.add([each.stats for each in scopes])
    chosen = profiles.choose(stats)
    cues = read_cues(text, participants=stats.participants(), now=moment.date())
    missing = _missing(scopes, mode=mode, embedder=embedder, rerank=rerank)
    dense = mode != "text" and "meaning" not in missing
    words = chosen.words if mode != "vector" or not dense else {}
    has = frozenset.intersection(*(each.holding.has for each in scopes)) if scopes else frozenset()
    meaning = {name: weight for name, weight in chosen.meaning.items() if dense and (name == "around" or name in has)}
    vector = embedder.embed([cues.meaning])[0] if dense and embedder else None
    return _Question(cues, chosen, words, meaning, vector, missing, rerank and dense)


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


@dataclass(frozen=True, slots=True)
class _Found:
    """One table's rows that take part: their arrays, and which of them may be hits."""

    scope: Scope
    rows: Rows
    pool: Pool


def _search(scopes: Sequence[Scope], question: _Question, *, clock: _Clock) -> tuple[Fused, list[_Found]]:
    lists = {
        column: word_lists(scopes, question.cues.words, column=column, where=_role_filter(question.profile, column))
        for column in question.words
    }
    clock.lap("words")
    found = [_find(each, {column: lists[column][i] for column in lists}, question) for i, each in enumerate(scopes)]
    clock.lap("meaning")
    depth = DEPTH if question.meaning else DEPTH_LEXICAL
    pools = [each.pool for each in found]
    fused = fuse(pools, scaled=question.scaled, priors=question.priors, depth=depth, sparse=question.words)
    clock.lap("fuse")
    return fused, found


def _role_filter(profile: Profile, column: str) -> str:
    """An assistant's pages match every question; its user's own words are searched instead."""
    return "role = 'user'" if profile.name == "assistant" and column == "text" else ""


def _find(each: Scope, lists: Mapping[str, WordList], question: _Question) -> _Found:
    """The signals of one table's rows."""
    if each.holding.held:
        rows, mask = each.holding.rows, each.mask
        cosines = _held_cosines(each.holding, question)
        named = {name: mask for name in cosines if name in each.holding.has}
    else:
        rows, mask, cosines, named = _fetched(each, lists, question)
    signals, listed = dict(cosines), dict(named)
    for column, words in lists.items():
        signals[column] = np.full(len(rows), words.floor)
        places = rows.find(words.rowids)
        signals[column][places] = words.scores
        listed[column] = np.zeros(len(rows), bool)
        listed[column][places] = True
        listed[column] &= mask
    signals |= _priors(rows, question)
    return _Found(each, rows, Pool(signals, listed))


def _held_cosines(holding: Holding, question: _Question) -> dict[str, np.ndarray]:
    """Exact cosines of every row of a held table."""
    if question.vector is None:
        return {}
    cosines = {}
    for name in question.meaning:
        if name != "around":
            cosines[name] = holding.matrix(name) @ question.vector
    if "around" in question.meaning:
        own = cosines["vector"] if "vector" in cosines else holding.matrix("vector") @ question.vector
        cosines["around"] = holding.around(own)
    return cosines


def _fetched(
    each: Scope, lists: Mapping[str, WordList], question: _Question
) -> tuple[Rows, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rows of a large table that some list names, which of them are hits, their exact cosines, and the lists."""
    holding, named = each.holding, {}
    if question.vector is not None:
        for name in question.meaning:
            if name in holding.has:
                near = search.vector_list(holding.table, question.vector, column=name, limit=DEPTH, where=each.where)
                named[name] = near["_rowid"].to_numpy().astype(np.int64)
    hits = np.unique(np.concatenate([*named.values(), *(words.rowids for words in lists.values())]))
    beside = np.unique(np.concatenate([hits - 1, hits, hits + 1])) if "around" in question.meaning else hits
    rows = holding.some(beside[beside >= 0])
    mask = np.isin(rows.rowid, hits)
    cosines: dict[str, np.ndarray] = {}
    for name in question.meaning if question.vector is not None else ():
        if name != "around":
            cosines[name] = holding.vectors(rows, name) @ question.vector
    if "around" in question.meaning:
        vectors = holding.vectors(rows, "vector")
        cosines["around"] = around(rows, vectors, vectors @ question.vector)
    return rows, mask, cosines, {name: np.isin(rows.rowid, rowids) & mask for name, rowids in named.items()}


def _priors(rows: Rows, question: _Question) -> dict[str, np.ndarray]:
    """What is known of each row before its words are looked at."""
    cues, size = question.cues, len(rows)
    speaker = np.zeros(size)
    if cues.speaker and cues.speaker in rows.speakers:
        speaker = (rows.speaker == rows.speakers.index(cues.speaker)).astype(np.float64)
    user = np.isin(rows.role, [i for i, role in enumerate(rows.roles) if role == "user"])
    return {
        "speaker": speaker,
        "date": date_signal(rows.day, rows.event_day, cues.when),
        "length": np.log1p(np.nan_to_num(rows.words)),
        "asks": (rows.asks & rows.is_turn).astype(np.float64),
        "user": user.astype(np.float64),
    }


def date_signal(days: np.ndarray, event_days: np.ndarray, when: When | None) -> np.ndarray:
    """1 for rows of the days that the question names, or that tell of them; less the further after, and before."""
    signal = np.zeros(len(days))
    if when is None:
        return signal
    known = ~np.isnat(days)
    years = np.unique(days[known].astype("datetime64[Y]").astype(int) + 1970).tolist()
    for first, last in when.days(years):
        start, end = np.datetime64(first, "D"), np.datetime64(last, "D")
        late = np.where(known, (days - end).astype(np.float64), 1e9)
        early = np.where(known, (start - days).astype(np.float64), 1e9)
        after, before = np.exp(-np.maximum(late, 0) / 10), 0.5 * np.exp(-np.maximum(early, 0) / 5)
        signal = np.maximum(signal, np.where(late > 0, after, np.where(early > 0, before, 1.0)))
        told = (event_days >= start) & (event_days <= end)
        signal = np.maximum(signal, told.astype(np.float64))
    return signal


def _reranked(fused: Fused, found: Sequence[_Found], question: _Question, *, embedder: Embedder, limit: int) -> Fused:
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


def _spoken(fused: Fused, found: Sequence[_Found], *, count: int) -> tuple[list[str], list[list[str]]]:
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


def _texts(each: _Found, places: Sequence[int]) -> dict[int, str]:
    rows = search.take(
        each.scope.holding.table, each.rows.rowid[list(places)].tolist(), ["text", "kind", "speaker", "section"]
    )
    said = {row["_rowid"]: _said(row) for row in rows.to_pylist()}
    return {place: said[int(each.rows.rowid[place])] for place in places}


def _said(row: Mapping[str, Any]) -> str:
    head = row["speaker"] if row["kind"] == "turn" else row["section"]
    return f"{head}: {row['text']}" if head else str(row["text"])


def _hits(fused: Fused, found: Sequence[_Found], *, names: Sequence[str], limit: int, neighbours: int) -> list[Hit]:
    """The first `limit` different memories as hits."""
    hits: list[Hit] = []
    copies: dict[tuple[Any, ...], list[str]] = {}
    at = 0
    while at < len(fused) and len(hits) < limit:
        step = min(len(fused) - at, max(limit - len(hits), 8))
        for i, row in enumerate(_whole_rows(fused, found, at, step), at):
            key = _sameness(row)
            if key in copies:
                copies[key].append(row["id"])
            elif len(hits) < limit:
                copies[key] = []
                shares = {name: round(float(values[i]), 4) for name, values in fused.shares.items() if values[i]}
                hits.append(Hit(names[fused.pool[i]], row["id"], round(float(fused.score[i]), 4), shares, row))
        at += step
    from dataclasses import replace

    hits = [replace(hit, also=tuple(copies[_sameness(hit.row)])) for hit in hits]
    return [_beside(hit, found, names=names, reach=neighbours) for hit in hits] if neighbours else hits


def _whole_rows(fused: Fused, found: Sequence[_Found], at: int, count: int) -> list[dict[str, Any]]:
    """Every column but vectors and search texts of the candidates from `at` on."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for number, each in enumerate(found):
        mine = [i for i in range(count) if fused.pool[at + i] == number]
        if not mine:
            continue
        rowids = [int(each.rows.rowid[fused.place[at + i]]) for i in mine]
        taken = search.take(each.scope.holding.table, rowids, _told(each.scope.holding.table))
        known = {row.pop("_rowid"): row for row in taken.to_pylist()}
        for i, rowid in zip(mine, rowids, strict=True):
            rows[i] = known[rowid]
    return rows


def _told(table: Any) -> list[str]:
    hidden = {*search.VECTOR_COLUMNS, "near", "wide"}
    return [name for name in table.schema.names if name not in hidden]


def _sameness(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for memories that say the same: same words, and for turns the same speaker at the same time."""
    words = " ".join(row["text"].casefold().split())
    return (words, row["speaker"], row["role"], row["time"]) if row["kind"] == "turn" else (words,)


def _beside(hit: Hit, found: Sequence[_Found], *, names: Sequence[str], reach: int) -> Hit:
    """The hit with up to `reach` live memories before and after it in its source and session."""
    from dataclasses import replace

    from memos_cli.cube.filters import quote

    each = found[list(names).index(hit.cube)]
    position = int(hit.row["position"])
    condition = (
        f"source = {quote(hit.row['source'])} and session = {quote(hit.row['session'])} "
        f"and position between {position - reach} and {position + reach} and id != {quote(hit.id)}"
    )
    if each.scope.where:
        condition = f"({condition}) and ({each.scope.where})"
    table = each.scope.holding.table
    rows = search.scan(table, _told(table), where=condition).to_pylist()
    rows = sorted(({k: v for k, v in row.items() if k != "_rowid"} for row in rows), key=lambda row: row["position"])
    before = tuple(row for row in rows if row["position"] < position)
    return replace(hit, before=before, after=tuple(row for row in rows if row["position"] > position))
