"""What recall knows of a table's rows: short columns and vectors as arrays.

A table of up to `HELD_ROWS` rows is read once and held in memory for as long as the process asks about the same
version, so that cosines are exact and a warm question costs no scan; of a larger one only the rows asked for are
read. Knows nothing of questions or weights.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253  this file computes

from memos_cli.cube import alike, search
from memos_cli.cube.scopes import GUARDS
from memos_cli.operation.profile import Stats

if TYPE_CHECKING:
    import pyarrow as pa

HELD_ROWS = search.INDEXED_ROWS
HELD_TABLES = 8
SAMPLED_ROWS = 5_000
# What tells whether a row is recalled; columns that a large table is not asked for when they say the same of all rows.
_LASTING = ("state", "valid_to", "expires_at")
_SHORT = (
    "text", "kind", "words", "speaker", "role", "session", "source", "position", "time", "event_time", "topic",
    "valid_from", *_LASTING, *GUARDS,
)  # fmt: skip
# What tells which turn stands beside which.
BESIDE = ("kind", "session", "source", "position", *_LASTING, *GUARDS)
_LIVE_STATES = ("activated", "merged", "frozen")
_CLOSING = " \t\n\r\"'”’)*_"


class Rows:
    """Some rows of a table as arrays, in the order of their row ids; of columns that were not read, as if empty."""

    def __init__(self, table: pa.Table) -> None:
        # In plain Python where Arrow's compute module would do: importing that costs a new process more than it saves.
        table = _in_order(table)
        self.rowid = table["_rowid"].to_numpy().astype(np.int64)
        size, read = len(self.rowid), {name: table[name] for name in table.column_names}
        self.words = _numbers(read.get("words"), size).astype(np.float32)
        self.position = _numbers(read.get("position"), size)
        self.speaker, self.speakers = _codes(read.get("speaker"), size)
        self.role, self.roles = _codes(read.get("role"), size)
        self.session, _ = _codes(read.get("session"), size)
        self.source, _ = _codes(read.get("source"), size)
        self.is_turn = _among(read.get("kind"), ("turn",), size)
        said = map(asks, read["text"].to_pylist()) if "text" in read else repeat(False, size)
        self.asks = np.fromiter(said, bool, size)
        self.topic, self.topics = _codes(read.get("topic"), size)
        self.day, self.event_day, begins = (
            _moments(read.get(name), size).astype("datetime64[D]") for name in ("time", "event_time", "valid_from")
        )
        # what nobody said at a time holds from when it was valid
        self.day = np.where(np.isnat(self.day), begins, self.day)
        self.expires = _moments(read.get("expires_at"), size)
        self.live = np.isnat(_moments(read.get("valid_to"), size))
        if "state" in read:
            self.live &= _among(read["state"], _LIVE_STATES, size)
        self.guards = [_codes(read[name], size)[0] for name in GUARDS if name in read]

    def __len__(self) -> int:
        return len(self.rowid)

    def find(self, rowids: np.ndarray) -> np.ndarray:
        """The places of row ids that are all among these rows."""
        places: np.ndarray = np.searchsorted(self.rowid, rowids)
        return places

    def alive(self, now: datetime) -> np.ndarray:
        """Which rows are recalled by default at `now`."""
        expired = self.expires <= np.datetime64(now.replace(tzinfo=None), "us")
        alive: np.ndarray = self.live & ~expired
        return alive

    @cached_property
    def around(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of the turn before and after in the same session; -1 where there is none."""
        order = np.lexsort((self.position, self.session, self.source))
        here, there = order[:-1], order[1:]
        joined = (self.source[here] == self.source[there]) & (self.session[here] == self.session[there])
        joined &= self.is_turn[here] & self.is_turn[there] & self.live[here] & self.live[there]
        # A long turn is kept in parts that share neighbours; a gap is a turn that is not among these rows.
        joined &= self.position[there] - self.position[here] == 1
        for guard in self.guards:  # no turn is found by the meaning of one under another label
            joined &= guard[here] == guard[there]
        ends = self.expires.astype(np.int64)  # nor of one that ends at another time; never is a number too
        joined &= ends[here] == ends[there]
        before, after = np.full(len(self), -1), np.full(len(self), -1)
        after[here[joined]], before[there[joined]] = there[joined], here[joined]
        return before, after

    def stats(self, among: np.ndarray) -> Stats:
        """Counts over the rows that `among` marks."""
        turns = self.is_turn & among
        replies = turns & np.isin(self.role, [i for i, role in enumerate(self.roles) if role == "assistant"])
        counts = np.bincount(self.speaker[turns], minlength=len(self.speakers))
        return Stats(
            rows=int(among.sum()),
            turns=int(turns.sum()),
            replies=int(replies.sum()),
            reply_words=float(np.median(self.words[replies])) if replies.any() else 0.0,
            speakers={name: int(count) for name, count in zip(self.speakers, counts, strict=True) if count and name},
        )


