"""MemOperator, tidying: which memories become one, which of them stays, and making it so.

What stays stands for those that say the same: its state is `merged`. They are archived, with it as their heir and
`duplicate` as the reason, and keep their own words, source and place: so where each was said is still known, a question
as of a past time finds what was there then, and when what stays is gone from its source another stands up in its place
(`absorbed.py`). Memories are never put together across an owner, label, scope or end, nor is what is frozen or under
legal hold. Words under two headings are one memory only where they are understood without them (`subjects.py`).

The first half is pure: rows in, merges out. `merge` works on a table in a draft it was handed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from memos_cli.cube.scopes import GUARDS
from memos_cli.operation import lifecycle
from memos_cli.operation.absorbed import DUPLICATE, absorbed_by
from memos_cli.operation.conflicts import Statement
from memos_cli.operation.duplicates import EXACT, Same, duplicates_among
from memos_cli.operation.judging import SAME, Verdicts
from memos_cli.operation.subjects import Names, names_in, stands_alone
from memos_cli.operation.told import PART, decode

if TYPE_CHECKING:
    import numpy as np

    from memos_cli.cube.plaintext import Memories

Row = Mapping[str, Any]

# What memories must share to become one: who may see it, how long it lives, and what the law says of it.
APART = (*GUARDS, "expires_at", "decay_days", "compliance")
COLUMNS = (
    "id", "text", "kind", "section", "source", "position", "state", "valid_to", "legal_hold", "origin", "priority",
    "type", "topic", "tags", "created_at", "words", "extra", *APART,
)  # fmt: skip
# Turns are what was said when, and code is part of its file: twice the same is not once too often.
UNMERGED = frozenset({"turn", "code", "function", "class"})
ROWS = frozenset({"row", "record"})
ORIGINS = ("user_input", "external_retrieval", "parameter_finetuning", "inference_extraction")
# Sources of which so many memories, and such a share of those of the smaller, are the same are copies of one another.
FEWEST_COPIED, COPIED = 3, 0.6
JUDGED = "judge"
FROZEN, HELD, ELSEWHERE = "frozen", "held", "elsewhere"


@dataclass(frozen=True, slots=True)
class Absorbed:
    """A memory that says what another says, and how that is known: `exact`, `near`, `fact` or `judge`."""

    id: str
    how: str


@dataclass(frozen=True, slots=True)
class Merge:
    """A memory that stays, and those that it stands for from then on."""

    id: str
    absorbed: tuple[Absorbed, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """Two memories that say the same and stay two: one is `frozen` or `held`, or they stand `elsewhere`."""

    one: str
    other: str
    how: str
    why: str


@dataclass(frozen=True, slots=True)
class Merges:
    """What becomes one, and what says the same and is left alone."""

    merges: tuple[Merge, ...] = ()
    left: tuple[Left, ...] = ()


def merges(
    rows: Iterable[Row], *, vectors: Mapping[str, np.ndarray] | None = None, verdicts: Verdicts = MappingProxyType({})
) -> Merges:
    """Which of some memories (rows of COLUMNS that are recalled) become one; the best known of each stays.

    Only what says the same as the one that stays is put with it, so that no chain of likenesses ends far from where it
    began. `verdicts` on pairs overrule what is found here, but for what is kept apart and for the same words of one
    place.
    """
    kept = [row for row in rows if _may_be_one(row)]

    @cache  # most memories say the same as no other, and then no name is asked for
    def names() -> Names:
        return names_in(row["text"] for row in kept)

    done: list[Merge] = []
    left: list[Left] = []
    for together in _walled(kept):
        same = _Same.of(together, names, vectors, verdicts)
        done += same.merges()
        left += same.left()
    return Merges(tuple(done), tuple(left))


def _may_be_one(row: Row) -> bool:
    """What stands by itself: no turn, no code, and no part of a text that was cut."""
    return row["kind"] not in UNMERGED and row["valid_to"] is None and PART not in decode(row["extra"])


def statement(row: Row) -> Statement:
    """A row as it is compared."""
    table = row["source"] if row["kind"] in ROWS else ""
    return Statement(row["id"], row["text"], row["kind"], row["section"], table, row["source"])


def _walled(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows that nothing keeps apart, where there are several."""
    together: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        values = (row[name] for name in APART)
        together[tuple(tuple(value or ()) if isinstance(value, list) else value for value in values)].append(row)
    return (each for each in together.values() if len(each) > 1)


def why_fast(row: Row) -> str:
    """Why a memory is not touched at all: `frozen` or `held`; "" when nothing keeps it."""
    return FROZEN if row["state"] == lifecycle.FROZEN else HELD if row["legal_hold"] else ""


# A text and the place it counts at: nowhere in particular when it is understood wherever it stands.
_Node = tuple[str, tuple[str, str]]


