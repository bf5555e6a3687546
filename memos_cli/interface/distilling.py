"""The verb `distill` of the Memory API: memories into an adapter that answers about them without reading them.

Training takes long, so it is done on a version that is held and not under the writer's lock; what comes out is put into
the cube in one short change, if it passed its gates and its memories still say what was taught.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.cube import filters, parameter, parameter_stack
from memos_cli.errors import CheckFailed, NotFound, Usage
from memos_cli.interface import engines, frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.engines import HERE_ALONE, Engine, Opened
from memos_cli.interface.frame import Desk, Reading
from memos_cli.interface.models import open_model
from memos_cli.interface.publishing import about_of, content_of, publish
from memos_cli.interface.questioning import Writer, questions_by
from memos_cli.interface.results import DistillCost, Distilled, Lesson, Memory, Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memos_cli.operation.course import Course, Taught
    from memos_cli.operation.distill import Gates, Judged, Rows
    from memos_cli.operation.probes import Probe
    from memos_cli.operation.retention import Asking
    from memos_cli.operation.tutor import Tutor
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.model import LocalModel

Progress = Callable[[int, int | None, str], None]
# What else an adapter must reach, asked while it is on the model: what falls short, in words.
Demand = Callable[["Tutor"], Sequence[str]]
TEXT, KV = "text", "kv"
TEACHERS = (TEXT, KV)
DEFAULT_NAME = "facts"
# Weights cannot be taken apart by memory again: teaching is a destination of its own.
ADAPTER = "adapter"
WORK = "work"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for: which memories, into which adapter, how it is taught and what it must reach."""

    name: str
    on_top_of: str | None
    rank: int
    locality: float
    rate: float | None
    steps: int
    seed: int
    teacher: str
    anew: bool
    ungated: bool
    thorough: bool


@dataclass(slots=True)
class Run:
    """A model, the memories, and what is found out about them while one distillation goes on."""

    plan: Plan
    local: LocalModel
    tutor: Tutor
    made_with: Fingerprint
    memories: dict[str, Memory] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    requires: tuple[str, ...] = ()
    started: float = field(default_factory=perf_counter)


