"""Activation memory made wherever there is a model: what a worker is told, what it holds and what it gives back.

All of it are plain values, so that any engine can carry them. A worker writes into a folder that nobody publishes from,
and whoever called it moves the file in: one that dies leaves nothing in a cube.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.errors import Usage, WrongModel
from memos_cli.operation.convert import Converter, Item, Made, Way

if TYPE_CHECKING:
    from memos_cli.runtime.model import Loaded


@dataclass(frozen=True, slots=True)
class Order:
    """A model by name, a way of making memory of it, and the folder it goes to."""

    spec: str
    way: Way
    made_at: str
    folder: str
    home: str


@dataclass(frozen=True, slots=True)
class Task:
    """A memory to make, the digest of the model that is meant, and what was found out of it for several together."""

    item: Item
    digest: str
    composed: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a worker holds: the model in memory, and the folder."""

    converter: Converter
    folder: Path


@dataclass(frozen=True, slots=True)
class Refused:
    """A memory that cannot be made this way, and why."""

    memory: str
    reason: str


def set_up(order: Order) -> Bench:
    """The model of an order, loaded. Raises NotFound, MissingExtra."""
    from memos_cli.infrastructure.identity import default_home

    home = Path(order.home)
    converter = open_converter(order.spec, order.way, order.made_at, home=home if home.is_dir() else default_home())
    return Bench(converter, Path(order.folder))


def open_converter(spec: str, way: Way, made_at: str, *, home: Path, loaded: Loaded | None = None) -> Converter:
    """A model by name (`loaded`, when it is in memory already), ready to make memory of this way."""
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel, find

    local = LocalModel(spec)
    model = loaded or local.load()
    return Converter(model, local.traits, fingerprint(model, find(spec), cache=home / "cache"), way, made_at)


def make(bench: Bench, task: Task) -> Made | Refused:
    """One file. A way of making them may have no room for this one, and have it for others.

    Raises WrongModel where the same name is another model.
    """
    found = bench.converter.fingerprint.digest
    if found != task.digest:
        raise WrongModel(
            f"a worker has another model {bench.converter.model.name}: {found}, not {task.digest}",
            hint="the same files and library versions on every node",
        )
    bench.converter.composed = task.composed
    try:
        return bench.converter.make(bench.folder, task.item)
    except Usage as error:
        return Refused(task.item.memory.id, error.message)