@dataclass(slots=True)
class _Same:
    """What says the same among rows that nothing keeps apart, by text and place."""

    rows: Mapping[str, Row]
    nodes: dict[_Node, list[str]]
    beside: dict[_Node, dict[_Node, str]]
    pairs: list[Same]

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        names: Callable[[], Names],
        vectors: Mapping[str, np.ndarray] | None,
        verdicts: Verdicts,
    ) -> _Same:
        by_id = {row["id"]: row for row in rows}
        # the first of the same words is told beside the others: one that may be merged, where there is one
        said = {row["id"]: statement(row) for row in sorted(rows, key=lambda row: bool(why_fast(row)))}
        pairs = [one for one in duplicates_among(list(said.values()), vectors=vectors) if not _of_one_table(one, by_id)]
        pairs = list(_judged(pairs, by_id, verdicts))
        copy_of = _copies(pairs, by_id)
        texts: dict[str, list[str]] = {}
        for pair in pairs:
            for first in (pair.one, *([] if pair.kind == EXACT else [pair.other])):
                texts.setdefault(first, [first])
            if pair.kind == EXACT:
                texts[pair.one].append(pair.other)
        nodes: dict[_Node, list[str]] = defaultdict(list)
        for first, ids in texts.items():
            alone = stands_alone(said[first], names())
            for each in ids:
                source = by_id[each]["source"]
                place = ("", "") if alone else (by_id[each]["section"], f"in {copy_of.get(source, source)}")
                nodes[first, place].append(each)
        return cls(by_id, nodes, _edges(pairs, nodes, verdicts), pairs)

    def merges(self) -> Iterator[Merge]:
        """Each memory in one merge at most; the best known first, with what says the same as it."""
        free = {node: [each for each in ids if not why_fast(self.rows[each])] for node, ids in self.nodes.items()}
        best = {node: min(ids, key=lambda each: _worth(self.rows[each])) for node, ids in free.items() if ids}
        taken: set[_Node] = set()
        for node in sorted(best, key=lambda each: _worth(self.rows[best[each]])):
            if node in taken:
                continue
            absorbed = {each: EXACT for each in free[node] if each != best[node]}
            for other, how in self.beside.get(node, {}).items():
                if other not in taken:
                    absorbed |= dict.fromkeys(free[other], how)
                    taken.add(other)
            taken.add(node)
            if absorbed:
                yield Merge(best[node], tuple(Absorbed(each, how) for each, how in sorted(absorbed.items())))

    def left(self) -> Iterator[Left]:
        """Pairs that say the same and stay two, with the reason."""
        node_of = {each: node for node, ids in self.nodes.items() for each in ids}
        for pair in self.pairs:
            one, other = self.rows[pair.one], self.rows[pair.other]
            here, there = node_of[pair.one], node_of[pair.other]
            if fast := why_fast(one) or why_fast(other):
                yield Left(pair.one, pair.other, pair.kind, fast)
            elif here != there and there not in self.beside.get(here, {}):
                yield Left(pair.one, pair.other, pair.kind, ELSEWHERE)


def _judged(pairs: Iterable[Same], by_id: Mapping[str, Row], verdicts: Verdicts) -> Iterator[Same]:
    """Pairs as a judge has them: without those that it denies, and with those that it alone found."""
    known = set()
    for pair in pairs:
        known.add(frozenset((pair.one, pair.other)))
        if pair.kind == EXACT or verdicts.get(frozenset((pair.one, pair.other)), SAME) == SAME:
            yield pair
    for both in sorted(map(sorted, (each for each in verdicts if each not in known))):
        if verdicts[frozenset(both)] == SAME and all(each in by_id for each in both):
            pair = Same(JUDGED, both[0], both[1])
            if not _of_one_table(pair, by_id):
                yield pair


def _edges(
    pairs: Iterable[Same], nodes: Mapping[_Node, Sequence[str]], verdicts: Verdicts
) -> dict[_Node, dict[_Node, str]]:
    """Texts that nearly say the same, where they count at the same place or a judge says that it does not matter."""
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for first, place in nodes:
        places[first].append(place)
    beside: dict[_Node, dict[_Node, str]] = defaultdict(dict)
    for pair in pairs:
        if pair.kind != EXACT:
            for place in {*places[pair.one]} & {*places[pair.other]}:
                beside[pair.one, place][pair.other, place] = pair.kind
                beside[pair.other, place][pair.one, place] = pair.kind
    node_of = {each: node for node, ids in nodes.items() for each in ids}
    for pair in pairs:
        here, there = node_of[pair.one], node_of[pair.other]
        if here != there and verdicts.get(frozenset((pair.one, pair.other))) == SAME:
            beside[here].setdefault(there, JUDGED)
            beside[there].setdefault(here, JUDGED)
    return beside


