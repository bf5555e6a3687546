"""From what was decided about cubes to the moves of a plan, in the order in which they are made; pure but for a cache.

What has ended and what goes comes first, then what is made anew, then what is made, the best first. Training comes
after what is quick, and a table is written anew when all else is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.interface import teaching, wording
from memos_cli.interface.frame import HERE
from memos_cli.interface.planned import PlannedItem, PlannedMove
from memos_cli.interface.wording import ARCHIVE, COMPACT, DISCARD, DISTILL, EXPIRE, MERGE, REBUILD, RETEACH
from memos_cli.operation.policies import Setting, uses_to_come
from memos_cli.operation.schedule import DEMOTE, KEEP, PROMOTE, Candidate, Choice
from memos_cli.operation.teaching import judge

if TYPE_CHECKING:
    from memos_cli.interface.frame import Desk
    from memos_cli.interface.surveying import Surveyed
    from memos_cli.interface.tending import Wish
    from memos_cli.operation.lifecycle import Due
    from memos_cli.operation.rates import Rates

# Memories that are made together in one version at most, and those whose state is changed in one.
GROUP = 16
MOST_CHANGED = 5_000


@dataclass(frozen=True, slots=True)
class Decided:
    """Cubes as they were found, and what becomes of each of their memories; `folder` is the model's."""

    rates: Rates
    setting: Setting
    surveyed: tuple[Surveyed, ...]
    choices: tuple[Choice, ...]
    may_go: tuple[frozenset[str] | None, ...]
    folder: Path
    notes: list[str] = field(default_factory=list)

    def text_of(self, one: Candidate) -> str:
        """The words of a memory; none where they may not go where the plan goes."""
        there = next(each for each in self.surveyed if each.told.cube == one.cube)
        return self.shown(there, one.id, there.memories[one.id].text)

    def shown(self, there: Surveyed, identity: str, text: str) -> str:
        """The words of a memory of a cube, likewise."""
        allowed = self.may_go[self.surveyed.index(there)]
        return text if allowed is None or identity in allowed else ""


def moves_of(
    desk: Desk, decided: Decided, policy: str, to: str, wish: Wish, *, budget_seconds: float | None
) -> list[PlannedMove]:
    """What is decided as moves, one cube after another, training last."""
    moves: list[PlannedMove] = []
    for there in decided.surveyed:
        for over in _parts(there.over):
            moves.append(_expiring(there, over, to, number=len(moves) + 1))
        for kind in (MERGE, ARCHIVE):
            moves += _tended(decided, there, kind, first=len(moves) + 1)
        if wish.discard and there.outworn:
            moves.append(_discarding(decided, there, number=len(moves) + 1))
        for kind, chosen in _chosen(decided, there):
            for start in range(0, len(chosen), GROUP):
                part = chosen[start : start + GROUP]
                moves.append(_move(decided, there, kind, part, policy, number=len(moves) + 1))
    left = float("inf") if budget_seconds is None else budget_seconds - sum(move.seconds for move in moves)
    for there in decided.surveyed:
        for kind, items in _taught(desk, decided, there, wish):
            seconds = sum(item.seconds for item in items)
            if seconds > left:
                decided.notes.append(wording.no_time(there.told.cube, kind, seconds))
                continue
            left -= seconds
            moves.append(_whole(there, kind, items, number=len(moves) + 1))
    for there in decided.surveyed:
        moves += _tended(decided, there, COMPACT, first=len(moves) + 1)
    return moves


def _parts(every: Sequence[tuple[Due, str]]) -> Iterator[Sequence[tuple[Due, str]]]:
    return (every[start : start + MOST_CHANGED] for start in range(0, len(every), MOST_CHANGED))


def _chosen(decided: Decided, there: Surveyed) -> Iterator[tuple[str, list[Choice]]]:
    """The memories whose activation memory goes, is made anew and is made."""
    mine = [one for one in decided.choices if one.candidate.cube == there.told.cube]
    made = [one for one in mine if one.verdict == PROMOTE]
    unwanted = [one for one in mine if one.candidate.id in there.stale and one.verdict != PROMOTE]
    yield DEMOTE, [one for one in mine if one.verdict == DEMOTE] + unwanted
    yield REBUILD, [one for one in made if one.candidate.id in there.stale]
    yield PROMOTE, [one for one in made if one.candidate.id not in there.stale]


def _expiring(there: Surveyed, over: Sequence[tuple[Due, str]], to: str, *, number: int) -> PlannedMove:
    """What has outlived its time. It may go nowhere any more, so its words are told here only."""
    items = tuple(
        PlannedItem(one.id, text if to == HERE else "", wording.over(one), 0, 0.0, 0, 0.0, 0.0, 0.0)
        for one, text in over
    )
    return _whole(there, EXPIRE, items, number=number)


