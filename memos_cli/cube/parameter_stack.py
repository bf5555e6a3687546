"""Adapters that stand on one another: what is beneath, what is above, what goes stale or goes away together.

An adapter that was trained on others answers wrongly without them, so they are put on from the lowest and taken away
from the highest. Knows no model.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from memos_cli.cube.parameter import Adapter, check_name, discard, names, read, revise
from memos_cli.cube.parameter_sidecar import FRESH, REASON_CHARACTERS, STALE, split
from memos_cli.errors import CheckFailed, NotFound, Usage


def mark_stale(folder: Path, memory_ids: Collection[str], reason: str) -> tuple[str, ...]:
    """Marks every adapter that one of these memories was taught to, and every layer above it; returns their names.

    A layer above was trained on what is beneath it, so it is of no use once that is made again. One that is stale
    already keeps its reason. Raises Damaged for an adapter that cannot be read, before anything is marked.
    """
    held = [read(folder, name) for name in names(folder)]
    return mark(folder, held, {one.name: reason for one in held if not one.memory_ids.isdisjoint(memory_ids)})


def mark(folder: Path, held: Collection[Adapter], reasons: Mapping[str, str]) -> tuple[str, ...]:
    """Marks the adapters named in `reasons` as stale, with those of `held` that stand on them; returns their names."""
    doomed = []
    for one in held:
        lower = sorted(reasons.keys() & {split(requirement)[0] for requirement in one.about.requires})
        if one.name in reasons:
            why = reasons[one.name]
        elif lower:
            why = f"{lower[0]} beneath it: {reasons[lower[0]]}"
        else:
            continue
        doomed.append(one.name)
        if one.about.state == FRESH:
            revise(folder, one.name, replace(one.about, state=STALE, reason=why[:REASON_CHARACTERS]))
    return tuple(sorted(doomed))


def above(folder: Path, name: str) -> tuple[str, ...]:
    """The names of the adapters that require `name`, the lowest first."""
    wanted = check_name(name)
    held = [read(folder, each) for each in names(folder)]
    found = [
        one for one in held if wanted in {requirement.partition("@")[0] for requirement in one.about.requires}
    ]  # an adapter names all that is beneath it, so none is missed
    return tuple(one.name for one in sorted(found, key=lambda one: (len(one.about.requires), one.name)))


def chain(folder: Path, name: str) -> tuple[Adapter, ...]:
    """The adapters to put on the model, from the lowest to `name`.

    Raises NotFound for one that is gone, CheckFailed for one that is no longer what was trained upon.
    """
    top = read(folder, name)
    below = []
    for requirement in top.about.requires:
        lower, wanted = split(requirement)
        if lower not in names(folder):
            raise NotFound(
                f"{name} stands on the adapter {lower}, found none", hint=f"memos distill CUBE --name {name}"
            )
        adapter = read(folder, lower)
        if adapter.id != wanted:
            raise CheckFailed(
                f"{name} was trained on {lower}@{wanted[:12]}, found {lower}@{adapter.id[:12]}",
                hint=f"memos distill CUBE --name {name} trains it anew",
            )
        below.append(adapter)
    return (*below, top)


def remove(folder: Path, name: str, *, with_above: bool = False) -> tuple[str, ...]:
    """Removes the adapter `name`, the last first: those above it too when told to. Returns the names that went.

    Raises NotFound, and Usage when others stand on it: they answer wrongly without what they were trained on.
    """
    path = folder / check_name(name)
    if not os.path.lexists(path):
        raise NotFound(f"no adapter {name}", hint="memos show CUBE")
    higher = above(folder, name)
    if higher and not with_above:
        raise Usage(
            f"{name} carries {', '.join(higher)}, which would answer wrongly without it",
            hint=f"remove {higher[-1]} first, or all of them",
        )
    gone = (*reversed(higher), name)
    for each in gone:
        discard(folder / each)
    with suppress(OSError):
        folder.rmdir()  # only an empty one goes
    return gone
