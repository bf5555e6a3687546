"""The part of a self-test that has adapters taught again, each kept only when held-out wordings gain by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import parameter, parameter_stack
from memos_cli.errors import CheckFailed, MemosError
from memos_cli.infrastructure import vault
from memos_cli.interface.rebuilding import Rebuilding, rebuild, to_rebuild

if TYPE_CHECKING:
    from memos_cli.interface.frame import Desk
    from memos_cli.interface.self_testing import Bench, Told
    from memos_cli.operation.self_test import Asked
    from memos_cli.operation.tutor import Tutor

Progress = Callable[[int, int | None, str], None]
NO_BETTER = "held-out wordings are answered no better"
STAYS = ", and the old one stays"


@dataclass(slots=True)
class HeldOut:
    """Questions about what an adapter was taught that no training saw, by memory, and how likely it answers them.

    `after` is that of the new one, once it has been asked.
    """

    asked: Mapping[str, Sequence[Asked]]
    before: float
    after: float | None = None

    def __call__(self, tutor: Tutor) -> list[str]:
        """What stands against the adapter that is on the model now: nothing, when it answers them better."""
        chances = [tutor.chance([(one.question, one.answer) for one in each]) for each in self.asked.values()]
        self.after = round(sum(chances) / max(1, len(chances)), 4)
        return [] if self.after > self.before else [f"{NO_BETTER}, {self.after:.2f} where it was {self.before:.2f}"]


def carries(folder: Path, name: str) -> str:
    """Why an adapter cannot be made anew alone, where others stand on it."""
    above = parameter_stack.above(folder, name)
    return f"it carries {', '.join(above)}, which would answer wrongly on a new one" if above else ""


def teach_again(
    desk: Desk, cube: str | Path, bench: Bench, told: Told, *, lock_timeout: float, progress: Progress | None
) -> int:
    """Makes the adapters that fell short anew, one by one; a version for each that passes its gates and answers better.

    Says of each what came of it, and gives the number of the cube's version then.
    """
    for number, one in enumerate(told.repairs):
        held = told.short.get(one.id)
        if one.form != parameter.FOLDER or held is None:
            continue
        try:
            against = _teach(desk, cube, one.id, held, bench.model, lock_timeout=lock_timeout, progress=progress)
        except MemosError as error:
            against = [error.message]
        why = f"the new one falls short: {'; '.join(against)}{STAYS}" if against else ""
        told.repairs[number] = replace(one, after=held.after, kept=not against, why=why)
        if not against:
            told.forms = [replace(form, after=held.after) if form.name == one.id else form for form in told.forms]
    return vault.current_version(vault.locate(desk.path(cube))).number


def _teach(
    desk: Desk, cube: str | Path, name: str, held: HeldOut, model: str, *, lock_timeout: float,
    progress: Progress | None,
) -> Sequence[str]:  # fmt: skip
    """One of them; what it fell short of. Raises CheckFailed where nothing is left to teach, and as `distill`."""
    (plan,) = to_rebuild(cube, names=[name], model=model, home=desk.home).adapters
    if not plan.ids:
        raise CheckFailed("nothing of what it was taught may be taught now")
    # the same order of lessons gives the same adapter, and so may an end as soon
    anew = Rebuilding((replace(plan, seed=plan.seed + 1),))
    done = rebuild(
        cube, anew, demands={name: held}, thorough=True, reason="self-test", lock_timeout=lock_timeout, home=desk.home,
        notify=desk.notify, progress=progress,
    )  # fmt: skip
    return done.made[0].failures