def _discarding(decided: Decided, there: Surveyed, *, number: int) -> PlannedMove:
    """What was made with other weights of the model."""
    rates = decided.rates
    items = tuple(
        PlannedItem(
            one, decided.shown(there, one, there.memories[one].text),
            wording.outworn(rates.model, left.weights, rates.weights), 0, 0.0, -left.bytes, 0.0, 0.0, 0.0,
        )
        for one, left in sorted(there.outworn.items())
    )  # fmt: skip
    return _whole(there, DISCARD, items, number=number)


def _tended(decided: Decided, there: Surveyed, kind: str, *, first: int) -> Iterator[PlannedMove]:
    """What is proposed of one kind for the texts of a cube."""
    items = [item for each in there.tended if each.kind == kind for item in each.items]
    for number, start in enumerate(range(0, len(items), MOST_CHANGED), first):
        part = items[start : start + MOST_CHANGED]
        told = tuple(replace(item, text=decided.shown(there, item.id, item.text)) for item in part)
        yield _whole(there, kind, told, number=number)


def _whole(there: Surveyed, kind: str, items: tuple[PlannedItem, ...], *, number: int) -> PlannedMove:
    return PlannedMove(
        number, kind, there.told.cube, wording.REASONS[kind], items, sum(one.bytes for one in items),
        sum(one.seconds for one in items), sum(one.saved_seconds for one in items),
    )  # fmt: skip


def _move(
    decided: Decided, there: Surveyed, kind: str, chosen: Sequence[Choice], policy: str, *, number: int
) -> PlannedMove:
    items = tuple(_item(decided, there, kind, one, policy) for one in chosen)
    making = 0.0 if kind == DEMOTE else decided.rates.group_seconds
    plain = _whole(there, kind, items, number=number)
    return replace(plain, seconds=plain.seconds + making)


def _item(decided: Decided, there: Surveyed, kind: str, choice: Choice, policy: str) -> PlannedItem:
    one = choice.candidate
    price, setting = one.standing.price, decided.setting
    coming = uses_to_come(one.standing, setting)
    stale = there.stale.get(one.id, 0)
    held = stale or (price.bytes if one.standing.held else 0)
    if kind == DEMOTE:
        size, seconds, saved = -held, 0.0, 0.0 if stale else -coming * price.saved_seconds
    else:
        size, seconds, saved = price.bytes - held, price.write_seconds, coming * price.saved_seconds
    return PlannedItem(
        one.id, decided.text_of(one), wording.why(choice, policy, setting, stale=bool(stale)), one.standing.uses,
        coming, size, seconds, price.saved_seconds, saved,
    )  # fmt: skip


def _taught(desk: Desk, decided: Decided, there: Surveyed, wish: Wish) -> Iterator[tuple[str, tuple[PlannedItem, ...]]]:
    """Adapters that are taught anew, each a move, and the group that pays as a new one."""
    stale = [one for one in there.adapters if one.stale]
    if not wish.distill:
        decided.notes.extend(
            f"adapter {one.name} of {there.told.cube} is stale, and --distill would teach it anew: {one.stale}"
            for one in stale
        )
        return
    weights, cube = decided.rates.weights, there.told.cube
    price = teaching.lesson_of(decided.folder, decided.rates, there.adapters)
    for one in stale:
        if teaching.was_refused(desk, weights, one.as_it_is):
            decided.notes.append(f"adapter {one.name} of {cube} fell short of its gates when it was taught anew")
        else:
            yield RETEACH, tuple(teaching.again([one], price))
    known = {identity for one in there.adapters for identity in one.memory_ids}
    mine = [one for one in decided.choices if one.candidate.cube == cube]
    verdict = judge(teaching.pupils(mine, decided.rates, decided.setting, without=known), price, decided.setting)
    if not verdict.pupils:
        return
    if not verdict.pays:
        decided.notes.append(wording.unpaid(cube, verdict, price))
    elif teaching.was_refused(desk, weights, [one.id for one in verdict.pupils]):
        decided.notes.append(f"{len(verdict.pupils)} memories of {cube} fell short of the gates when they were taught")
    else:
        texts = {one.candidate.id: decided.text_of(one.candidate) for one in mine}
        yield DISTILL, teaching.group_of(verdict, price, mine, texts)


def stays(decided: Decided, policy: str) -> dict[str, int]:
    """How many of the memories that were looked at stay as they are, by reason; the most first."""
    stale = {one for each in decided.surveyed for one in each.stale}
    still = (
        wording.brief(one, policy) for one in decided.choices
        if one.verdict not in (PROMOTE, DEMOTE) and not (one.verdict != KEEP and one.candidate.id in stale)
    )  # fmt: skip
    return dict(Counter(still).most_common())
