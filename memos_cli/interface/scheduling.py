"""The verb `schedule` of the Memory API: a plan of which memories should be in which form; nothing is changed.

Cubes are surveyed, a policy scores their memories, the scheduler decides within the budgets, and that becomes
moves: each one version of one cube. `carrying.py` carries them out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.errors import NotFound, Usage
from memos_cli.interface import frame, wording
from memos_cli.interface.changes import find_memory
from memos_cli.interface.costing import rates_for
from memos_cli.interface.frame import HERE, Desk, Reading
from memos_cli.interface.planned import CostBasis, Explained, Planned, PlannedItem, PlannedMove, Step
from memos_cli.interface.querying import check_cubes
from memos_cli.interface.surveying import Lens, Surveyed, survey
from memos_cli.interface.wording import EXPIRE, REBUILD
from memos_cli.operation.policies import COST, Setting, policy_of, uses_to_come
from memos_cli.operation.schedule import DEMOTE, KEEP, PROMOTE, Budget, Candidate, Choice, choose

if TYPE_CHECKING:
    from memos_cli.operation.lifecycle import Due
    from memos_cli.operation.rates import Rates

# Memories that are made together in one version at most, and that are marked as expired in one.
GROUP = 16
MOST_EXPIRED = 5_000


@dataclass(frozen=True, slots=True)
class _Decided:
    """Cubes as they were found, and what becomes of each of their memories."""

    rates: Rates
    setting: Setting
    surveyed: tuple[Surveyed, ...]
    choices: tuple[Choice, ...]
    may_go: tuple[frozenset[str] | None, ...]

    def cube_of(self, one: Candidate) -> Surveyed:
        return next(each for each in self.surveyed if each.told.cube == one.cube)

    def text_of(self, one: Candidate) -> str:
        """The words of a memory; none where they may not go where the plan goes."""
        place = next(number for number, each in enumerate(self.surveyed) if each.told.cube == one.cube)
        allowed = self.may_go[place]
        return self.surveyed[place].memories[one.id].text if allowed is None or one.id in allowed else ""


def schedule(
    cubes: Sequence[str | Path],
    *,
    policy: str = COST,
    model: str = "nano",
    budget_bytes: int | None = None,
    budget_seconds: float | None = None,
    rent: float = 5.0,
    estimate: bool = False,
    to: str = HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Planned:
    """What should be moved in these cubes, together within the budgets; nothing is changed.

    `model` is who reads the memories, `rent` the seconds that it is worth to keep a gigabyte for a day. Costs are
    measured on this machine the first time, unless `estimate` has them guessed. `carry_out` takes the result. Raises
    Usage for a policy that there is not, NotFound, NotAllowed.
    """
    _check(budget_bytes, budget_seconds, rent)
    desk = frame.desk(home, notify)
    rates = rates_for(desk, model, estimate=estimate)
    decided = _decide(
        desk, cubes, policy, model, rates, Setting(rent=rent), (budget_bytes, budget_seconds), to=to
    )  # fmt: skip
    moves = tuple(_moves(decided, policy, to))
    before = sum(each.told.held_bytes + each.foreign_bytes for each in decided.surveyed)
    plan = Planned(
        id="", policy=policy, model=rates.model, costs=_basis(rates), half_life_days=decided.setting.half_life_days,
        horizon_days=decided.setting.horizon_days, budget_bytes=budget_bytes, budget_seconds=budget_seconds,
        cubes=tuple(each.told for each in decided.surveyed), moves=moves, stays=_stays(decided, policy),
        bytes_before=before, bytes_after=before + sum(move.bytes for move in moves),
        seconds=sum(move.seconds for move in moves), saved_seconds=sum(move.saved_seconds for move in moves),
        notes=tuple(wording.notes(decided.surveyed, rates, budget_bytes, moves)), applied=False, outcomes=(),
    )  # fmt: skip
    return replace(plan, id=_id_of(plan))


def explain(
    cube: str | Path,
    memory: str,
    *,
    policy: str = COST,
    model: str = "nano",
    budget_bytes: int | None = None,
    budget_seconds: float | None = None,
    rent: float = 5.0,
    estimate: bool = False,
    to: str = HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Explained:
    """The arithmetic that decides about one memory, by its id or the start of one. Raises as `schedule`, NotFound."""
    _check(budget_bytes, budget_seconds, rent)
    desk = frame.desk(home, notify)
    rates = rates_for(desk, model, estimate=estimate)
    decided = _decide(
        desk, [cube], policy, model, rates, Setting(rent=rent), (budget_bytes, budget_seconds), to=to, named=memory
    )  # fmt: skip
    there = decided.surveyed[0]
    found = [one for one in decided.choices if one.candidate.id.startswith(memory)]
    if len(found) != 1:
        raise NotFound(f"memory {memory} of {cube} is not recalled now", hint=f"memos list {cube}")
    choice, one = found[0], found[0].candidate
    held = one.standing.held
    steps = tuple(Step(term.name, _finite(term.value), term.unit) for term in choice.score.terms)
    return Explained(
        cube=str(cube), id=one.id, text=decided.text_of(one), policy=policy, model=rates.model,
        form="activation" if held else "plaintext", tokens=there.tokens[one.id], uses=one.standing.uses,
        priority=one.priority, steps=steps, score=_finite(choice.score.value) or 0.0, verdict=choice.verdict,
        why=wording.why(choice, policy, decided.setting),
    )  # fmt: skip


def _check(budget_bytes: int | None, budget_seconds: float | None, rent: float) -> None:
    if budget_bytes is not None and budget_bytes < 0:
        raise Usage(f"a budget is 0 bytes or more, found {budget_bytes}")
    if budget_seconds is not None and not 0 <= budget_seconds < float("inf"):
        raise Usage(f"a budget is 0 seconds or more, found {budget_seconds:g}")
    if not 0 <= rent < float("inf"):
        raise Usage(f"a rent is 0 seconds or more, found {rent:g}")


def _decide(
    desk: Desk, cubes: Sequence[str | Path], policy: str, model: str, rates: Rates, setting: Setting,
    budgets: tuple[int | None, float | None], *, to: str, named: str = "",
) -> _Decided:  # fmt: skip
    from memos_cli.runtime.tokens import open_counter

    decides = policy_of(policy)
    names = check_cubes(desk, cubes)
    lens = Lens(rates, open_counter(model), setting, policy not in ("cost", "lru", "lfu", "decay"))
    with ExitStack() as stack:
        seen = [stack.enter_context(frame.reading(desk, cube, "schedule")) for cube in cubes]
        asked = [
            find_memory(each, named, cube=name)["id"] if named else "" for each, name in zip(seen, names, strict=True)
        ]
        surveyed = [survey(each, name, lens, also=also) for each, name, also in zip(seen, names, asked, strict=True)]
        may_go = tuple(_may_go(each, told, to) for each, told in zip(seen, surveyed, strict=True))
        for each in seen:
            each.facts |= {"policy": policy, "model": rates.model}
    # one half-life decides about all of them; that of the cube with the longest log is known best
    longest = max(surveyed, key=lambda one: one.told.queries)
    setting = replace(setting, half_life_days=longest.half_life_days, log_days=longest.log_days)
    budget = Budget(*budgets, taken_bytes=sum(one.foreign_bytes for one in surveyed))
    every = [candidate for one in surveyed for candidate in one.candidates]
    return _Decided(rates, setting, tuple(surveyed), tuple(choose(every, decides, setting, budget=budget)), may_go)


def _may_go(seen: Reading, told: Surveyed, to: str) -> frozenset[str] | None:
    """Which memories may be told where the plan goes; None for all of them."""
    return None if to == HERE else frozenset(seen.may_leave(list(told.memories), to).allowed)


def _moves(decided: _Decided, policy: str, to: str) -> list[PlannedMove]:
    """What is decided as moves: what has ended and what goes first, then what is made anew, then what is made, the best
    first."""
    moves: list[PlannedMove] = []
    for there in decided.surveyed:
        for start in range(0, len(there.over), MOST_EXPIRED):
            moves.append(_expiring(there, there.over[start : start + MOST_EXPIRED], to, number=len(moves) + 1))
        mine = [one for one in decided.choices if one.candidate.cube == there.told.cube]
        made = [one for one in mine if one.verdict == PROMOTE]
        anew = [one for one in made if one.candidate.id in there.stale]
        unwanted = [one for one in mine if one.candidate.id in there.stale and one.verdict != PROMOTE]
        gone = [one for one in mine if one.verdict == DEMOTE]
        fresh = [one for one in made if one.candidate.id not in there.stale]
        for kind, chosen in ((DEMOTE, gone + unwanted), (REBUILD, anew), (PROMOTE, fresh)):
            for start in range(0, len(chosen), GROUP):
                part = chosen[start : start + GROUP]
                moves.append(_move(decided, there, kind, part, policy, number=len(moves) + 1))
    return moves


def _expiring(there: Surveyed, over: Sequence[tuple[Due, str]], to: str, *, number: int) -> PlannedMove:
    """What has outlived its time. It may go nowhere any more, so its words are told here only."""
    items = tuple(
        PlannedItem(one.id, text if to == HERE else "", wording.over(one), 0, 0.0, 0, 0.0, 0.0, 0.0)
        for one, text in over
    )
    return PlannedMove(number, EXPIRE, there.told.cube, wording.REASONS[EXPIRE], items, 0, 0.0, 0.0)


def _move(
    decided: _Decided, there: Surveyed, kind: str, chosen: Sequence[Choice], policy: str, *, number: int
) -> PlannedMove:
    items = tuple(_item(decided, there, kind, one, policy) for one in chosen)
    making = 0.0 if kind == DEMOTE else decided.rates.group_seconds
    return PlannedMove(
        number, kind, there.told.cube, wording.REASONS[kind], items, sum(one.bytes for one in items),
        sum(one.seconds for one in items) + making, sum(one.saved_seconds for one in items),
    )  # fmt: skip


def _item(decided: _Decided, there: Surveyed, kind: str, choice: Choice, policy: str) -> PlannedItem:
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


def _stays(decided: _Decided, policy: str) -> dict[str, int]:
    """How many of the memories that were looked at stay as they are, by reason; the most first."""
    stale = {one for each in decided.surveyed for one in each.stale}
    still = (
        wording.brief(one, policy) for one in decided.choices
        if one.verdict not in (PROMOTE, DEMOTE) and not (one.verdict != KEEP and one.candidate.id in stale)
    )  # fmt: skip
    return dict(Counter(still).most_common())


def _basis(rates: Rates) -> CostBasis:
    points = rates.points
    return CostBasis(
        rates.kind, rates.machine, rates.made_at, tuple(one.tokens for one in points),
        tuple(one.bytes for one in points), tuple(one.write_seconds for one in points),
        tuple(one.plain_seconds for one in points), tuple(one.read_seconds for one in points),
    )  # fmt: skip


def _id_of(plan: Planned) -> str:
    """What a plan is called: the same cubes, asked the same way, with the same moves, give the same name."""
    told = [
        plan.policy, plan.model, plan.budget_bytes, plan.budget_seconds, [[one.id, one.digest] for one in plan.cubes],
        [[move.kind, move.cube, [item.id for item in move.items]] for move in plan.moves],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _finite(value: float) -> float | None:
    """A number as JSON has one; None for an infinite one."""
    return value if abs(value) < float("inf") else None
