"""Planning again and again, for cubes that are in use: every so often a plan, carried out when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from memos_cli.errors import CheckFailed, Locked, Usage
from memos_cli.interface import frame
from memos_cli.interface.carrying import Progress, carry_out, unfinished_plan
from memos_cli.interface.planned import Planned
from memos_cli.interface.scheduling import schedule
from memos_cli.operation.policies import COST


def watch(
    cubes: Sequence[str | Path],
    *,
    every_seconds: float,
    stop: Event,
    show: Callable[[Planned], None],
    apply: bool = False,
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
    to: str = frame.HERE,
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> int:
    """Plans every so many seconds until `stop` is set; how many plans were shown.

    `show` hears each plan that has moves and is not the one before. With `apply` it is carried out, and `stop` is
    looked at between moves. What another writer is at, or has changed in between, is left to the next round. Raises
    Usage, and as `schedule` does.
    """
    if not 0 < every_seconds < float("inf"):
        raise Usage(f"expected seconds above 0 between two looks, found {every_seconds:g}")
    desk = frame.desk(home, notify)
    shown, last = 0, ""
    while not stop.is_set():
        try:
            plan = unfinished_plan(cubes, home=home) if apply else None
            plan = plan or schedule(
                cubes, policy=policy, model=model, budget_bytes=budget_bytes, budget_seconds=budget_seconds, rent=rent,
                estimate=estimate, archive_days=archive_days, merge=merge, distill=distill, discard=discard, to=to,
                home=home, notify=notify,
            )  # fmt: skip
            if plan.moves and apply:
                plan = carry_out(
                    plan, model=model, lock_timeout=lock_timeout, stop=stop.is_set, home=home, notify=notify,
                    progress=progress,
                )  # fmt: skip
        except (Locked, CheckFailed) as error:
            desk.notify(f"{error.message}; looking again in {every_seconds:g} s")
        else:
            if plan.moves and plan.id != last:
                show(plan)
                shown, last = shown + 1, plan.id
        stop.wait(every_seconds)
    return shown
