"""Small adapters of the default model that really know something, taught in seconds and without its gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from memos_cli.operation.tutor import Tutor
from memos_cli.runtime import adapter
from memos_cli.runtime.model import LocalModel
from memos_cli.runtime.train import Lessons, Recipe, Training, Turn, chances, target_of
from tests.bench.distill import as_written


@cache
def tutor() -> Tutor:
    """The default model, once for all tests."""
    local = LocalModel("nano")
    return Tutor(local.load(), local.traits)


def turn(question: str, answer: str) -> Turn:
    """A question with nothing before it, and its answer."""
    return Turn(tutor().bare(question), tutor().coded(answer))


def teach(
    folder: Path, told: Mapping[str, str], *, kept: Sequence[Turn] = (), beneath: Sequence[Path] = (), steps: int = 40,
    rate: float = 1e-2,
) -> Path:  # fmt: skip
    """An adapter in `folder` that answers these questions so; on what is `kept` it answers as before."""
    network: Any = tutor().model.network
    rows: list[Any] = []
    if kept and beneath:
        with adapter.attach(network, beneath):
            rows = list(chances(network, kept))
    elif kept:
        rows = list(chances(network, kept))
    targets = [target_of(one, row) for one, row in zip(kept, rows, strict=True)]
    with adapter.fresh(network, rank=4, seed=1, beneath=beneath) as made:
        taught = [as_written(turn(question, answer)) for question, answer in told.items()]
        recipe = Recipe(rank=4, alpha=8, rate=rate, steps=steps, batch=16, look_steps=steps)
        Training(network, Lessons(taught, neighbours=targets), recipe).run(lambda: 0.0, enough=2.0)
        adapter.save(made, folder, base="nano")
    return folder
