"""Two cubes into one: which memories there are, and what becomes of those that both have.

A memory that both have has one id; its marks and its state may differ. With a `base`, the rows as both
once had them, what one side changed is taken (a three-way merge), and a memory that one side took out and the other
left alone is out. Who may see it, and how long it lives, is never loosened: of two labels, scopes, ends and holds the
stricter is taken, and what one side hid stays hidden. What both changed differently is a clash: the later change is
taken under the policy `newest`, else that of the first cube, and it is told. Pure: rows in, decisions out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from memos_cli.cube.scopes import OWNER, highest, within
from memos_cli.operation import lifecycle
from memos_cli.operation.claims import Claim
from memos_cli.operation.conflicts import Conflict, Side
from memos_cli.operation.resolving import NEWEST, REWORDED, Dispute
from memos_cli.operation.values import Value

Row = Mapping[str, Any]

STATE = ("state", "valid_from", "valid_to", "supersedes", "superseded_by", "superseded_as")
MARKS = ("type", "topic", "tags", "owner", "priority", "decay_days", "true_from", "true_to")
SCOPES = ("read_scope", "write_scope", "share_scope")
_USES = ("uses", "last_used", "heat")
COLUMNS = (
    "id", "text", *STATE, *MARKS, *SCOPES, "sensitivity", "expires_at", "legal_hold", "compliance", *_USES,
    "updated_at",
)  # fmt: skip
_CHANGED = (*STATE, *MARKS, *SCOPES, "sensitivity", "expires_at", "legal_hold", "compliance")


@dataclass(frozen=True, slots=True)
class Clash:
    """A mark that both cubes gave a memory, each another: the value that was taken, and the other."""

    id: str
    column: str
    taken: Any
    other: Any
    why: str


@dataclass(slots=True)
class United:
    """What becomes of all memories: ids by the cube that they are taken from, and the columns that change of them."""

    first: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)
    both: int = 0
    gone: list[str] = field(default_factory=list)
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    clashes: list[Clash] = field(default_factory=list)
    reworded: list[Dispute] = field(default_factory=list)


def renamed(first: Mapping[str, Row], second: Mapping[str, Row], fresh: Callable[[Row], str]) -> dict[str, str]:
    """New ids, of `fresh`, for memories of the second cube that have the id of another in the first.

    That is so of one memory that was given other words in each.
    """
    return {one: fresh(row) for one, row in second.items() if one in first and first[one]["text"] != row["text"]}


def unite(
    first: Mapping[str, Row], second: Mapping[str, Row], *, base: Mapping[str, Row] | None = None, policy: str = ""
) -> United:
    """What becomes of the memories of two cubes (rows of COLUMNS by id). `base` is None where they share no history."""
    known = base or {}
    done = United()
    for identity, row in first.items():
        if identity in second:
            _both(done, row, second[identity], known.get(identity), policy)
        elif base is not None and identity in known and not _changed(row, known[identity]):
            done.gone.append(identity)
        else:
            done.first.append(identity)
    for identity, row in second.items():
        if identity not in first:
            left_alone = base is not None and identity in known and not _changed(row, known[identity])
            (done.gone if left_alone else done.second).append(identity)
    done.reworded = list(_reworded(first, second))
    return done


def _changed(row: Row, base: Row) -> bool:
    return any(row[name] != base[name] for name in _CHANGED)


def _both(done: United, one: Row, other: Row, base: Row | None, policy: str) -> None:
    """Takes the row that was changed last, with what the other has besides."""
    identity = one["id"]
    done.both += 1
    later = other if other["updated_at"] > one["updated_at"] else one
    (done.second if later is other else done.first).append(identity)
    columns = {**_strictest(one, other), **_state(one, other, base)}
    for name in MARKS:
        value, clash = _mark(name, one, other, base, policy)
        columns[name] = value
        if clash:
            done.clashes.append(clash)
    for name in _USES:
        columns[name] = max((row[name] for row in (one, other) if row[name] is not None), default=one[name])
    if changed := {name: value for name, value in columns.items() if later[name] != value}:
        done.columns[identity] = changed


def _strictest(one: Row, other: Row) -> dict[str, Any]:
    """Who may see it, how long it lives, and what holds it: never less strict than in either cube."""
    ends: list[datetime] = [row["expires_at"] for row in (one, other) if row["expires_at"]]
    return {
        "sensitivity": highest([one["sensitivity"], other["sensitivity"]]),
        **{name: narrower(one[name], other[name]) for name in SCOPES},
        "expires_at": min(ends, default=None),
        "legal_hold": bool(one["legal_hold"] or other["legal_hold"]),
        "compliance": list(dict.fromkeys([*(one["compliance"] or ()), *(other["compliance"] or ())])),
    }


def narrower(one: str, other: str) -> str:
    """The scope of two that lets in fewer ("" is that of the cube); the owner's where neither is within the other."""
    if not one or not other or one == other:
        return one or other
    return one if within(one, other) else other if within(other, one) else OWNER


