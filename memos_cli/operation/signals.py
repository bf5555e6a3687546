"""What each table offers a question: word lists, cosines, and what is known of each row.

Every signal is an array over the rows that take part: all rows of a table that is held in memory, or those that some
list of a larger table names, with the turns beside them. Knows nothing of how signals are weighed against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np  # noqa: TID253  this file computes

from memos_cli.cube import search
from memos_cli.operation.cues import Cues
from memos_cli.operation.fuse import Pool
from memos_cli.operation.holding import BESIDE, Holding, Rows, Scope, around
from memos_cli.operation.profile import Profile
from memos_cli.operation.times import When
from memos_cli.operation.utility import WEIGHT
from memos_cli.operation.words import WordList, word_lists

# Candidates that each list sends into the fusion. Word lists alone need more of them: there are fewer lists.
DEPTH, DEPTH_LEXICAL = 100, 150
# What a bonus is taken from.
_READ = {"length": ("words",), "asks": ("text", "kind"), "user": ("role",)}


@dataclass(frozen=True, slots=True)
class Question:
    """The question as it is searched for; `within` a time, so that whatever is of then may be meant.

    `helped` are row ids in order and what each is worth to answers, by the `id()` of the table's holding.
    """

    cues: Cues
    profile: Profile
    words: Mapping[str, float]
    meaning: Mapping[str, float]
    vector: np.ndarray | None
    missing: Mapping[str, str]
    reranks: bool
    topic: str = ""
    within: bool = False
    helped: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def scaled(self) -> dict[str, float]:
        """Weights of the signals that are put on a common scale."""
        length = {"length": self.profile.priors["length"]} if "length" in self.profile.priors else {}
        return {**self.words, **self.meaning, **length}

    @property
    def priors(self) -> dict[str, float]:
        use = {"use": WEIGHT} if self.helped else {}
        return {**{name: weight for name, weight in self.profile.priors.items() if name != "length"}, **use}

    @property
    def columns(self) -> frozenset[str]:
        """What has to be known of a candidate, for the signals that this question has."""
        named = {"speaker"} if self.cues.speaker else set()
        dated = {"time", "event_time", "valid_from"} if self.cues.when else set()
        under = {"topic"} if self.topic else set()
        beside = set(BESIDE) if self.reranks or "around" in self.meaning else set()
        spread = {"source", "session"} if self.profile.repeat else set()
        bonus = {
            name for prior in self.profile.priors if prior != "asks" or not self.late for name in _READ.get(prior, ())
        }
        return frozenset().union(named, dated, under, beside, spread, bonus)

    @property
    def late(self) -> float:
        """What a question mark costs where it is looked for in the best candidates only; 0 where in all."""
        return 0.0 if self.reranks else min(0.0, self.profile.priors.get("asks", 0.0))


@dataclass(frozen=True, slots=True)
class Found:
    """One table's rows that take part: their arrays, and which of them may be hits."""

    scope: Scope
    rows: Rows
    pool: Pool


def ask_words(scopes: Sequence[Scope], words: str, *, name: str) -> list[WordList]:
    """An assistant's pages match every question, so `asked` looks at its user's words only."""
    column, where = ("text", "role = 'user'") if name == "asked" else (name, "")
    return word_lists(scopes, words, column=column, where=where)


def ask_nearest(each: Scope, question: Question) -> dict[str, np.ndarray]:
    """Row ids of a large table's nearest rows, by vector column. None of a held table, whose cosines are all taken."""
    if each.holding.held or question.vector is None:
        return {}
    table, where = each.holding.table, each.prefilter
    lists = {
        name: search.vector_list(table, question.vector, column=name, limit=DEPTH, where=where)
        for name in question.meaning
        if name in each.holding.has
    }
    return {name: found["_rowid"].to_numpy().astype(np.int64) for name, found in lists.items()}


