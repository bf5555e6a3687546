"""The verb `schedule` of the Memory API: a plan of which memories should be in which form; nothing is changed.

Cubes are surveyed, a policy scores their memories, the scheduler decides within the budgets, and that becomes
moves (`planning.py`): each one version of one cube. `carrying.py` carries them out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from memos_cli.errors import NotFound, Usage
from memos_cli.interface import frame, wording
from memos_cli.interface.changes import find_memory
from memos_cli.interface.costing import rates_for
from memos_cli.interface.frame import HERE, Desk, Reading
from memos_cli.interface.planned import CostBasis, Explained, Planned, Step
from memos_cli.interface.planning import Decided, moves_of, stays
from memos_cli.interface.querying import check_cubes
from memos_cli.interface.surveying import Lens, Surveyed, survey
from memos_cli.interface.tending import NOTHING_MORE, Wish
from memos_cli.operation.policies import COST, Setting, policy_of
from memos_cli.operation.rates import Rates
from memos_cli.operation.schedule import Budget, choose


def schedule(
    cubes: Sequence[str | Path],
    *,
    policy: str = COST,
    model: str = "nano",
    budget_bytes: int | None = None,
    budget_seconds: float | None = None,
    rent: float = 5.0,
    estimate: bool = False,
    archive_days: float | None = None,
    merge: bool = False,
    distill: bool = False,
    discard: bool = False,
    to: str = HERE,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Planned:
    """What should be moved in these cubes, together within the budgets; nothing is changed.

    `model` is who reads the memories, `rent` the seconds that it is worth to keep a gigabyte for a day. Costs are
    measured on this machine the first time, unless `estimate` has them guessed. What changes what is recalled, or takes
    long, is planned when it is asked for: `archive_days` sets aside what nobody used for so long, `merge` puts together
    what says the same, `distill` teaches adapters, `discard` takes away what was made with other weights of the model.
    `carry_out` takes the result. Raises Usage for a policy that there
    is not, NotFound, NotAllowed.
    """
    _check(budget_bytes, budget_seconds, rent, archive_days)
    wish = Wish(archive_days, merge, distill, discard)
    desk = frame.desk(home, notify)
    rates = rates_for(desk, model, estimate=estimate)
    decided = _decide(
        desk, cubes, policy, model, rates, Setting(rent=rent), (budget_bytes, budget_seconds), to=to, wish=wish
    )  # fmt: skip
    moves = tuple(moves_of(desk, decided, policy, to, wish, budget_seconds=budget_seconds))
    before = sum(each.told.held_bytes + each.foreign_bytes for each in decided.surveyed)
    plan = Planned(
        id="", policy=policy, model=rates.model, costs=_basis(rates), half_life_days=decided.setting.half_life_days,
        horizon_days=decided.setting.horizon_days, budget_bytes=budget_bytes, budget_seconds=budget_seconds,
        cubes=tuple(each.told for each in decided.surveyed), moves=moves, stays=stays(decided, policy),
        bytes_before=before, bytes_after=before + wording.activation_bytes(moves),
        seconds=sum(move.seconds for move in moves), saved_seconds=sum(move.saved_seconds for move in moves),
        notes=(*wording.notes(decided.surveyed, rates, budget_bytes, moves), *decided.notes), applied=False,
        outcomes=(),
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
    _check(budget_bytes, budget_seconds, rent, None)
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


def _check(budget_bytes: int | None, budget_seconds: float | None, rent: float, archive_days: float | None) -> None:
    if budget_bytes is not None and budget_bytes < 0:
        raise Usage(f"a budget is 0 bytes or more, found {budget_bytes}")
    if budget_seconds is not None and not 0 <= budget_seconds < float("inf"):
        raise Usage(f"a budget is 0 seconds or more, found {budget_seconds:g}")
    if not 0 <= rent < float("inf"):
        raise Usage(f"a rent is 0 seconds or more, found {rent:g}")
    if archive_days is not None and not 1 <= archive_days < float("inf"):
        raise Usage(f"what is set aside was not used for 1 day or more, found {archive_days:g}")


def _decide(
    desk: Desk, cubes: Sequence[str | Path], policy: str, model: str, rates: Rates, setting: Setting,
    budgets: tuple[int | None, float | None], *, to: str, named: str = "",
    wish: Wish = NOTHING_MORE,
) -> Decided:  # fmt: skip
    from memos_cli.runtime.model import find
    from memos_cli.runtime.tokens import open_counter

    decides = policy_of(policy)
    names = check_cubes(desk, cubes)
    lens = Lens(rates, open_counter(model), setting, policy not in ("cost", "lru", "lfu", "decay"), wish)
    with ExitStack() as stack:
        seen = [stack.enter_context(frame.reading(desk, cube, "schedule")) for cube in cubes]
        asked = [
            find_memory(each, named, cube=name)["id"] if named else "" for each, name in zip(seen, names, strict=True)
        ]
        surveyed = [survey(each, name, lens, also=also) for each, name, also in zip(seen, names, asked, strict=True)]
        may_go = tuple(_may_go(each, told, to) for each, told in zip(seen, surveyed, strict=True))
        for each in seen:
            each.facts |= {"policy": policy, "model": rates.model}
    # one outlook decides about all of them; that of the cube with the longest log is known best
    longest = max(surveyed, key=lambda one: one.told.queries)
    setting = replace(
        setting, half_life_days=longest.half_life_days, log_days=longest.log_days, outlook=longest.outlook
    )
    budget = Budget(*budgets, taken_bytes=sum(_taken(one, wish) for one in surveyed))
    every = [candidate for one in surveyed for candidate in one.candidates]
    choices = tuple(choose(every, decides, setting, budget=budget))
    return Decided(rates, setting, tuple(surveyed), choices, may_go, find(model))


def _taken(one: Surveyed, wish: Wish) -> int:
    """Bytes of activation memory that are not ours to move."""
    return one.foreign_bytes - (one.outworn_bytes if wish.discard else 0)


def _may_go(seen: Reading, told: Surveyed, to: str) -> frozenset[str] | None:
    """Which memories may be told where the plan goes; None for all of them."""
    return None if to == HERE else frozenset(seen.may_leave(told.named, to).allowed)


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