def _state(one: Row, other: Row, base: Row | None) -> dict[str, Any]:
    """State and validity go together: what is hidden stays so, then what is frozen; else the side that changed them."""
    for state in (lifecycle.FORGOTTEN, lifecycle.FROZEN):
        if found := next((row for row in (one, other) if row["state"] == state), None):
            return {name: found[name] for name in STATE}
    told = [tuple(row[name] for name in STATE) for row in (one, other)]
    before = tuple(base[name] for name in STATE) if base else None
    if told[0] == told[1] or told[1] == before:
        chosen = told[0]
    elif told[0] == before or other["updated_at"] > one["updated_at"]:
        chosen = told[1]
    else:
        chosen = told[0]
    return dict(zip(STATE, chosen, strict=True))


def _mark(name: str, one: Row, other: Row, base: Row | None, policy: str) -> tuple[Any, Clash | None]:
    """A mark of a memory that both have, and the clash when both set it to something else."""
    if name == "tags":
        return _tags(one, other, base), None
    a, b = one[name], other[name]
    if a == b or (base is not None and b == base[name]) or (base is None and not b):
        return a, None
    if (base is not None and a == base[name]) or (base is None and not a):
        return b, None
    late = policy == NEWEST and other["updated_at"] > one["updated_at"]
    why = "changed later" if policy == NEWEST and one["updated_at"] != other["updated_at"] else "of the first cube"
    return (b, Clash(one["id"], name, b, a, why)) if late else (a, Clash(one["id"], name, a, b, why))


def _tags(one: Row, other: Row, base: Row | None) -> list[str]:
    """All that either has, without what one of them took away."""
    every = dict.fromkeys([*(one["tags"] or ()), *(other["tags"] or ())])
    lost = {tag for tag in (base["tags"] or () if base else ()) if not (tag in one["tags"] and tag in other["tags"])}
    return [tag for tag in every if tag not in lost]


def _reworded(first: Mapping[str, Row], second: Mapping[str, Row]) -> Iterator[Dispute]:
    """Memories that both cubes have and each gave other words, both of which are recalled."""
    for identity in first.keys() & second.keys():
        heirs = first[identity]["superseded_by"], second[identity]["superseded_by"]
        one, other = first.get(heirs[0]), second.get(heirs[1])
        if one is None or other is None or one["id"] == other["id"] or one["text"] == other["text"]:
            continue
        if one["id"] not in second and other["id"] not in first and _is_live(one) and _is_live(other):
            sides = [Side(row["id"], Claim("", "", Value(()), row["text"])) for row in (one, other)]
            yield Dispute(Conflict(REWORDED, "", "", sides[0], sides[1], ""), True, _fast(one, other))


def _is_live(row: Row) -> bool:
    return row["valid_to"] is None and row["state"] in (lifecycle.ACTIVATED, lifecycle.MERGED, lifecycle.FROZEN)


def _fast(*rows: Row) -> tuple[str, ...]:
    return tuple(row["id"] for row in rows if row["state"] == lifecycle.FROZEN or row["legal_hold"])


def one_wording(decided: Sequence[Dispute]) -> list[Dispute]:
    """The same, where a memory in two wordings that nothing decides has those of the first cube."""
    return [_kept_first(each) if each.conflict.kind == REWORDED and not each.stays else each for each in decided]


def _kept_first(each: Dispute) -> Dispute:
    one, other = each.ids
    stays = next((mine for mine, theirs in ((one, other), (other, one)) if theirs not in each.fast), "")
    why = "a memory has one wording; that of the first cube is kept" if stays == one else "the other is frozen or held"
    return replace(each, stays=stays, why=why if stays else "both are frozen or under legal hold")


def between(found: Collection[Dispute], done: United, first: Collection[str], second: Collection[str]) -> list[Dispute]:
    """Of some disputes those that the two cubes have with one another, and not each with itself."""
    mine, theirs = set(first) - set(second), set(second) - set(first)
    known = {frozenset(each.ids) for each in done.reworded}
    return [
        each for each in found
        if frozenset(each.ids) not in known
        and (set(each.ids) & mine and set(each.ids) & theirs)
    ]  # fmt: skip