def _of_one_table(pair: Same, by_id: Mapping[str, Row]) -> bool:
    """Two rows of one table tell of two things, or of one that happened twice."""
    one, other = by_id[pair.one], by_id[pair.other]
    return one["source"] == other["source"] and one["kind"] in ROWS and other["kind"] in ROWS


def _copies(same: Iterable[Same], by_id: Mapping[str, Row]) -> dict[str, str]:
    """Sources that are copies of another, each with the first of its kind."""
    size = Counter(row["source"] for row in by_id.values())
    shared: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pair in same:
        one, other = by_id[pair.one], by_id[pair.other]
        if pair.kind == EXACT and one["source"] != other["source"] and one["section"] == other["section"]:
            first, second = sorted((one["source"], other["source"]))
            shared[first, second].add(pair.other)
    found: dict[str, str] = {}
    for (first, second), ids in sorted(shared.items()):
        if len(ids) >= max(FEWEST_COPIED, COPIED * min(size[first], size[second])):
            found[second] = found.get(first, first)
    return found


def _worth(row: Row) -> tuple[Any, ...]:
    """What stays comes first: what the user said, what matters more, what says more, what is known longest."""
    origin = ORIGINS.index(row["origin"]) if row["origin"] in ORIGINS else len(ORIGINS)
    return (-int(row["state"] == lifecycle.MERGED), origin, -row["priority"], -(row["words"] or 0), row["created_at"],
            row["source"], row["position"], row["id"])  # fmt: skip


def why_stays(stays: Row, others: Iterable[Row]) -> str:
    """Why it is this one of those that say the same, in words."""
    best = min(others, key=_worth)
    for name, why in (("origin", "it comes from whom one believes most"), ("priority", "its priority is the highest")):
        if stays[name] != best[name]:
            return why
    if stays["state"] != best["state"]:
        return "it stands for others already"
    if stays["words"] != best["words"]:
        return "it says the most"
    return "it is known longest" if stays["created_at"] != best["created_at"] else "it comes first"


def columns(stays: Row, absorbed: Sequence[Row], *, now: datetime) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The columns that change: of what stays, and of each that it absorbs, by id.

    What stays takes on what was said of them and not of it: type, topic, tags, and the highest priority.
    """
    for row in (stays, *absorbed):
        lifecycle.check_loss(row)
    every = (stays, *absorbed)
    state = stays["state"]
    mine = {
        "state": state if state == lifecycle.MERGED else lifecycle.move(state, lifecycle.MERGED),
        "tags": list(dict.fromkeys(tag for row in every for tag in row["tags"] or ())),
        "priority": max(row["priority"] for row in every),
        **{name: next((row[name] for row in every if row[name]), "") for name in ("type", "topic")},
        "updated_at": now,
    }
    theirs = {
        row["id"]: {
            "state": lifecycle.ended(row["state"]), "valid_to": now, "updated_at": now, "superseded_by": stays["id"],
            "superseded_as": DUPLICATE,
        }
        for row in absorbed
    }  # fmt: skip
    return mine, theirs


def merge(memories: Memories, found: Iterable[Merge], *, now: datetime) -> list[str]:
    """Puts memories together in a table; returns the ids of all rows that changed.

    Search windows stay as they are: sources still say what is archived, and it is read with its neighbours. Raises
    NotAllowed for what is frozen or under legal hold, Usage for what cannot become `merged`.
    """
    chosen = list(found)
    ids = [identity for one in chosen for identity in (one.id, *(each.id for each in one.absorbed))]
    rows = {row["id"]: row for row in memories.take(ids, columns=COLUMNS).to_pylist()}
    heirs = {each.id: one.id for one in chosen for each in one.absorbed}
    stays: dict[str, dict[str, Any]] = {}
    absorbed: dict[str, dict[str, Any]] = {}
    for one in chosen:
        stays[one.id], theirs = columns(rows[one.id], [rows[each.id] for each in one.absorbed], now=now)
        absorbed |= theirs
    # what they stood for is stood for by their heir
    before = {identity: {"superseded_by": heirs[heir]} for identity, heir in absorbed_by(memories, heirs).items()}
    for identity, values in stays.items():
        tags = values.pop("tags")
        if tags != rows[identity]["tags"]:
            memories.change([identity], tags=tags)
    for changes in (before, absorbed, stays):
        _write(memories, changes)
    return [*ids, *before]


def _write(memories: Memories, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Sets columns of many rows, the same columns of each, in one commit of the table."""
    from memos_cli.cube.plaintext import with_columns

    rows = memories.take(changes)
    if not rows.num_rows:
        return
    ids = rows["id"].to_pylist()
    names = changes[ids[0]].keys()
    memories.replace(with_columns(rows, **{name: [changes[each][name] for each in ids] for name in names}))
