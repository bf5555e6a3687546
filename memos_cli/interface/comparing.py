"""The verb `tidy` of the Memory API: what says the same becomes one, and what cannot both hold is decided.

Without `apply` it is a plan, for which it is enough to be let read. Carrying it out is the verb `merge`: one version,
worked out anew on what is there then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import filters, links
from memos_cli.cube.scopes import GUARDS
from memos_cli.errors import NotAllowed, Usage
from memos_cli.interface import frame, judging
from memos_cli.interface.frame import HERE, PLAINTEXT, Changing, Desk, Reading
from memos_cli.interface.judging import Judging
from memos_cli.interface.rows import PLACED, place_of
from memos_cli.interface.tidied import Compared, Joined, Opposed, SameAs, Tidied, Unjoined
from memos_cli.operation import linking, mentioning, merging, resolving
from memos_cli.operation.judging import Judge
from memos_cli.operation.merging import Merges
from memos_cli.operation.resolving import ASK, POLICIES, Dispute

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PLAN, CARRY_OUT = "tidy", "merge"
Row = Mapping[str, Any]
Ask = Callable[[Opposed], str]

_COLUMNS = (*resolving.COLUMNS, *PLACED)
_SAME = {
    "exact": "the same words", "near": "nearly the same words", "fact": "the same fact in other words",
    "judge": "a judge says so",
}  # fmt: skip
_WHY = {
    "value": "two values", "time": "two times", "update": "a value and a later one", "negation": "one denies the other",
    "judge": "a judge says so",
}  # fmt: skip
_LEFT = {
    merging.FROZEN: "one is frozen", merging.HELD: "one is under legal hold",
    merging.ELSEWHERE: "they stand in different places and may be about two things",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is compared, how conflicts are decided, and what somebody or a judge said of pairs."""

    condition: str
    resolve: str = ""
    chosen: Mapping[frozenset[str], str] = field(default_factory=dict)
    verdicts: Mapping[frozenset[str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    again: bool = False


@dataclass(slots=True)
class _Plan:
    """What was found in a cube, and what becomes of it."""

    rows: Mapping[str, Row]
    vectors: Mapping[str, np.ndarray] | None
    merges: Merges
    disputes: Sequence[Dispute]
    several: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    blocked: str = ""

    @property
    def archived(self) -> tuple[str, ...]:
        """Ids of what is archived by it."""
        joined = [each.id for one in self.merges.merges for each in one.absorbed]
        return (*joined, *(one.goes for one in self.disputes if one.stays))


def tidy(
    cube: str | Path,
    *,
    where: str | None = None,
    resolve: str = "",
    ask: Ask | None = None,
    judge: Judging | Judge | None = None,
    again: bool = False,
    apply: bool = False,
    to: str = HERE,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Tidied:
    """Which of the memories of a cube say the same and which cannot both hold; with `apply` that is put in order.

    What says the same becomes one memory, which stands for the others; these are archived with their own words and
    places. Conflicts are only reported, unless `resolve` says by what they are decided: `newest`, `trust`, or `ask`,
    for which `ask` is called with each and gives the id of the side that stays ("" for both). That both stay is kept
    in the links table and neither asked nor decided again, but with `again`. `where` compares some memories only. A
    `judge` is asked about what rules leave open. All that is done is one version; there is none when nothing is to be
    done. Raises Usage, NotFound, NotAllowed, and StoreFailed for a judge that does not answer.
    """
    desk = frame.desk(home, notify)
    asked = _Asked(filters.to_sql(filters.parse(where or "")), resolve, again=again)
    _check(resolve, ask, apply)
    judging.check(judge)
    if judge is not None:
        asked = _judged(desk, cube, asked, judge, apply=apply)
    if not apply:
        with frame.reading(desk, cube, PLAN) as seen:
            seen.facts["dry_run"] = True
            return _told(seen, str(cube), _plan(seen, asked), to=to, resolve=resolve)
    if ask and resolve == ASK:
        asked = replace(asked, chosen=_ask(desk, cube, asked, ask))
    with frame.changing(desk, cube, CARRY_OUT, reason=reason, lock_timeout=lock_timeout) as change:
        plan = _plan(change, asked)
        told = _told(change, str(cube), plan, to=to, resolve=resolve)
        noted = _note(change, plan, asked)
        if not plan.archived and not noted:
            assert change.draft is not None
            change.draft.discard()
            return told
        number = carry_out(change, plan.merges.merges, plan.disputes)
        return replace(told, applied=True, number=number)


def carry_out(change: Changing, merges: Sequence[merging.Merge], disputes: Sequence[Dispute] = ()) -> int:
    """Puts memories together, archives the losers of conflicts, and publishes that; the number of the version.

    Raises NotAllowed for what is not the actor's to change, frozen or held.
    """
    named = [identity for one in merges for identity in (one.id, *(each.id for each in one.absorbed))]
    named += [one.goes for one in disputes if one.stays]
    change.check(change.whole.take(named, columns=["id", *GUARDS]).to_pylist())
    now = frame.now()
    joined = merging.merge(change.whole, merges, now=now)
    lost = resolving.settle(change.whole, disputes, now=now)
    change.touched += list(dict.fromkeys([*joined, *lost]))
    mentioning.link(change.whole, change.path / PLAINTEXT, now=now)
    return change.commit({"merged": sum(len(one.absorbed) for one in merges), "resolved": len(lost)}).number


def _note(change: Changing, plan: _Plan, asked: _Asked) -> bool:
    """Has the links table tell of what is undecided, and of what somebody keeps both sides; whether that changed it."""
    from memos_cli.cube.plaintext import live_at

    directory = change.path / PLAINTEXT
    open_ = {frozenset(one.ids): one for one in plan.disputes if not one.stays}
    if not open_ and not (directory / links.FILE).exists():
        return False
    there = set(change.whole.rows(live_at(frame.now()), columns=["id"])["id"].to_pylist()) - set(plan.archived)
    judged = asked.verdicts.keys()
    found = {ends: links.JUDGE if ends in judged else links.TIDY for ends in open_ if ends <= there}
    kept = {ends: links.PERSON for ends, stays in asked.chosen.items() if not stays and ends in found}
    why = {ends: _WHY[one.conflict.kind] for ends, one in open_.items()} | dict.fromkeys(kept, "both stay")
    return linking.note_conflicts(
        directory, found, among=plan.rows.keys(), there=there, kept=kept, why=why,
        now=frame.now(), judged=judged, again=asked.again,
    )  # fmt: skip


def _check(resolve: str, ask: Ask | None, apply: bool) -> None:
    if resolve and resolve not in POLICIES:
        raise Usage(f"conflicts are resolved by {', '.join(POLICIES)}, found {resolve!r}")
    if resolve == ASK and (ask is None or not apply):
        raise Usage("conflicts are asked about when they are resolved", hint="memos tidy CUBE --resolve ask --apply")


def _judged(desk: Desk, cube: str | Path, asked: _Asked, wish: Judging | Judge, *, apply: bool) -> _Asked:
    """What is asked, with what a judge says of pairs; no writer waits for it."""
    with frame.reading(desk, cube, PLAN) as seen:
        seen.facts["dry_run"] = True
        if apply:
            seen.ask(CARRY_OUT)
        plan = _plan(seen, asked)
        verdicts, notes = judging.judge(wish, seen, plan.rows, plan.merges, plan.disputes, plan.vectors)
        seen.touched += sorted({identity for pair in verdicts for identity in pair})
        return replace(asked, verdicts=verdicts, notes=tuple(notes))


def _ask(desk: Desk, cube: str | Path, asked: _Asked, ask: Ask) -> dict[frozenset[str], str]:
    """What somebody decides about each conflict; nobody waits for the answers."""
    with frame.reading(desk, cube, PLAN) as seen:
        seen.facts["dry_run"] = True
        seen.ask(CARRY_OUT)
        plan = _plan(seen, replace(asked, resolve=""))
        open_ = (one for one in plan.disputes if len(one.fast) < 2 and not one.kept)  # noqa: PLR2004  sides
        told = [opposed(one, plan.rows, None) for one in open_]
    return {frozenset((one.one.id, one.other.id)): ask(one) for one in told}


def _plan(seen: Reading, asked: _Asked) -> _Plan:
    from memos_cli.cube.plaintext import both, live_at

    columns = [*_COLUMNS, *(["vector"] if "vector" in seen.whole.schema.names else [])]
    table = seen.memories.rows(both(live_at(frame.now()), asked.condition), columns=columns)
    vectors = _vectors(table) if "vector" in columns else None
    rows = {row["id"]: row for row in table.select(_COLUMNS).to_pylist()}
    notes, closed = [*asked.notes], ""
    try:
        seen.ask(CARRY_OUT)
        sight = seen.sight(CARRY_OUT)
        shut = {identity for identity, row in rows.items() if sight.why(row)}
        rows = {identity: row for identity, row in rows.items() if identity not in shut}
        notes += [f"{len(shut)} memories are not yours to change and are not compared"] if shut else []
    except NotAllowed as error:
        closed = error.message + (f"; {error.hint}" if error.hint else "")
    joined = merging.merges(rows.values(), vectors=vectors, verdicts=asked.verdicts)
    absorbed = {each.id for one in joined.merges for each in one.absorbed}
    left = [row for identity, row in rows.items() if identity not in absorbed]
    found = resolving.disputes(left, verdicts=asked.verdicts)
    kept = {} if asked.again else linking.decisions(seen.path / PLAINTEXT)
    decided = resolving.decide(found.disputes, rows, policy=asked.resolve, chosen=asked.chosen, kept=kept)
    plan = _Plan(rows, vectors, joined, decided, found.several, notes)
    plan.blocked = closed
    return plan


def _vectors(table: pa.Table) -> dict[str, np.ndarray]:
    """The vector of each memory that has one."""
    import numpy as np

    there = table.filter(table["vector"].is_valid())
    if not there.num_rows:
        return {}
    width = table.schema.field("vector").type.list_size
    flat = np.asarray(there["vector"].combine_chunks().flatten(), dtype=np.float32)
    return dict(zip(there["id"].to_pylist(), flat.reshape(-1, width), strict=True))


def _told(seen: Reading, cube: str, plan: _Plan, *, to: str, resolve: str) -> Tidied:
    shown = _shown(seen, plan, to)
    seen.touched += [identity for identity in dict.fromkeys(_named(plan)) if shown is None or identity in shown]
    rows = plan.rows
    merges = tuple(
        Joined(
            compared(rows[one.id], shown),
            tuple(SameAs(compared(rows[each.id], shown), each.how, _SAME[each.how]) for each in one.absorbed),
            merging.why_stays(rows[one.id], [rows[each.id] for each in one.absorbed]),
        )
        for one in plan.merges.merges
    )
    return Tidied(
        cube=cube, number=seen.version.number, applied=False, resolve=resolve, compared=len(rows), merges=merges,
        conflicts=tuple(opposed(one, rows, shown) for one in plan.disputes),
        left=tuple(
            Unjoined(compared(rows[one.one], shown), compared(rows[one.other], shown), one.how, _LEFT[one.why])
            for one in plan.merges.left
        ),
        several=plan.several, archived=plan.archived, blocked=plan.blocked, notes=tuple(plan.notes),
    )  # fmt: skip


def _named(plan: _Plan) -> list[str]:
    """Ids of all that the plan tells of."""
    joined = [identity for one in plan.merges.merges for identity in (one.id, *(each.id for each in one.absorbed))]
    pairs = [*(one.ids for one in plan.disputes), *((one.one, one.other) for one in plan.merges.left)]
    return [*joined, *(identity for pair in pairs for identity in pair)]


def _shown(seen: Reading, plan: _Plan, to: str) -> frozenset[str] | None:
    """The memories whose words may go where the plan goes; None for all."""
    return None if to == HERE else frozenset(seen.may_leave(set(_named(plan)), to).allowed)


def opposed(one: Dispute, rows: Mapping[str, Row], shown: Collection[str] | None) -> Opposed:
    """A dispute with both sides; without the words of memories that are not among `shown` (None for all)."""
    conflict = one.conflict
    open_to_all = shown is None or set(one.ids) <= set(shown)
    told = (conflict.subject, conflict.relation) if open_to_all else ("", "")
    says = (conflict.one.claim.said, conflict.other.claim.said) if open_to_all else ("", "")
    first, second = (compared(rows[identity], shown) for identity in one.ids)
    return Opposed(conflict.kind, *told, says, first, second, one.open, one.stays, one.goes, one.why, one.kept)


def compared(row: Row, shown: Collection[str] | None) -> Compared:
    """A row as it is compared, otherwise as `opposed`."""
    text = row["text"] if shown is None or row["id"] in shown else ""
    said: datetime | None = row["time"]
    return Compared(
        row["id"], text, place_of(row), said, row["created_at"], row["origin"], row["priority"], row["state"]
    )