def distill(
    cube: str | Path,
    *,
    model: str = "nano",
    name: str = DEFAULT_NAME,
    where: str | None = None,
    ids: Sequence[str] = (),
    rank: int = 16,
    on_top_of: str | None = None,
    teacher: str = TEXT,
    locality: float = 3.0,
    rate: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    gates: Gates | None = None,
    demand: Demand | None = None,
    thorough: bool = False,
    replace_adapter: bool = False,
    publish_ungated: bool = False,
    writer: Writer | None = None,
    dry_run: bool = False,
    engine: Engine = HERE_ALONE,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Distilled:
    """Teaches memories of a cube to an adapter `name` for `model`: those `where` says, or `ids`, or all recalled now.

    Each is judged first: known already, to be distilled, or unteachable. An adapter that falls short of `gates`, or of
    a `demand`, which asks with the adapter on the model, is not published, and the result says so; `publish_ungated`
    keeps it, marked. A `thorough` training does not end while more of all its questions are wrong than the gate lets
    pass, which takes longer where little is taught. A `writer` writes more questions. `on_top_of` names one that it
    stands on. `engine` is where memories are judged; training is one program in this process. An interrupted training
    is gone on with by the same call. A dry run judges, and tells the questions and the cost. Raises NotFound for no
    memories or nothing to teach, Usage, WrongModel, NotAllowed, Locked, Damaged.
    """
    plan = _plan(
        name, on_top_of=on_top_of, rank=rank, locality=locality, rate=rate, steps=steps, seed=seed, teacher=teacher,
        anew=replace_adapter, ungated=publish_ungated, thorough=thorough,
    )  # fmt: skip
    condition = filters.to_sql(filters.parse(where)) if where else ""
    desk = frame.desk(home, notify)
    engine.settle()
    with frame.reading(desk, cube, "distill") as seen, engines.opened(engine, seen) as on:
        seen.facts |= {"form": "parameter", "model": model, "dry_run": dry_run}
        memories = list(chosen(seen, condition, ids, to=ADAPTER))
        seen.touched = [one.id for one in memories]
        on.permit_ids(seen.touched)
        if not memories:
            raise NotFound("expected memories to distil, found none", hint=f"memos list {cube}")
        on.on.soon()
        run = _open(desk, model, plan)
        run.memories = {one.id: one for one in memories}
        beneath = _beneath(seen, run)
        run.judged = _judge(run, memories, beneath, questions_by(writer, seen), progress, on, spec=model)
        course = _course(run, beneath, seen)
        if dry_run:
            return _told(run, cube, seen, cost=_price(run, course))
        work = _work(desk, seen, run, memories)
        with _taught(run, course, seen, work, progress) as taught:
            from memos_cli.operation.distill import Gates

            failures = (gates or Gates()).failures(taught.examined.figures)
            failures += demand(run.tutor) if demand else ()
            if failures and not plan.ungated:
                return _told(run, cube, seen, taught=taught, failures=failures)
            about = about_of(run, seen, taught, rate=course.recipe.rate, gated=not failures)
            number, size = publish(desk, cube, run, taught.adapted, about, reason=reason, lock_timeout=lock_timeout)
        shutil.rmtree(work, ignore_errors=True)
        return replace(
            _told(run, cube, seen, taught=taught, failures=failures), number=number, published=True, bytes=size
        )


def _plan(
    name: str, *, on_top_of: str | None, rank: int, locality: float, rate: float | None, steps: int | None, seed: int,
    teacher: str, anew: bool, ungated: bool, thorough: bool,
) -> Plan:  # fmt: skip
    from memos_cli.runtime.train import Recipe

    parameter.check_name(name)
    if teacher not in TEACHERS:
        raise Usage(f"expected a teacher of {' or '.join(TEACHERS)}, found {teacher!r}")
    if not 1 <= rank <= 512:
        raise Usage(f"expected a rank from 1 to 512, found {rank}")
    if not 0 <= locality <= 100:
        raise Usage(f"expected a locality from 0 to 100, found {locality:g}")
    if steps is not None and steps < 1:
        raise Usage(f"expected at least one step, found {steps}")
    if on_top_of == name:
        raise Usage(f"an adapter cannot stand on itself: --on-top-of {name}")
    if rate is not None and not 0 < rate < 1:
        raise Usage(f"expected a learning rate above 0 and below 1, found {rate:g}")
    return Plan(name, on_top_of, rank, locality, rate, steps or Recipe().steps, seed, teacher, anew, ungated, thorough)


def _open(desk: Desk, model: str, plan: Plan) -> Run:
    """The model, ready."""
    from memos_cli.operation.tutor import Tutor

    opened = open_model(desk, model)
    return Run(plan, opened.local, Tutor(opened.local.load(), opened.local.traits), opened.made_with)


def _beneath(seen: Reading, run: Run) -> tuple[parameter.Adapter, ...]:
    """The adapters that the new one stands on, checked to be of this model and fresh."""
    folder, plan = seen.path / parameter.FOLDER, run.plan
    if plan.name in parameter.names(folder):
        if not plan.anew:
            raise Usage(f"there is an adapter {plan.name} already", hint="--name ANOTHER, or --replace to make it anew")
        if higher := parameter_stack.above(folder, plan.name):
            raise Usage(f"{plan.name} carries {', '.join(higher)}, which would answer wrongly on a new one")
    if plan.on_top_of is None:
        return ()
    chain = parameter_stack.chain(folder, plan.on_top_of)
    for one in chain:
        parameter.check_model(one, name=run.local.name, hard=run.made_with.hard, soft=run.made_with.soft)
        if one.about.state != parameter.FRESH:
            raise CheckFailed(f"{one.name} is stale: {one.about.reason}", hint=f"memos distill CUBE --name {one.name}")
    run.requires = tuple(one.reference for one in chain)
    return chain


def _judge(
    run: Run, memories: Sequence[Memory], beneath: Sequence[parameter.Adapter],
    extra: Callable[[Any], Sequence[Probe]], progress: Progress | None, on: Opened, *, spec: str,
) -> list[Judged]:  # fmt: skip
    """What is to become of each, by what the model knows with those beneath. Raises NotFound for nothing to teach."""
    from memos_cli.operation.course import standing_on
    from memos_cli.operation.distill import DISTILLED, triage

    paths = [one.path for one in beneath]
    if on.far:
        judged = list(_judged_far(run, memories, paths, extra, progress, on, spec))
    else:
        with standing_on(run.tutor, paths):
            judged = triage(run.tutor, memories, seed=run.plan.seed, extra=extra, progress=progress)
    if not any(one.standing == DISTILLED for one in judged):
        reasons = sorted({one.why for one in judged})
        raise NotFound(
            f"none of {len(judged)} memories can be taught to {run.local.name}: {'; '.join(reasons)[:300]}",
            hint="memos query CUBE TEXT --answer reads them",
        )
    return judged


def _judged_far(
    run: Run, memories: Sequence[Memory], beneath: Sequence[Path], extra: Callable[[Any], Sequence[Probe]],
    progress: Progress | None, on: Opened, spec: str,
) -> Iterator[Judged]:  # fmt: skip
    """The same by the workers of an engine."""
    from memos_cli.operation import triaging

    spec = os.path.abspath(spec) if Path(spec).is_dir() else spec
    stands = tuple(os.path.abspath(one) for one in beneath)
    order = triaging.Order(spec, run.made_with.digest, stands, run.plan.seed, str(on.seen.desk.home))
    items = ((one, tuple(extra(one))) for one in memories)
    found = on.on.map(triaging.judge_one, items, setup=partial(triaging.set_up, order), gpu=True)
    with closing(found):
        for number, one in enumerate(found, 1):
            yield one
            if progress:
                progress(number, len(memories), "memories asked about")
    on.on.let_go()


def _course(run: Run, beneath: Sequence[parameter.Adapter], seen: Reading) -> Course:
    from memos_cli.operation.course import Course
    from memos_cli.runtime.train import Recipe, rate_for

    plan = run.plan
    recipe = Recipe(
        rank=plan.rank, alpha=2 * plan.rank, rate=plan.rate or rate_for(run.tutor.model.network), steps=plan.steps,
        locality=plan.locality, seed=plan.seed,
    )  # fmt: skip
    carried = _carried(run, {one.name for one in beneath}, seen) if beneath else {}
    return Course(
        recipe, beneath=tuple(one.path for one in beneath), carried=carried, thorough=plan.thorough
    )  # fmt: skip


def _carried(run: Run, names: Collection[str], seen: Reading) -> dict[str, list[Asking]]:
    """What these adapters were taught to answer, by split, as the cube keeps it."""
    from memos_cli.cube import probes

    found: dict[str, list[Asking]] = {}
    for one in probes.read(seen.path / frame.PLAINTEXT):
        if one.adapter in names:
            found.setdefault(one.split, []).append((run.tutor.bare(one.question), one.answer))
    return found


def _work(desk: Desk, seen: Reading, run: Run, memories: Sequence[Memory]) -> Path:
    """Where this very training keeps its checkpoints; that of another model, text or plan is another."""
    told = [
        seen.cube.id,
        run.made_with.digest,
        list(run.requires),
        asdict(run.plan),
        [content_of(one) for one in memories],
    ]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
    return desk.home / WORK / f"distill-{digest[:16]}"


@contextmanager
def _taught(run: Run, course: Course, seen: Reading, work: Path, progress: Progress | None) -> Iterator[Taught]:
    from memos_cli.operation.course import teach

    taught = teach(run.tutor, run.judged, course, teacher=_teacher(run, seen), folder=work, progress=progress)
    try:
        yield taught
    finally:
        taught.adapted.close()


def _teacher(run: Run, seen: Reading) -> Rows | None:
    """What the teacher reads: the text, or what is stored of it."""
    if run.plan.teacher == TEXT:
        return None
    from memos_cli.cube import activation
    from memos_cli.operation.activate import Activations
    from memos_cli.operation.distill import stored_rows

    reader = Activations(run.tutor.model, run.made_with)
    memories = {one.memory.id: one.memory for one in run.judged}
    return lambda asked: stored_rows(run.tutor, reader, memories, seen.path / activation.FOLDER, asked)


def _price(run: Run, course: Course) -> DistillCost:
    from memos_cli.operation.course import price

    found = price(run.tutor, run.judged, course)
    return DistillCost(
        round(found.seconds, 1), 4 * found.parameters, round(found.saved_seconds, 6), found.pays_after_uses
    )


def _told(
    run: Run,
    cube: str | Path,
    seen: Reading,
    *,
    taught: Taught | None = None,
    failures: Sequence[str] = (),
    cost: DistillCost | None = None,
) -> Distilled:
    """The result; nothing is published yet."""
    found = taught.examined if taught else None
    trained = taught.trained if taught else None
    return Distilled(
        cube=str(cube), number=seen.version.number, dry_run=cost is not None, name=run.plan.name, model=run.local.name,
        fingerprint=run.made_with.digest, requires=run.requires, rank=run.plan.rank,
        lessons=tuple(_lesson(one, found.memories if found else {}) for one in run.judged),
        pairs=tuple(_pairs(run.judged)) if cost is not None else (),
        figures=dict(found.figures) if found else {}, failures=tuple(failures), published=False,
        steps=trained.steps if trained else run.plan.steps, stopped=trained.stopped if trained else "",
        resumed=taught.resumed if taught else 0, bytes=0, seconds=round(perf_counter() - run.started, 3), cost=cost,
    )  # fmt: skip


def _lesson(one: Judged, after: dict[str, float]) -> Lesson:
    from memos_cli.operation.answer import line_of

    return Lesson(
        one.memory.id, line_of(one.memory), one.standing, one.why, len(one.asked), round(one.before, 3),
        after.get(one.memory.id),
    )  # fmt: skip


def _pairs(judged: Sequence[Judged]) -> Iterator[Pair]:
    for one in judged:
        for asked in one.asked:
            probe = asked.probe
            yield Pair(one.memory.id, probe.question, probe.answer, probe.kind, probe.split)
