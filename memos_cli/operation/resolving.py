"""MemOperator, tidying: which side of a conflict holds, by a policy, and why; never silently, and never by a guess.

`newest` takes what the words say is later, else what is true from later on, was said later, or was remembered later.
`trust` takes the higher priority, else what the user said before what was fetched, and that before what a model wrote.
Where a policy finds nothing that tells the sides apart, both stay. So they do where one of them cannot go: it is
frozen, under legal hold, of another owner, label, scope or end, or says more than what is disputed. And where they
stand under different headings without naming what they are about: then they may be of two things, and only a person
decides. The loser is archived, its heir is the side that holds, and where it is known since when that one is true, the
loser was true until then.

All but `settle` is pure; that works on a table in a draft.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Usage
from memos_cli.operation import lifecycle, truth
from memos_cli.operation.absorbed import CONFLICT
from memos_cli.operation.claims import Claim, claims_of, sentences
from memos_cli.operation.conflicts import NEGATION, Conflict, Side, conflicts_among
from memos_cli.operation.judging import CONFLICT as OPPOSED
from memos_cli.operation.judging import Verdicts
from memos_cli.operation.merging import APART, FROZEN, JUDGED, ORIGINS, ROWS, statement, why_fast
from memos_cli.operation.merging import COLUMNS as _COMPARED
from memos_cli.operation.subjects import Names, names_in, names_its_subject
from memos_cli.operation.values import Value, tokens

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

Row = Mapping[str, Any]

NEWEST, TRUST, ASK = "newest", "trust", "ask"
# One memory that two cubes gave other words; its source says neither.
REWORDED = "reworded"
POLICIES = (NEWEST, TRUST, ASK)
COLUMNS = (*_COMPARED, "time", "true_from")
_SETTLED = ("id", "state", "legal_hold", "true_from", "true_to")
_CODE = frozenset({"code", "function", "class"})
_CALLED = {
    "user_input": "the user said it", "external_retrieval": "it was fetched",
    "parameter_finetuning": "an adapter said it", "inference_extraction": "a model wrote it",
}  # fmt: skip
UNSURE = "they stand in different places and may be about two things"
MORE = "says more than this, which would go with it"
# A value with one of these may be two things said in one sentence.
_JOINS = re.compile(r"[,;]|\b(?:and|but|while|because|who|which)\b")
WALLED = "they are not of one owner, label, scope and end"


@dataclass(frozen=True, slots=True)
class Dispute:
    """A conflict and what becomes of it: the id of the side that stays ("" while both do), and why.

    `open` is whether a policy may decide it; a person always may, but for what is `fast`. A policy takes nothing away
    that says `more` than what is disputed. `kept` is that somebody said before that both stay.
    """

    conflict: Conflict
    open: bool = True
    fast: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    stays: str = ""
    why: str = ""
    kept: bool = False

    @property
    def ids(self) -> tuple[str, str]:
        """Both sides."""
        return self.conflict.one.id, self.conflict.other.id

    @property
    def goes(self) -> str:
        """The side that is archived; "" while both stay."""
        one, other = self.ids
        return "" if not self.stays else other if self.stays == one else one


@dataclass(frozen=True, slots=True)
class Disputes:
    """The conflicts among some memories, and relations that were taken to have several values."""

    disputes: tuple[Dispute, ...]
    several: tuple[str, ...]


def disputes(rows: Iterable[Row], *, verdicts: Verdicts = MappingProxyType({})) -> Disputes:
    """The conflicts among memories (rows of COLUMNS that are recalled); none is decided yet.

    `verdicts` on pairs overrule what is found here, but not what keeps a side from going.
    """
    kept = {row["id"]: row for row in rows if row["kind"] not in _CODE and row["valid_to"] is None}
    found = conflicts_among(map(statement, kept.values()))
    names = names_in(row["text"] for row in kept.values()) if found.conflicts or verdicts else Names()
    told = tuple(
        _dispute(one, kept, names, judged=frozenset((one.one.id, one.other.id)) in verdicts)
        for one in _judged(found.conflicts, kept, verdicts)
    )
    # a row is understood by its table only: of two tables that name nobody it tells nothing that could conflict
    told = tuple(one for one in told if one.why != UNSURE or not any(kept[each]["kind"] in ROWS for each in one.ids))
    return Disputes(tuple(sorted(told, key=lambda each: not each.open)), found.several)


def _judged(found: Iterable[Conflict], rows: Mapping[str, Row], verdicts: Verdicts) -> Iterator[Conflict]:
    """Conflicts as a judge has them: without those that it denies, and with those that it alone found."""
    known = set()
    for one in found:
        both = frozenset((one.one.id, one.other.id))
        known.add(both)
        if verdicts.get(both, OPPOSED) == OPPOSED:
            yield one
    for ids in sorted(map(sorted, (each for each in verdicts if each not in known))):
        if verdicts[frozenset(ids)] == OPPOSED and all(each in rows for each in ids):
            first, second = (Side(each, Claim("", "", Value(()), "")) for each in ids)
            yield Conflict(JUDGED, "", "", first, second, "")


def _dispute(conflict: Conflict, rows: Mapping[str, Row], names: Names, *, judged: bool = False) -> Dispute:
    one, other = rows[conflict.one.id], rows[conflict.other.id]
    fast = tuple(row["id"] for row in (one, other) if why_fast(row))
    if any(one[name] != other[name] for name in APART):
        return Dispute(conflict, False, (one["id"], other["id"]), why=WALLED)
    if len(fast) == 2:
        return Dispute(conflict, False, fast, why="both are frozen or under legal hold")
    more = tuple(side.id for side in (conflict.one, conflict.other) if _says_more(side, rows[side.id]))
    here = (one["source"], one["section"]) == (other["source"], other["section"])
    denied = conflict.kind == NEGATION
    if (
        not judged
        and not here
        and not all(_is_named(side, rows, names, denied) for side in (conflict.one, conflict.other))
    ):
        return Dispute(conflict, False, fast, more, why=UNSURE)
    return Dispute(conflict, True, fast, more)


def _is_named(side: Side, rows: Mapping[str, Row], names: Names, denied: bool) -> bool:
    """Whether a side names what it is about; of what is said and denied in the same words, whether they have a name."""
    claim, text = side.claim, rows[side.id]["text"]
    if denied and any(token.key in names.known for token in tokens(text)):
        return True
    return names_its_subject(claim.subject, text, names, relation=claim.relation)


def _says_more(side: Side, row: Row) -> bool:
    """Whether a memory says more than what it claims here."""
    said = sentences(row["text"])
    if len(said) != 1:
        return True
    if not side.claim.said:
        return bool(_JOINS.search(said[0]))
    claims = claims_of(row["text"], kind=row["kind"], section=row["section"])
    whole = side.claim.said == said[0]
    return len(claims) > 1 or (not whole and bool(_JOINS.search(side.claim.said)))


def decide(
    found: Iterable[Dispute],
    rows: Mapping[str, Row],
    *,
    policy: str = "",
    chosen: Mapping[frozenset[str], str] | None = None,
    kept: Mapping[frozenset[str], datetime] = MappingProxyType({}),
) -> list[Dispute]:
    """Each dispute with the side that stays by a policy, or that somebody has `chosen` (its id; "" for both).

    Of pairs that are `kept`, since when, both stay whatever the policy. A memory that goes by one dispute is in no
    later one. Raises Usage for a policy that there is not.
    """
    if policy and policy not in POLICIES:
        raise Usage(f"conflicts are resolved by {', '.join(POLICIES)}, found {policy!r}")
    gone: dict[str, str] = {}
    told = []
    for each in found:
        if over := next((identity for identity in each.ids if identity in gone), ""):
            told.append(replace(each, why=f"{over[:8]} is archived already by another conflict"))
            continue
        if since := kept.get(frozenset(each.ids)):
            told.append(replace(each, kept=True, why=f"you kept both on {since:%Y-%m-%d}"))
            continue
        done = _decided(each, rows, policy, chosen or {})
        if done.stays:
            gone[done.goes] = done.stays
        told.append(done)
    return told


def _decided(each: Dispute, rows: Mapping[str, Row], policy: str, chosen: Mapping[frozenset[str], str]) -> Dispute:
    if policy == ASK:
        stays, why = chosen.get(frozenset(each.ids), ""), "you chose it"
    elif not policy or not each.open:
        return each
    else:
        sides = [(rows[identity], identity) for identity in each.ids]
        stays, why = (_newest if policy == NEWEST else _trusted)(each.conflict, [row for row, _ in sides])
    if not stays:
        kept = policy == ASK and frozenset(each.ids) in chosen
        return replace(each, kept=kept, why="you kept both" if kept else "" if policy == ASK else why)
    done = replace(each, stays=stays, why=why)
    if policy != ASK and done.goes in each.more:
        return replace(each, why=f"{why}; but {done.goes[:8]} {MORE}")
    if done.goes in each.fast:
        if each.why:
            return each
        how = "is frozen" if why_fast(rows[done.goes]) == FROZEN else "is under legal hold"
        return replace(each, why=f"{done.goes[:8]} {how} and does not go")
    return done


def _newest(conflict: Conflict, sides: Sequence[Row]) -> tuple[str, str]:
    """The later side, by its words, by when it was said, or by when it was remembered."""
    one, other = sides
    if conflict.later:
        return conflict.later, f"the words of {conflict.later[:8]} say that it is the later"
    for name, how in (("true_from", "true"), ("time", "said"), ("created_at", "remembered")):
        if one[name] and other[name] and one[name] != other[name]:
            late, early = sorted((one, other), key=lambda row: row[name], reverse=True)
            return late["id"], f"{how} later: {_span(late[name], early[name])}"
    return "", "nothing tells which is the later"


def _span(late: datetime, early: datetime) -> str:
    """Two moments, with the time of day where the day does not tell them apart."""
    form = "%Y-%m-%d" if late.date() != early.date() else "%Y-%m-%d %H:%M:%S"
    return f"{late:{form}}, not {early:{form}}"


def _trusted(conflict: Conflict, sides: Sequence[Row]) -> tuple[str, str]:
    """The side with the higher priority, or that comes from whom one believes more."""
    high, low = sorted(sides, key=lambda row: -row["priority"])
    if high["priority"] != low["priority"]:
        return high["id"], f"its priority is higher: {high['priority']}, not {low['priority']}"
    best, rest = sorted(sides, key=lambda row: _doubt(row["origin"]))
    if _doubt(best["origin"]) != _doubt(rest["origin"]):
        return best["id"], f"{_CALLED.get(best['origin'], '')}, of the other {_CALLED.get(rest['origin'], 'nothing')}"
    return "", "both are trusted alike"


def _doubt(origin: str) -> int:
    return ORIGINS.index(origin) if origin in ORIGINS else len(ORIGINS)


def settle(memories: Memories, decided: Iterable[Dispute], *, now: datetime) -> list[str]:
    """Archives the losers in a table; their ids. Raises NotAllowed for what is frozen or under legal hold."""
    done = [each for each in decided if each.stays]
    heirs = {each.goes: each.stays for each in done}
    anew = {each.goes for each in done if each.conflict.kind == REWORDED}
    claims = {side.id: side.claim for each in done for side in (each.conflict.one, each.conflict.other)}
    every = memories.take({*heirs, *heirs.values()}, columns=_SETTLED).to_pylist()
    known = {row["id"]: row for row in every}
    rows = {identity: known[identity] for identity in heirs if identity in known}
    for identity, row in rows.items():
        lifecycle.check_loss(row)
        heir = known[heirs[identity]]
        memories.change(
            [identity], state=lifecycle.ended(row["state"]), valid_to=now, updated_at=now,
            true_to=_ended(row, heir, claims[heir["id"]]), superseded_by=_last(identity, heirs),
            superseded_as="" if identity in anew else CONFLICT,
        )  # fmt: skip
    return list(rows)


def _ended(row: Row, heir: Row, claim: Claim) -> datetime | None:
    """When what a loser tells ceased to be true: when what is true in its place began, as far as that is known."""
    began: datetime | None = heir["true_from"]
    ended: datetime | None = row["true_to"]
    if began is None and claim.since:
        began = truth.start_of(claim.since)
    if ended is not None or began is None or (row["true_from"] and row["true_from"] >= began):
        return ended
    return began


def _last(identity: str, heirs: Mapping[str, str]) -> str:
    """What stays in the end, where the side that stayed goes by another conflict."""
    while identity in heirs:
        identity = heirs[identity]
    return identity