def gather(each: Scope, lists: Mapping[str, WordList], nearest: Mapping[str, np.ndarray], question: Question) -> Found:
    """The signals of one table's rows."""
    if each.holding.held:
        rows, mask = each.holding.rows, each.mask
        cosines = _held_cosines(each.holding, question)
        named = {name: mask for name in cosines if name in each.holding.has}
    else:
        rows, mask, cosines, named = _fetched(each.holding, lists, nearest, question, where=each.prefilter)
    signals, listed = dict(cosines), dict(named)
    for column, words in lists.items():
        signals[column] = np.full(len(rows), words.floor)
        places = rows.find(words.rowids)
        signals[column][places] = words.scores
        listed[column] = np.zeros(len(rows), bool)
        listed[column][places] = True
        listed[column] &= mask
    signals |= _priors(rows, question)
    if question.helped:
        signals["use"] = _worth(rows, *question.helped.get(id(each.holding), (_NO_ROWS, _NO_WORTH)))
    if question.within:
        listed["date"] = mask
    return Found(each, rows, Pool(signals, listed))


def _held_cosines(holding: Holding, question: Question) -> dict[str, np.ndarray]:
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
    holding: Holding,
    lists: Mapping[str, WordList],
    nearest: Mapping[str, np.ndarray],
    question: Question,
    *,
    where: str,
) -> tuple[Rows, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Rows of a large table that some list names, which of them are hits, their exact cosines, and the lists."""
    listed = [*nearest.values(), *(words.rowids for words in lists.values())]
    if question.within:
        first = search.scan(holding.table, ["id"], where=where, limit=DEPTH)
        listed.append(first["_rowid"].to_numpy().astype(np.int64))
    hits = np.unique(np.concatenate(listed))
    beside = np.unique(np.concatenate([hits - 1, hits, hits + 1])) if "around" in question.meaning else hits
    wanted = {*nearest, "vector"} if question.vector is not None else set()
    rows, vectors = holding.some(beside[beside >= 0], question.columns, vectors=wanted)
    mask = np.isin(rows.rowid, hits)
    cosines: dict[str, np.ndarray] = {}
    if question.vector is not None:
        cosines = {name: vectors[name] @ question.vector for name in question.meaning if name != "around"}
        if "around" in question.meaning:
            cosines["around"] = around(rows, vectors["vector"], vectors["vector"] @ question.vector)
    return rows, mask, cosines, {name: np.isin(rows.rowid, rowids) & mask for name, rowids in nearest.items()}


def _priors(rows: Rows, question: Question) -> dict[str, np.ndarray]:
    """What is known of each row before its words are looked at."""
    cues, size = question.cues, len(rows)
    speaker = np.zeros(size)
    if cues.speaker and cues.speaker in rows.speakers:
        speaker = (rows.speaker == rows.speakers.index(cues.speaker)).astype(np.float64)
    user = np.isin(rows.role, [i for i, role in enumerate(rows.roles) if role == "user"])
    under = [place for place, topic in enumerate(rows.topics) if question.topic and _is_under(topic, question.topic)]
    return {
        "speaker": speaker,
        "topic": np.isin(rows.topic, under).astype(np.float64),
        "date": date_signal(rows.day, rows.event_day, cues.when),
        "length": np.log1p(np.nan_to_num(rows.words)),
        "asks": (rows.asks & rows.is_turn).astype(np.float64),
        "user": user.astype(np.float64),
    }


_NO_ROWS, _NO_WORTH = np.empty(0, np.int64), np.empty(0)


def _worth(rows: Rows, rowids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What each row was worth to answers; 0 for those of which nothing is known."""
    found = np.zeros(len(rows))
    here = np.isin(rowids, rows.rowid)
    found[rows.find(rowids[here])] = values[here]
    return found


def _inside(late: np.ndarray, early: np.ndarray, first: date, last: date) -> np.ndarray | float:
    """What lies between two days is meant as much as the rest; of `since May`, what lies near May more."""
    if first > date.min and last < date.max:
        return 1.0
    far = -late if first == date.min else -early
    fading: np.ndarray = 0.75 + 0.25 * np.exp(-np.maximum(far, 0) / 30)
    return fading


def _is_under(topic: str, path: str) -> bool:
    return topic == path or topic.startswith(f"{path}/")


def date_signal(days: np.ndarray, event_days: np.ndarray, when: When | None) -> np.ndarray:
    """1 for rows of the days that the question names, or that tell of them; less the further after, and before.

    Of a time without an end, such as `since May`, less the further from its beginning, but never below three quarters.
    """
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
        inside = np.where(known, _inside(late, early, first, last), 0.0)
        signal = np.maximum(signal, np.where(late > 0, after, np.where(early > 0, before, inside)))
        told = (event_days >= start) & (event_days <= end)
        signal = np.maximum(signal, told.astype(np.float64))
    return signal
