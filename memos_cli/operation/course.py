"""One adapter from beginning to end: what must stay is noted down, it is taught, and it is examined.

The same for a new adapter, one on top of others, and one that is made again. Works on a model in memory and a folder
for checkpoints; what becomes of the adapter is decided by who asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from memos_cli.operation import distill, retention
from memos_cli.operation.distill import DISTILLED, TRIAL, Examined, Judged, Progress, Rows
from memos_cli.operation.probes import DEV, TEST, TRAIN
from memos_cli.operation.retention import Asking
from memos_cli.operation.tutor import Tutor
from memos_cli.runtime import adapter, train
from memos_cli.runtime.adapter import Adapted
from memos_cli.runtime.train import Recipe, Trained, Training, Turn

# Of the memories so many must be known in other wordings for the training to stop.
ENOUGH = 0.95
# What a price is found with.
TRIED_STEPS, FEW = 2, retention.Counts(reading=12, contrary=6, untaught=32)


@dataclass(frozen=True, slots=True)
class Course:
    """How an adapter is made.

    `beneath` are the folders of those it stands on, from the lowest, `carried` what these were taught to answer, by
    split: what it learns may not undo it. A `thorough` one goes on until all questions that are looked at count
    together as the gate counts them.
    """

    recipe: Recipe = Recipe()
    counts: retention.Counts = retention.Counts()
    beneath: tuple[Path, ...] = ()
    carried: Mapping[str, Sequence[Asking]] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    thorough: bool = False


@dataclass(frozen=True, slots=True)
class Taught:
    """An adapter that is on the model, how its training went and how it did; `resumed` is the step it went on from."""

    adapted: Adapted
    trained: Trained
    examined: Examined
    resumed: int


@dataclass(frozen=True, slots=True)
class Price:
    """What an adapter costs, from a few steps: seconds of all steps and parameters to keep, and what a use saves.

    `saved_seconds` are those of reading one memory's text, `stored_seconds` those of a stored cache of it; the uses
    are how often a memory must be asked for until its share of the training is earned back. None: never.
    """

    seconds: float
    parameters: int
    saved_seconds: float
    pays_after_uses: float | None


def teach(
    tutor: Tutor,
    judged: Sequence[Judged],
    course: Course,
    *,
    teacher: Rows | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Taught:
    """An adapter that was taught what `judged` says, on the model. The caller saves it, and takes it off by `close`.

    With a `folder` it goes on from what an interrupted run left there.
    """
    taught = [one for one in judged if one.standing == DISTILLED]
    kept, examination = _prepare(tutor, taught, course)
    with standing_on(tutor, course.beneath):
        lessons = distill.lessons(tutor, taught, kept, teacher=teacher)
    adapted = _fresh(tutor, course)
    try:
        training = Training(tutor.model.network, lessons, course.recipe, folder)
        training.restore()
        begun = training.step
        trained = training.run(
            lambda: distill.known_share(tutor, taught, thorough=course.thorough),
            enough=ENOUGH,
            progress=_told(progress, "steps"),
        )
        examined = distill.examine(tutor, examination)
        examined.figures[TRIAL] = distill.trial(tutor, taught)
        return Taught(adapted, trained, examined, begun)
    except BaseException:
        adapted.close()
        raise


def price(tutor: Tutor, judged: Sequence[Judged], course: Course) -> Price:
    """What `teach` will cost at most, from a few steps on few examples; leaves the model as it was."""
    taught = [one for one in judged if one.standing == DISTILLED]
    memories, probes = [one.memory for one in taught[:8]], [asked.probe for one in taught[:8] for asked in one.asked]
    with standing_on(tutor, course.beneath):
        kept = retention.kept(tutor, memories, probes, part=TRAIN, counts=FEW, seed=course.recipe.seed)
        lessons = distill.lessons(tutor, taught[:8], kept)
    reading = _seconds_saved(tutor, taught)
    with _fresh(tutor, course) as adapted:
        training = Training(tutor.model.network, lessons, course.recipe)
        size = sum(one.numel() for one in adapted.parameters())
        training.run(lambda: 0.0, enough=2.0, most=1)
        begin = perf_counter()
        training.run(lambda: 0.0, enough=2.0, most=1 + TRIED_STEPS)
        step = (perf_counter() - begin) / TRIED_STEPS
    seconds = step * course.recipe.steps
    each = seconds / max(1, len(taught))
    return Price(seconds, size, reading, each / reading if reading > 0 else None)


def _prepare(tutor: Tutor, taught: Sequence[Judged], course: Course) -> tuple[retention.Kept, distill.Exam]:
    memories, probes = [one.memory for one in taught], [asked.probe for one in taught for asked in one.asked]
    with standing_on(tutor, course.beneath):
        kept, held = (
            retention.kept(
                tutor, memories, probes, part=part, counts=course.counts, seed=course.recipe.seed,
                beneath=course.carried.get(part, ()),
            )
            for part in (TRAIN, TEST)
        )  # fmt: skip
        return kept, distill.exam(tutor, taught, held)


def standing_on(tutor: Tutor, folders: Sequence[Path]) -> Adapted | _Bare:
    """The model with the adapters that a new one stands on, while it lasts; raises as `adapter.attach`."""
    return adapter.attach(tutor.model.network, folders) if folders else _Bare()


class _Bare:
    """Nothing put on, nothing taken off."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _fresh(tutor: Tutor, course: Course) -> Adapted:
    recipe = course.recipe
    return adapter.fresh(
        tutor.model.network, rank=recipe.rank, alpha=recipe.alpha, targets=course.targets, seed=recipe.seed,
        beneath=course.beneath,
    )  # fmt: skip


def _seconds_saved(tutor: Tutor, taught: Sequence[Judged]) -> float:
    """What it takes longer to read a memory before its question than the question alone, as the middle of a few."""
    longer = []
    for one in [memory.asked[0] for memory in taught[:5] for _ in range(2)]:
        seconds = [_timed(tutor, prompt) for prompt in (one.reading, one.bare)]
        longer.append(seconds[0] - seconds[1])
    return max(0.0, sorted(longer)[len(longer) // 2]) if longer else 0.0


def _timed(tutor: Tutor, prompt: tuple[int, ...]) -> float:
    begin = perf_counter()
    list(train.chances(tutor.model.network, [Turn(prompt[:-1], prompt[-1:])]))
    return perf_counter() - begin


def _told(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(done, total, what)


def split_counts(judged: Sequence[Judged]) -> dict[str, int]:
    """How many questions there are of each split."""
    return {split: sum(len(one.of(split)) for one in judged) for split in (TRAIN, DEV, TEST)}
