"""One verb over many cubes, several at a time: `audit`, `convert` and `schedule`, each cube by itself.

Every cube is a call of the Memory API of its own, in one of a few processes of Python's own pool; what goes wrong with
one is told of that one and stops no other. What comes back is in the order of the cubes. A process that dies (killed
for memory, say) takes down no other cube either: those it may have been at are done again, one at a time. Knows nothing
of what the verbs do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from memos_cli.errors import (
    CheckFailed,
    Damaged,
    Interrupted,
    MemosError,
    NotAllowed,
    NotFound,
    Partial,
    Usage,
)
from memos_cli.infrastructure.identity import default_home
from memos_cli.infrastructure.vault import Vault
from memos_cli.interface.interruption import Interruption

VERBS = ("audit", "convert", "schedule")
DONE, FINDINGS, DAMAGED, REFUSED, FAILED, INTERRUPTED = OUTCOMES = (
    "done", "findings", "damaged", "refused", "failed", "interrupted",
)  # fmt: skip
# A process takes about a second to begin: of these verbs it is worth it from so many cubes for each of them on.
WORTH = {"audit": 8, "schedule": 8, "convert": 1}
# Cubes that are given out before the first of them has ended, for each process.
AHEAD = 4
_DIED = "the process that worked on it died; it may have needed more memory than there is"
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True, slots=True)
class Each:
    """What became of one cube: `done`, `findings` of an audit, `damaged`, `refused` by governance, `failed`, or
    `interrupted`.

    `exit_code` is what the command would have ended in for it alone, `message` and `hint` what it would have said.
    `result` is what the command prints with --json for one cube; null where there is none.
    """

    cube: str
    outcome: str
    exit_code: int
    message: str
    hint: str
    seconds: float
    result: Any


@dataclass(frozen=True, slots=True)
class Summary:
    """How many cubes ended in which way, by how many processes, and what the command ends in."""

    summary: str
    cubes: int
    done: int
    findings: int
    damaged: int
    refused: int
    failed: int
    interrupted: int
    jobs: int
    seconds: float
    exit_code: int

    def told(self) -> str:
        """The same in words."""
        parts = [f"{getattr(self, name):,} {name}" for name in OUTCOMES if getattr(self, name)]
        return f"{self.cubes:,} cubes: {', '.join(parts) or 'nothing to do'}; {self.seconds:.1f} s"


def in_vault(home: Path | None = None) -> list[str]:
    """The names of the cubes of a home. Raises NotFound when there is none."""
    place = home or default_home()
    names = sorted(Vault(place).pointers())
    if not names:
        raise NotFound(f"no cube has a name in {place}", hint="memos ingest NAME SOURCE... makes one")
    return names


def over_many(
    verb: str,
    cubes: Sequence[str | Path],
    *,
    jobs: int | None = None,
    options: Mapping[str, Any] | None = None,
    home: Path | None = None,
    progress: Progress | None = None,
    interruption: Interruption | None = None,
) -> Iterator[Each]:
    """What becomes of each of the cubes, in their order; `options` go to the verb for each of them.

    `jobs` processes at a time (default: one a core, where there are cubes enough). Nothing a cube does raises; Usage is
    raised for a verb that is not of many cubes and for a cube that is named twice. An interruption ends what is being
    done, leaves no trace of it, and tells the rest as interrupted; an `interruption` that catches it makes sure of that
    also where it comes between two cubes.
    """
    if verb not in VERBS:
        raise Usage(f"expected {', '.join(VERBS)}, found {verb!r}")
    place = home or default_home()
    names = [str(cube) for cube in cubes]
    if len({os.path.realpath(Vault(place).path(name)) for name in names}) < len(names):
        raise Usage("expected each cube once, found one twice")
    order = Order(verb, dict(options or {}), place)
    stop = interruption or Interruption()
    try:
        with stop:
            order.prepare()
    except KeyboardInterrupt:
        yield from map(_interrupted, names)
        return
    count = jobs_for(verb, len(names), jobs)
    done = _alone(order, names, stop) if count == 1 else _beside(order, names, count, stop)
    for number, one in enumerate(done, 1):
        yield one
        if progress:
            progress(number, len(names), one.cube)


def jobs_for(verb: str, cubes: int, jobs: int | None) -> int:
    """How many processes work on so many cubes."""
    if jobs is not None:
        return max(1, min(jobs, cubes))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, cubes // WORTH[verb]))


def summed(verb: str, found: Sequence[Each], *, jobs: int | None, seconds: float) -> Summary:
    """The summary of all of them, of which so many `jobs` were asked for."""
    counts = {name: sum(one.outcome == name for one in found) for name in OUTCOMES}
    return Summary(
        summary=verb,
        cubes=len(found),
        jobs=jobs_for(verb, len(found), jobs),
        seconds=round(seconds, 3),
        exit_code=worst(found),
        **counts,
    )


def worst(found: Sequence[Each]) -> int:
    """What a command over many cubes ends in: damage goes before all; where some could be done and others not, it was
    done in part; where none could, the first reason tells; findings come last."""
    codes = [one.exit_code for one in found]
    for code in (Interrupted.exit_code, Damaged.exit_code):
        if code in codes:
            return code
    undone = [one.exit_code for one in found if one.outcome in (REFUSED, FAILED)]
    if undone:
        return undone[0] if len(undone) == len(found) else Partial.exit_code
    return CheckFailed.exit_code if CheckFailed.exit_code in codes else 0


@dataclass(frozen=True, slots=True)
class Order:
    """A verb with its options, for any cube of a home."""

    verb: str
    options: dict[str, Any]
    home: Path

    def prepare(self) -> None:
        """Does once what each process would do for itself. Raises what a first cube would."""
        from memos_cli.interface import frame

        desk = frame.desk(self.home)
        if self.verb == "schedule" and not self.options.get("estimate"):
            from memos_cli.interface.costing import rates_for

            rates_for(desk, self.options.get("model", "nano"), estimate=False)

    def carry_out(self, cube: str) -> Each:
        """What becomes of a cube; nothing is raised but an interruption."""
        begin = perf_counter()
        try:
            told = _WORK[self.verb](cube, self.options, self.home)
        except MemosError as error:
            told = _fallen(cube, error)
        except (OSError, RuntimeError, ValueError) as error:  # of the disk, or what Lance says of a table
            told = Each(cube, FAILED, 1, f"{type(error).__name__}: {error}"[:300], "", 0.0, None)
        return replace(told, seconds=round(perf_counter() - begin, 3))


def _fallen(cube: str, error: MemosError) -> Each:
    outcome = REFUSED if isinstance(error, NotAllowed) else DAMAGED if isinstance(error, Damaged) else FAILED
    return Each(cube, outcome, error.exit_code, error.message, error.hint or "", 0.0, None)


def _audit(cube: str, options: Mapping[str, Any], home: Path) -> Each:
    from memos_cli.interface.looking import audit

    found = audit(cube, home=home, **options)
    damage = [one for one in found.findings if one.severity == "damage"]
    warnings = [one for one in found.findings if one.severity == "warning"]
    if damage:
        first = damage[0]
        told = f"damaged in {len(damage)} {'place' if len(damage) == 1 else 'places'}: {first.message}"
        return Each(cube, DAMAGED, Damaged.exit_code, told, first.remedy, 0.0, found)
    if warnings:
        first = warnings[0]
        told = f"{len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'}: {first.message}"
        return Each(cube, FINDINGS, CheckFailed.exit_code, told, first.remedy, 0.0, found)
    return Each(cube, DONE, 0, f"sound: {found.files} files of {found.versions} versions", "", 0.0, found)


def _convert(cube: str, options: Mapping[str, Any], home: Path) -> Each:
    from memos_cli.interface.converting import convert

    done = convert(cube, home=home, **options)
    would = "would be converted" if done.dry_run else "converted"
    there = f", {len(done.kept)} there already" if done.kept else ""
    failing = f", {len(done.failing)} fail the gate" if done.failing else ""
    return Each(cube, DONE, 0, f"{len(done.made)} memories {would}{there}{failing}", "", 0.0, done)


def _schedule(cube: str, options: Mapping[str, Any], home: Path) -> Each:
    from memos_cli.interface.carrying import carry_out
    from memos_cli.interface.scheduling import schedule

    asked = dict(options)
    apply, lock_timeout = asked.pop("apply", False), asked.pop("lock_timeout", 10.0)
    plan = schedule([cube], home=home, **asked)
    if apply and plan.moves:
        plan = carry_out(plan, model=asked.get("model", "nano"), lock_timeout=lock_timeout, home=home)
    items = sum(len(move.items) for move in plan.moves)
    state = "carried out" if apply else "planned"
    told = f"{len(plan.moves)} moves of {items} memories {state}" if plan.moves else "nothing is worth moving now"
    return Each(cube, DONE, 0, told, "", 0.0, plan)


_WORK: dict[str, Callable[[str, Mapping[str, Any], Path], Each]] = {
    "audit": _audit, "convert": _convert, "schedule": _schedule,
}  # fmt: skip


def _alone(order: Order, names: Sequence[str], stop: Interruption) -> Iterator[Each]:
    """All of them in this process."""
    with _models_stay(order.verb):
        for number, name in enumerate(names):
            one = None
            try:
                with stop:
                    one = order.carry_out(name)
            except KeyboardInterrupt:
                yield one or _interrupted(name)
                yield from map(_interrupted, names[number + 1 :])
                return
            yield one


@contextmanager
def _models_stay(verb: str) -> Iterator[None]:
    """What converts keeps its model from one cube to the next."""
    if verb != "convert":
        yield
        return
    from memos_cli.runtime import model

    with model.kept():
        yield


def _interrupted(cube: str) -> Each:
    return Each(cube, INTERRUPTED, Interrupted.exit_code, "interrupted before it was done", "", 0.0, None)


# --- several processes ---


def _beside(order: Order, names: Sequence[str], jobs: int, stop: Interruption) -> Iterator[Each]:
    """The cubes by a pool of processes; the work of one that died is done again, a cube at a time."""
    waiting: deque[str] = deque(names)
    while waiting:
        given: deque[tuple[str, Future[Each]]] = deque()
        pool = _pool(order, min(jobs, len(waiting)))
        try:
            while waiting or given:
                while waiting and len(given) < AHEAD * jobs:
                    given.append((waiting[0], _give(pool, waiting[0])))
                    waiting.popleft()
                with stop:
                    given[0][1].result()
                yield given.popleft()[1].result()
        except BrokenProcessPool:
            pool.shutdown(wait=False, cancel_futures=True)
            for name, future in given:
                told = future.done() and not future.cancelled() and future.exception() is None
                yield future.result() if told else _by_itself(order, name, stop)
        except KeyboardInterrupt:
            _stop(pool)
            yield from (_ended(name, future) for name, future in given)
            yield from map(_interrupted, waiting)
            return
        except GeneratorExit:
            _stop(pool)
            raise
        else:
            pool.shutdown()


def _by_itself(order: Order, name: str, stop: Interruption) -> Each:
    """A cube in a process of its own, so that it can only take itself down."""
    if stop.came:
        return _interrupted(name)
    with _pool(order, 1) as pool:
        future = _give(pool, name)
        try:
            with stop:
                return future.result()
        except KeyboardInterrupt:
            _stop(pool)
            return _ended(name, future)
        except BrokenProcessPool:
            return Each(name, FAILED, 1, _DIED, "the same command for it alone, with --jobs 1", 0.0, None)


def _ended(name: str, future: Future[Each]) -> Each:
    """What became of a cube that was given out when the command was interrupted."""
    with suppress(BaseException):
        if future.done() and not future.cancelled():
            return future.result()
    return _interrupted(name)


def _pool(order: Order, jobs: int) -> ProcessPoolExecutor:
    # a process that is forked would inherit Lance's and torch's threads half way through what they do
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (order,))


def _give(pool: ProcessPoolExecutor, name: str) -> Future[Each]:
    """A cube for the pool; a process that begins hears of no interruption before it knows what to do about one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_work, name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(pool: ProcessPoolExecutor) -> None:
    """Interrupts what is being done, which then leaves no trace, and waits until it has ended."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in multiprocessing.active_children():
        if process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
    pool.shutdown(wait=True, cancel_futures=True)


_order: Order | None = None
_busy = _over = False


def _begin(order: Order) -> None:
    """What a process of the pool does first: an interruption ends what it is at, and nothing else."""
    global _order
    _order = order
    signal.signal(signal.SIGINT, _on_interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # models read with as many threads as there are cores: several processes would stand in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if order.verb == "convert":
        from memos_cli.runtime import model

        model.keep()


def _on_interrupt(number: int, where: object) -> None:
    global _over
    _over = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _busy:
        raise KeyboardInterrupt


def _work(name: str) -> Each:
    global _busy
    assert _order is not None
    if _over:  # it was given out before the interruption
        return _interrupted(name)
    _busy = True
    try:
        return _order.carry_out(name)
    except KeyboardInterrupt:
        return _interrupted(name)
    finally:
        _busy = False
