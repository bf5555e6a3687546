"""What can be taught, found out by workers: each has the model in memory, and judges one memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from memos_cli.errors import WrongModel
from memos_cli.operation.convert import Kept
from memos_cli.operation.distill import Judged, judge
from memos_cli.operation.probes import Probe
from memos_cli.operation.tutor import Tutor


@dataclass(frozen=True, slots=True)
class Order:
    """A model by name and by digest, the adapters it stands on, and the seed of its questions."""

    spec: str
    digest: str
    beneath: tuple[str, ...]
    seed: int
    home: str


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker holds: the model as it is to be judged by, for as long as the worker lives."""

    tutor: Tutor
    seed: int
    standing: ExitStack


def set_up(order: Order) -> Seat:
    """The model of an order on its adapters. Raises WrongModel where its name means another model, NotFound."""
    from memos_cli.infrastructure.identity import default_home
    from memos_cli.operation.course import standing_on
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel

    local, home = LocalModel(order.spec), Path(order.home)
    loaded = local.load()
    found = fingerprint(loaded, local.folder, cache=(home if home.is_dir() else default_home()) / "cache").digest
    if found != order.digest:
        raise WrongModel(
            f"a worker has another model {order.spec}: {found}, not {order.digest}",
            hint="the same files and library versions on every node",
        )
    tutor, standing = Tutor(loaded, local.traits), ExitStack()
    standing.enter_context(standing_on(tutor, [Path(one) for one in order.beneath]))
    return Seat(tutor, order.seed, standing)


def judge_one(seat: Seat, item: tuple[Kept, Sequence[Probe]]) -> Judged:
    """What is to become of a memory; beside it are questions that somebody else wrote about it."""
    memory, extra = item
    return judge(seat.tutor, memory, extra, seed=seat.seed)
