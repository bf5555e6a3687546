"""An adapter into the cube: what is said of it, its files and its questions, in one short change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import parameter
from memos_cli.errors import CheckFailed
from memos_cli.interface import frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.frame import Changing, Desk, Reading
from memos_cli.interface.results import Memory

if TYPE_CHECKING:
    from memos_cli.interface.distilling import Run
    from memos_cli.operation.course import Taught
    from memos_cli.runtime.adapter import Adapted

LOSS = "KL(teacher with the memory || student without), with generic, reading and locality terms"


def content_of(one: Memory) -> str:
    """The digest of what a prompt shows of a memory."""
    from memos_cli.operation.answer import line_of

    found: str = parameter.content_of(line_of(one))
    return found


def about_of(run: Run, seen: Reading, taught: Taught, *, rate: float, gated: bool) -> parameter.About:
    """What is written beside the weights."""
    from memos_cli.operation.distill import DISTILLED

    plan, sources = run.plan, [run.memories[one.memory.id] for one in run.judged if one.standing == DISTILLED]
    labels = [one.sensitivity or seen.cube.governance.sensitivity for one in sources]
    label, expires = parameter.strictest(
        [*labels, seen.cube.governance.sensitivity], [one.expires_at for one in sources]
    )
    recipe = {
        "tool": "memos distill", "loss": LOSS, "teacher": plan.teacher, "rank": plan.rank,
        "steps": taught.trained.steps, "locality": float(plan.locality), "rate": rate, "seed": plan.seed,
        "stopped": taught.trained.stopped, "seconds": round(taught.trained.seconds, 1),
    }  # fmt: skip
    return parameter.About(
        kind=parameter.FACTS,
        base=parameter.Base(run.local.name, dict(run.made_with.hard), dict(run.made_with.soft)),
        rights=parameter.Rights(label, licence=seen.cube.licence, expires=expires),
        made_at=frame.now(),
        requires=run.requires,
        sources=tuple(
            parameter.Source(one.memory.id, seen.version.number, content_of(run.memories[one.memory.id]), one.standing)
            for one in run.judged
        ),
        recipe=recipe,
        metrics=taught.examined.figures,
        gated=gated,
    )


def publish(
    desk: Desk,
    cube: str | Path,
    run: Run,
    adapted: Adapted,
    about: parameter.About,
    *,
    reason: str,
    lock_timeout: float,
) -> tuple[int, int]:
    """Puts the adapter and its questions into the cube: the number of the version, and the adapter's bytes.

    Raises CheckFailed when what was taught has changed since.
    """
    with frame.changing(desk, cube, "distill", reason=reason, lock_timeout=lock_timeout) as change:
        _check_unchanged(change, about)
        from memos_cli.infrastructure import adapters

        folder = change.path / parameter.FOLDER
        adapter = adapters.store(adapted, folder, run.plan.name, about=about, anew=run.plan.anew)
        size = adapter.bytes
        _keep_probes(change, run)
        change.touched = [source.memory_id for source in about.sources]
        change.facts |= {"form": "parameter", "adapter": run.plan.name, "model": run.local.name}
        number = change.commit({"distilled": len(adapter.memory_ids), "adapter": run.plan.name}).number
        return number, size


def _check_unchanged(change: Changing, about: parameter.About) -> None:
    now = {one.id: content_of(one) for one in chosen(change, "", (), to="adapter")}
    taught = [source for source in about.sources if source.standing == parameter.DISTILLED]
    if changed := [source.memory_id for source in taught if now.get(source.memory_id) != source.content]:
        raise CheckFailed(
            f"{len(changed)} memories have changed while they were taught, such as {changed[0]}; nothing was written",
            hint="the same command again teaches what they say now",
        )


def _keep_probes(change: Changing, run: Run) -> None:
    """The adapter's questions beside the memories: what a load, a fusion and a rebuild are tested with."""
    from memos_cli.cube import probes
    from memos_cli.cube.probes import Probe

    place, moment = change.path / frame.PLAINTEXT, frame.now()
    probes.delete(place, adapters=[run.plan.name])
    made = (
        Probe(
            memory_id=one.memory.id, adapter=run.plan.name, question=asked.probe.question,
            answer=run.tutor.text(asked.answer), kind=asked.probe.kind, split=asked.probe.split,
            content=content_of(run.memories[one.memory.id]), created=moment,
        )
        for one in run.judged
        for asked in one.asked
    )  # fmt: skip
    probes.append(place, made)
