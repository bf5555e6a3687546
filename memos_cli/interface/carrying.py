"""Carrying out a plan, one version for each move, so that it can be stopped anywhere and gone on with.

A plan is written down before its first move, and how far it came after each. It is refused for a cube that has changed
otherwise since: what it was worked out for is not there any more. Each version says which move of which plan it is, so
that one that was made and not yet written down is known too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from memos_cli.errors import CheckFailed, Damaged, NotFound
from memos_cli.infrastructure import disk, faults, vault
from memos_cli.interface import frame
from memos_cli.interface.frame import Desk
from memos_cli.interface.performing import Order, perform
from memos_cli.interface.planned import CostBasis, Outcome, Planned, PlannedCube, PlannedItem, PlannedMove

FOLDER = "work"
DONE, BEFORE, NOTHING = "done", "before", "nothing"
# Plans that were written down and never carried out are kept, so many of them.
MOST_PLANS = 20
_ID = re.compile(r"[0-9a-f]{12}")
Progress = Callable[[int, int | None, str], None]


def keep_plan(plan: Planned, *, home: Path | None = None) -> Path:
    """Writes a plan down, so that this very plan can be carried out later, by its id; where it is.

    Without the words of memories: what is forgotten for good must not be left there.
    """
    desk = frame.desk(home)
    folder = desk.home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(desk, plan.id)
    if not path.exists():
        reached = {one.cube: one.digest for one in plan.cubes}
        _write(path, plan, reached, {})
    older = sorted(folder.glob("plan-*.json"), key=lambda one: one.stat().st_mtime_ns)
    for old in older[:-MOST_PLANS]:
        old.unlink(missing_ok=True)
    return path


def kept_plan(identity: str, *, home: Path | None = None) -> Planned:
    """A plan that was written down. Raises NotFound, Damaged."""
    return _read(_path(frame.desk(home), identity))[0]


def unfinished_plan(cubes: Sequence[str | Path], *, home: Path | None = None) -> Planned | None:
    """The plan for exactly these cubes that was begun and not finished, if it can still be gone on with."""
    desk = frame.desk(home)
    for path in sorted((desk.home / FOLDER).glob("plan-*.json"), key=lambda one: -one.stat().st_mtime_ns):
        with suppress(NotFound, Damaged, CheckFailed):
            plan, reached, done = _read(path)
            asked = {str(desk.path(cube)) for cube in cubes}
            if {str(desk.path(one.cube)) for one in plan.cubes} != asked or len(done) == len(plan.moves):
                continue
            where = dict(_reached(desk, plan, reached, done))
            if done or where != {one.cube: one.digest for one in plan.cubes}:
                return plan
    return None


def carry_out(
    plan: Planned,
    *,
    model: str = "nano",
    lock_timeout: float = 10.0,
    stop: Callable[[], bool] = lambda: False,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Planned:
    """The plan with what became of its moves; what an earlier run did is not done again.

    `model` is where the plan's model is, when it is no hub id. `stop` is asked before each move. Raises CheckFailed for
    a cube that has changed since the plan was made, and as `convert` does; what was done until then stays done.
    """
    desk = frame.desk(home, notify)
    path = keep_plan(plan, home=home)
    _, reached, done = _read(path)
    outcomes: list[Outcome] = [replace(one, state=BEFORE) for one in done.values()]
    for move in plan.moves:
        if move.number in done:
            continue
        if stop():
            break
        reached |= dict(_reached(desk, plan, reached, done))
        made_before = _made_before(desk, plan, move)
        outcome = made_before or _carry(desk, plan, move, model, lock_timeout=lock_timeout)
        done[move.number] = outcome
        outcomes.append(outcome)
        reached[move.cube] = vault.current_version(vault.locate(desk.path(move.cube))).digest
        faults.point("moved")
        _write(path, plan, reached, done)
        if progress:
            progress(len(done), len(plan.moves), "moves")
    if len(done) == len(plan.moves):
        path.unlink(missing_ok=True)
    return replace(plan, applied=True, outcomes=tuple(sorted(outcomes, key=lambda one: one.move)))


def _reached(
    desk: Desk, plan: Planned, reached: Mapping[str, str], done: Mapping[int, Outcome]
) -> Iterator[tuple[str, str]]:
    """The version of each cube, when it is the one that this plan came to. Raises CheckFailed for another."""
    for one in plan.cubes:
        version = vault.current_version(vault.locate(desk.path(one.cube)))
        own = version.manifest.parent == reached[one.cube] and version.manifest.reason.startswith(_mark(plan))
        if version.digest != reached[one.cube] and not own:
            expected, found = (digest.removeprefix("sha256:")[:12] for digest in (reached[one.cube], version.digest))
            raise CheckFailed(
                f"{one.cube} has changed since plan {plan.id} was made: expected version {expected}, found {found}",
                hint=f"memos schedule {one.cube} makes a new plan",
            )
        yield one.cube, version.digest


def _made_before(desk: Desk, plan: Planned, move: PlannedMove) -> Outcome | None:
    """What a run that was stopped before it could write it down made of this move."""
    version = vault.current_version(vault.locate(desk.path(move.cube)))
    if not version.manifest.reason.startswith(f"{_mark(plan)} move {move.number}:"):
        return None
    return Outcome(move.number, BEFORE, version.number, tuple(item.id for item in move.items), (), 0.0)


def _carry(desk: Desk, plan: Planned, move: PlannedMove, model: str, *, lock_timeout: float) -> Outcome:
    start = perf_counter()
    before = vault.current_version(vault.locate(desk.path(move.cube))).number
    reason = f"{_mark(plan)} move {move.number}: {move.reason}"
    made = perform(Order(desk, move, model, reason, lock_timeout))
    state = DONE if made.version > before else NOTHING
    return Outcome(move.number, state, made.version, made.ids, made.failing, round(perf_counter() - start, 3))


def _mark(plan: Planned) -> str:
    return f"plan {plan.id}"


def _path(desk: Desk, identity: str) -> Path:
    if not _ID.fullmatch(identity):
        raise NotFound(f"expected the id of a plan, 12 hex digits, found {identity[:40]!r}", hint="memos schedule CUBE")
    return desk.home / FOLDER / f"plan-{identity}.json"


def _write(path: Path, plan: Planned, reached: Mapping[str, str], done: Mapping[int, Outcome]) -> None:
    mute = tuple(replace(move, items=tuple(replace(item, text="") for item in move.items)) for move in plan.moves)
    told = {
        "plan": asdict(replace(plan, moves=mute)),
        "reached": dict(reached),
        "done": [asdict(one) for one in done.values()],
    }
    disk.write_bytes(path, json.dumps(told).encode(), durable=True)


def _read(path: Path) -> tuple[Planned, dict[str, str], dict[int, Outcome]]:
    """A plan, the version it came to of each cube, and the moves that are done."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        done = [Outcome(**{**one, "ids": tuple(one["ids"]), "failing": tuple(one["failing"])}) for one in told["done"]]
        return _plan_from(told["plan"]), dict(told["reached"]), {one.move: one for one in done}
    except FileNotFoundError as error:
        raise NotFound(
            f"no plan {path.stem.removeprefix('plan-')} is written down here", hint="memos schedule CUBE"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} does not read as a plan: {error}"[:300], hint=f"remove {path}") from error


def _plan_from(told: Mapping[str, Any]) -> Planned:
    moves = tuple(
        PlannedMove(**{**move, "items": tuple(PlannedItem(**item) for item in move["items"])}) for move in told["moves"]
    )
    basis: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in told["costs"].items()}
    costs = CostBasis(**basis)
    cubes = tuple(PlannedCube(**one) for one in told["cubes"])
    return Planned(
        **{**told, "costs": costs, "cubes": cubes, "moves": moves, "notes": tuple(told["notes"]), "outcomes": ()}
    )
