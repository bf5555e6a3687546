"""Adapters that have gone stale, made again from what their memories still are; and whether what went is gone.

Weights cannot be told to forget: taking a fact out by arithmetic takes others with it, and leaves it to be dug out. So
an adapter is taught anew without it, the chain above with it, and then asked for what was deleted: the model must find
it as unlikely as one that was never taught it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import parameter, parameter_stack, probes
from memos_cli.errors import NotFound
from memos_cli.interface import frame
from memos_cli.interface.converting import chosen
from memos_cli.interface.distilling import distill
from memos_cli.interface.results import Distilled, Leak, Rebuilt

if TYPE_CHECKING:
    from memos_cli.cube.parameter import Adapter
    from memos_cli.cube.probes import Probe
    from memos_cli.interface.frame import Desk

Progress = Callable[[int, int | None, str], None]
# So much more likely than never taught may an answer be: what chance and rounding do.
EPSILON = 0.01


def questions_about(cube: str | Path, ids: Sequence[str], *, home: Path | None = None) -> list[Probe]:
    """The questions that adapters were taught about these memories; to be kept while the memories are deleted."""
    with frame.reading(frame.desk(home), cube, "show") as seen:
        seen.touched = list(ids)
        return [one for one in probes.read(seen.path / frame.PLAINTEXT, memory_ids=ids) if one.adapter]


def rebuild(
    cube: str | Path,
    *,
    names: Sequence[str] = (),
    model: str | None = None,
    deleted: Sequence[Probe] = (),
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
    progress: Progress | None = None,
) -> Rebuilt:
    """Makes the stale adapters of a cube anew, the lowest first, from the memories they have left; or those in `names`.

    `model` is where theirs is, when it is no hub id. One whose memories are all gone is removed. Each must pass its
    gates; the first that does not ends it and leaves the stale one, which is not used. Then the `deleted` questions are
    asked. Raises NotFound when nothing is stale.
    """
    desk = frame.desk(home, notify)
    stale = _stale(desk, cube, names)
    done: list[Distilled] = []
    removed: list[str] = []
    for name in stale:
        one, live = _now(desk, cube, name)
        if not live:
            _remove(desk, cube, name, reason=reason, lock_timeout=lock_timeout)
            removed.append(name)
            continue
        recipe, below = one.about.recipe, one.about.requires
        made = distill(
            cube, model=model or one.about.base.name, name=name, ids=live, rank=one.config.rank,
            on_top_of=below[-1].partition("@")[0] if below else None, locality=float(recipe.get("locality", 3.0)),
            seed=int(recipe.get("seed", 0)), replace_adapter=True, reason=reason, lock_timeout=lock_timeout, home=home,
            notify=notify, progress=progress,
        )  # fmt: skip
        done.append(made)
        if not made.published:
            break
    return Rebuilt(str(cube), tuple(done), tuple(removed), tuple(_leaks(desk, cube, done, deleted)))


def _stale(desk: Desk, cube: str | Path, names: Sequence[str]) -> list[str]:
    with frame.reading(desk, cube, "distill") as seen:
        folder = seen.path / parameter.FOLDER
        held = [parameter.read(folder, name) for name in names or parameter.names(folder)]
        found = [one for one in held if names or one.about.state == parameter.STALE]
    if not found:
        raise NotFound(f"expected stale adapters in {cube}, found none", hint=f"memos show {cube}")
    return [one.name for one in sorted(found, key=lambda one: (len(one.about.requires), one.name))]


def _now(desk: Desk, cube: str | Path, name: str) -> tuple[Adapter, list[str]]:
    """An adapter, and which of its memories are recalled still."""
    with frame.reading(desk, cube, "distill") as seen:
        one = parameter.read(seen.path / parameter.FOLDER, name)
        live = {memory.id for memory in chosen(seen, "", ())}
        heirs = _heirs(seen, one, live)
    return one, [memory for memory in heirs if memory in live]


def _heirs(seen: frame.Reading, one: Adapter, live: set[str]) -> list[str]:
    """The memories of an adapter, each by what supersedes it now."""
    ids = [source.memory_id for source in one.about.sources]
    rows = seen.memories.take([memory for memory in ids if memory not in live], columns=["id", "superseded_by"])
    after = {row["id"]: row["superseded_by"] for row in rows.to_pylist() if row["superseded_by"]}
    return list(dict.fromkeys(after.get(memory, memory) for memory in ids))


def _remove(desk: Desk, cube: str | Path, name: str, *, reason: str, lock_timeout: float) -> None:
    with frame.changing(desk, cube, "distill", reason=reason, lock_timeout=lock_timeout) as change:
        parameter_stack.remove(change.path / parameter.FOLDER, name, with_above=True)
        probes.delete(change.path / frame.PLAINTEXT, adapters=[name])
        change.facts |= {"form": "parameter", "adapter": name, "removed": True}
        change.commit({"removed": name})


def _leaks(desk: Desk, cube: str | Path, done: Sequence[Distilled], deleted: Sequence[Probe]) -> list[Leak]:
    """How likely the answers to deleted questions are with each new adapter, beside the model that was never taught."""
    from memos_cli.operation.tutor import Tutor
    from memos_cli.runtime import adapter
    from memos_cli.runtime.model import LocalModel

    leaks = []
    for made in done:
        asked = [one for one in deleted if one.adapter == made.name]
        if not asked or not made.published:
            continue
        local = LocalModel(made.model)
        tutor = Tutor(local.load(), local.traits)
        never = tutor.chance([(one.question, one.answer) for one in asked])
        with frame.reading(desk, cube, "distill") as seen:
            chain = parameter_stack.chain(seen.path / parameter.FOLDER, made.name)
            with adapter.attach(tutor.model.network, [one.path for one in chain]):
                now = tutor.chance([(one.question, one.answer) for one in asked])
        leaks.append(Leak(made.name, len(asked), round(never, 6), round(now, 6), now <= never + EPSILON))
    return leaks
