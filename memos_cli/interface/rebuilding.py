"""Adapters that have gone stale, made again from what their memories still are; and whether what went is gone.

Weights cannot be told to forget: taking a fact out by arithmetic takes others with it, and leaves it to be dug out. So
an adapter is taught anew without it, the chain above with it, and then asked for what was deleted: the model must find
it as unlikely as one that was never taught it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import parameter, parameter_stack, probes
from memos_cli.cube.probes import Probe
from memos_cli.errors import NotFound
from memos_cli.interface import frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.distilling import ADAPTER, Demand, distill
from memos_cli.interface.results import Distilled, Leak, Rebuilt

if TYPE_CHECKING:
    from memos_cli.cube.parameter import Adapter
    from memos_cli.interface.frame import Desk

Progress = Callable[[int, int | None, str], None]
# So much more likely than never taught may an answer be: what chance and rounding do.
EPSILON = 0.01


@dataclass(frozen=True, slots=True)
class Again:
    """How an adapter is made anew: its name, model, memories as far as they are recalled, and how it was made."""

    name: str
    model: str
    ids: tuple[str, ...]
    rank: int
    beneath: str | None
    locality: float
    seed: int


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """Adapters to be made anew, the lowest first, and questions whose answers must be gone from them then."""

    adapters: tuple[Again, ...]
    deleted: tuple[Probe, ...] = ()


def to_rebuild(
    cube: str | Path, *, names: Sequence[str] = (), without: Sequence[str] = (), model: str | None = None,
    home: Path | None = None,
) -> Rebuilding:  # fmt: skip
    """What `rebuild` will do: the stale adapters, or those in `names`, or those that were taught what is `without`.

    To be asked before those memories are deleted, for their questions go with them. `model` is where the adapters' is,
    when it is no hub id. Raises NotFound when there is nothing to make anew.
    """
    with frame.reading(frame.desk(home), cube, "distill") as seen:
        folder = seen.path / parameter.FOLDER
        held = [parameter.read(folder, name) for name in names or parameter.names(folder)]
        meant = {one.name for one in held if names or one.about.state == parameter.STALE}
        if without:
            meant = {one.name for one in held if not one.memory_ids.isdisjoint(without)}
            meant |= {higher for name in meant for higher in parameter_stack.above(folder, name)}
        live = {memory.id for memory in chosen(seen, "", (), to=ADAPTER)} - set(without)
        found = sorted((one for one in held if one.name in meant), key=lambda one: (len(one.about.requires), one.name))
        without = seen.memories.take(without, columns=["id"])["id"].to_pylist()
        asked = probes.read(seen.path / frame.PLAINTEXT, memory_ids=without) if without else []
        again = tuple(_again(seen, one, live, model) for one in found)
    if not again and not without:
        raise NotFound(f"expected stale adapters in {cube}, found none", hint=f"memos show {cube}")
    return Rebuilding(again, tuple(one for one in asked if one.adapter in meant))


def _again(seen: frame.Reading, one: Adapter, live: set[str], model: str | None) -> Again:
    recipe, below = one.about.recipe, one.about.requires
    ids = tuple(memory for memory in _heirs(seen, one, live) if memory in live)
    return Again(
        one.name, model or one.about.base.name, ids, one.config.rank, below[-1].partition("@")[0] if below else None,
        float(recipe.get("locality", 3.0)), int(recipe.get("seed", 0)),
    )  # fmt: skip


def _heirs(seen: frame.Reading, one: Adapter, live: set[str]) -> list[str]:
    """The memories of an adapter, each by what supersedes it now."""
    ids = [source.memory_id for source in one.about.sources]
    rows = seen.memories.take([memory for memory in ids if memory not in live], columns=["id", "superseded_by"])
    after = {row["id"]: row["superseded_by"] for row in rows.to_pylist() if row["superseded_by"]}
    return list(dict.fromkeys(after.get(memory, memory) for memory in ids))


def rebuild(
    cube: str | Path,
    plan: Rebuilding,
    *,
    demands: Mapping[str, Demand] | None = None,
    thorough: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Rebuilt:
    """Makes adapters anew from the memories they have left; one that has none left is removed.

    Each must pass its gates, and its demand where there is one by its name; the first that does not ends it, and a
    stale one that stays is not used. Then what was deleted is asked for. `thorough` and errors as of `distill`.
    """
    desk = frame.desk(home, notify)
    done: list[Distilled] = []
    removed: list[str] = []
    for one in plan.adapters:
        if not one.ids:
            _remove(desk, cube, one.name, reason=reason, lock_timeout=lock_timeout)
            removed.append(one.name)
            continue
        made = distill(
            cube, model=one.model, name=one.name, ids=one.ids, rank=one.rank, on_top_of=one.beneath,
            locality=one.locality, seed=one.seed, demand=(demands or {}).get(one.name), thorough=thorough,
            replace_adapter=True, reason=reason, lock_timeout=lock_timeout, home=home, notify=notify, progress=progress,
        )  # fmt: skip
        done.append(made)
        if not made.published:
            break
    return Rebuilt(str(cube), tuple(done), tuple(removed), tuple(_leaks(desk, cube, done, plan)))


def _remove(desk: Desk, cube: str | Path, name: str, *, reason: str, lock_timeout: float) -> None:
    with frame.changing(desk, cube, "distill", reason=reason, lock_timeout=lock_timeout) as change:
        if name not in parameter.names(change.path / parameter.FOLDER):
            return
        parameter_stack.remove(change.path / parameter.FOLDER, name, with_above=True)
        probes.delete(change.path / frame.PLAINTEXT, adapters=[name])
        change.facts |= {"form": "parameter", "adapter": name, "removed": True}
        change.commit({"removed": name})


def _leaks(desk: Desk, cube: str | Path, done: Sequence[Distilled], plan: Rebuilding) -> list[Leak]:
    """How likely the answers to deleted questions are with each new adapter, beside the model that was never taught."""
    from memos_cli.operation.tutor import Tutor
    from memos_cli.runtime import adapter
    from memos_cli.runtime.model import LocalModel

    leaks = []
    models = {one.name: one.model for one in plan.adapters}
    for made in done:
        asked = [one for one in plan.deleted if one.adapter == made.name]
        if not asked or not made.published:
            continue
        local = LocalModel(models[made.name])
        tutor = Tutor(local.load(), local.traits)
        never = tutor.chance([(one.question, one.answer) for one in asked])
        with frame.reading(desk, cube, "distill") as seen:
            chain = parameter_stack.chain(seen.path / parameter.FOLDER, made.name)
            with adapter.attach(tutor.model.network, [one.path for one in chain]):
                now = tutor.chance([(one.question, one.answer) for one in asked])
        leaks.append(Leak(made.name, len(asked), round(never, 6), round(now, 6), now <= never + EPSILON))
    return leaks