class Holding:
    """One table, as recall asks it."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.count = search.count(table)
        self.has = frozenset(search.vector_columns(table))
        self.indexed = search.indexed_columns(table)
        self._matrices: dict[str, np.ndarray] = {}
        self._lengths: np.ndarray | None = None
        self._stats: dict[str, Stats] = {}
        # What a large table's rows have in common takes a scan, so it is not looked for at the first question.
        self.questions = 0
        self._same: dict[str, pa.Scalar] = {}
        self._marked: dict[str, np.ndarray] = {}
        self._judged: set[str] = set()

    @property
    def held(self) -> bool:
        """Whether the whole table is in memory."""
        return self.count <= HELD_ROWS

    @cached_property
    def rows(self) -> Rows:
        """All rows of a held table."""
        return Rows(search.scan(self.table, _SHORT))

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each memory of a held table among `rows`, by its id."""
        ids = _in_order(search.scan(self.table, ["id"]))["id"].to_pylist()
        return {identity: place for place, identity in enumerate(ids)}

    def marked(self, only: str) -> np.ndarray:
        """Which rows of a held table satisfy a condition that comes with every question."""
        if only not in self._marked:
            found = search.scan(self.table, ["id"], where=only)["_rowid"].to_numpy().astype(np.int64)
            self._marked[only] = np.isin(self.rows.rowid, found)
        return self._marked[only]

    def sampled_stats(self, where: str) -> Stats:
        """The statistics of a large table: kinds are counted, words and speakers are those of its first turns."""
        if where not in self._stats:
            turns = _joined("kind = 'turn'", where)
            replies = _joined("role = 'assistant'", turns)
            first = Rows(search.scan(self.table, _SHORT, where=turns, limit=SAMPLED_ROWS))
            told = first.stats(np.ones(len(first), bool))
            count = {name: search.count(self.table, what) for name, what in (("turns", turns), ("replies", replies))}
            share = count["turns"] / max(1, told.turns)
            speakers = {name: round(number * share) for name, number in told.speakers.items()}
            self._stats[where] = Stats(
                search.count(self.table, where), count["turns"], count["replies"], told.reply_words, speakers
            )
        return self._stats[where]

    @cached_property
    def all_live(self) -> bool:
        """Whether every row of the version is recalled by default, now and later."""
        states = ", ".join(f"'{state}'" for state in _LIVE_STATES)
        lasting = f"state in ({states}) and valid_to is null and expires_at is null"
        return search.count(self.table, lasting) == self.count

    @cached_property
    def unguarded(self) -> bool:
        """Whether all rows of the version stand under the same owner, label and scopes: those of the cube."""
        return search.count(self.table, " and ".join(f"{name} = ''" for name in GUARDS)) == self.count

    @cached_property
    def topics(self) -> frozenset[str]:
        """The topic paths of the rows; of a large table those of its first rows that have one."""
        if self.held:
            return frozenset(self.rows.topics) - {""}
        told = search.scan(self.table, ["topic"], where="topic != ''", limit=SAMPLED_ROWS)
        return frozenset(told["topic"].to_pylist()) - {""}

    def take(self, rowids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Columns of the rows with these row ids, with their `_rowid`; what all rows of a large table say is known."""
        if not self.held and self.questions > 1:
            fresh = [name for name in columns if name not in self._judged | self.has]
            self._same |= alike.alike(self.table, fresh)
            self._judged |= set(fresh)
        return alike.take(self.table, rowids, columns, same=self._same)

    def some(
        self, rowids: np.ndarray, columns: Collection[str], *, vectors: Collection[str] = ()
    ) -> tuple[Rows, dict[str, np.ndarray]]:
        """The rows with these row ids and their vectors, read now, in one call: two take half as long again."""
        known = (*(_LASTING if self.all_live else ()), *(GUARDS if self.unguarded else ()))
        short = [name for name in _SHORT if name in columns and name not in known]
        taken = _in_order(self.take(rowids.tolist(), [*short, *vectors]))
        return Rows(taken), {name: _matrix(taken, name) for name in vectors}

    def matrix(self, column: str) -> np.ndarray:
        """Vectors of all rows of a held table, in the order of `rows`; a row without one has zeros."""
        if column not in self._matrices:
            self._matrices[column] = _matrix(search.scan(self.table, [column]), column)
        return self._matrices[column]

    def around(self, cosines: np.ndarray) -> np.ndarray:
        """Cosines with the mean of each turn's vector and its neighbours', from the cosines of all rows."""
        before, after = self.rows.around
        if self._lengths is None:
            self._lengths = _mean_lengths(self.matrix("vector"), before, after)
        smoothed: np.ndarray = _smooth(cosines, before, after) / self._lengths
        return smoothed


def around(rows: Rows, vectors: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """The same for some rows only, whose neighbours are among them where they exist."""
    before, after = rows.around
    smoothed: np.ndarray = _smooth(cosines, before, after) / _mean_lengths(vectors, before, after)
    return smoothed


def asks(text: str) -> bool:
    """Whether a text ends in a question."""
    return text.rstrip(_CLOSING).endswith("?")


def _smooth(values: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    total = values.copy()
    for side in (before, after):
        total += np.where(side >= 0, values[side], 0)
    return total


def _mean_lengths(vectors: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The length of the sum of each vector and its neighbours', from the products of the pairs."""
    places = np.arange(len(vectors))
    in_a_row = (before < 0) | (before == places - 1)
    in_a_row &= (after < 0) | (after == places + 1)
    squares = _products(vectors, vectors)
    if in_a_row.all():  # slices of the matrix need no copy of it
        beside = np.append(_products(vectors[:-1], vectors[1:]), 0.0)
        across = np.append(0.0, np.append(_products(vectors[:-2], vectors[2:]), 0.0))[: len(vectors)]
        to_before, to_after = np.roll(beside, 1), beside
    else:
        to_before, to_after = _products(vectors, vectors[before]), _products(vectors, vectors[after])
        across = _products(vectors[before], vectors[after])
    total = squares + np.where(before >= 0, squares[before] + 2 * to_before, 0)
    total += np.where(after >= 0, squares[after] + 2 * to_after, 0)
    total += np.where((before >= 0) & (after >= 0), 2 * across, 0)
    lengths: np.ndarray = np.sqrt(np.maximum(total, 1e-6))
    return lengths


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The dot product of each pair of rows."""
    dots: np.ndarray = np.einsum("ij,ij->i", first, second)
    return dots


_held: OrderedDict[tuple[str, int], Holding] = OrderedDict()
_changing = threading.Lock()


def hold(table: Any) -> Holding:
    """The holding of a table's version, for a question; the last few are kept."""
    key = (str(table.uri), int(table.version))
    with _changing:
        if key not in _held:
            _held[key] = Holding(table)
            while len(_held) > HELD_TABLES:
                _held.popitem(last=False)
        _held.move_to_end(key)
        _held[key].questions += 1
        return _held[key]


def let_go() -> None:
    """Forgets all tables: a draft's is changed under its name, and another draft's may have the same."""
    with _changing:
        _held.clear()


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows of a table may be recalled.

    `mask` marks them among a held table's rows (none of a large one's), `where` is the condition as SQL ("" for all
    rows). `prefilter` is what Lance has to check for each list: nothing when most of a held table's rows qualify,
    since `mask` is faster.
    """

    holding: Holding
    mask: np.ndarray
    where: str
    prefilter: str
    stats: Stats


def scope(holding: Holding, *, live: str, where: str, now: datetime, only: str = "") -> Scope:
    """The rows that are live at `now` (or satisfy `live`, when given), satisfy `where`, and `only`.

    `only` is what the one who asks may see. No list is made of other rows and then cut down: they take no places.
    """
    condition = _joined(live, where, only)
    whole = condition if live else _joined(default_condition(now), condition)
    if not holding.held:
        whole = whole if condition or not holding.all_live else ""
        return Scope(holding, np.empty(0, bool), whole, whole, holding.sampled_stats(condition))
    mask = np.ones(len(holding.rows), bool) if live else holding.rows.alive(now)
    if only:
        mask &= holding.marked(only)
    if condition := _joined(live, where):
        found = search.scan(holding.table, ["id"], where=condition)["_rowid"].to_numpy().astype(np.int64)
        mask &= np.isin(holding.rows.rowid, found)
    most = not only and mask.sum() * 2 > len(mask)
    stats = holding.rows.stats(mask)
    return Scope(holding, mask, "" if mask.all() else whole, "" if most else whole, stats)


def _joined(*parts: str) -> str:
    return " and ".join(f"({part})" for part in parts if part)


def default_condition(now: datetime) -> str:
    """What is recalled when nothing else is asked for, as SQL."""
    states = ", ".join(f"'{state}'" for state in _LIVE_STATES)
    return f"state in ({states}) and valid_to is null and ({lasting_at(now)})"


def lasting_at(now: datetime) -> str:
    """What has not outlived its time by `now`, as SQL."""
    return f"expires_at is null or expires_at > timestamp '{now.strftime('%Y-%m-%d %H:%M:%S.%f')}'"


def as_of_condition(moment: datetime) -> str:
    """What was valid at `moment`, as SQL; what was forgotten since stays forgotten."""
    at = f"timestamp '{moment.strftime('%Y-%m-%d %H:%M:%S.%f')}'"
    states = "state not in ('generated', 'expired', 'forgotten')"
    expiry = f"(expires_at is null or expires_at > {at})"
    return f"{states} and valid_from <= {at} and (valid_to is null or valid_to > {at}) and {expiry}"


def _matrix(table: pa.Table, column: str) -> np.ndarray:
    """The vectors as rows of float32, by row id; zeros where there is none."""
    return vectors_of(_in_order(table), column)


def vectors_of(table: pa.Table, column: str) -> np.ndarray:
    """The vectors as rows of float32, in the order of the table; zeros where there is none."""
    width = table.schema.field(column).type.list_size
    matrix = np.empty((table.num_rows, width), np.float32)
    at = 0
    for chunk in table[column].chunks:
        if chunk.null_count:
            flat = chunk.fill_null([0.0] * width).flatten()
        else:
            flat = chunk.values.slice(chunk.offset * width, len(chunk) * width)
        matrix[at : at + len(chunk)] = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
        at += len(chunk)
    return matrix


def _in_order(table: pa.Table) -> pa.Table:
    """The rows by row id; Lance mostly gives them so."""
    rowid = table["_rowid"].to_numpy()
    return table if (rowid[1:] > rowid[:-1]).all() else table.sort_by("_rowid")


def _codes(column: Any, size: int) -> tuple[np.ndarray, list[str]]:
    """A number for each value, and the values by their numbers; null counts as an empty text."""
    if column is None:
        return np.zeros(size, np.int64), [""]
    known: dict[str | None, int] = {}
    codes = np.fromiter((known.setdefault(value, len(known)) for value in column.to_pylist()), np.int64, size)
    return codes, [value or "" for value in known]


def _among(column: Any, values: tuple[str, ...], size: int) -> np.ndarray:
    """Which rows have one of a few values."""
    codes, names = _codes(column, size)
    wanted = np.array([name in values for name in names], bool)
    found: np.ndarray = wanted[codes]
    return found


def _numbers(column: Any, size: int) -> np.ndarray:
    numbers: np.ndarray = np.zeros(size, np.int64) if column is None else column.to_numpy(zero_copy_only=False)
    return numbers


def _moments(column: Any, size: int) -> np.ndarray:
    """Microseconds since 1970, NaT where there is none."""
    if column is None:
        return np.full(size, "NaT", "datetime64[us]")
    plain: np.ndarray = column.combine_chunks().to_numpy(zero_copy_only=False)
    return plain.astype("datetime64[us]")
