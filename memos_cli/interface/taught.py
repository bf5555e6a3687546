"""Adapters and who may use them: weights cannot be taken apart again, so they are for who may have all of it."""

from __future__ import annotations

from collections.abc import Collection

from memos_cli.cube import parameter
from memos_cli.errors import NotAllowed
from memos_cli.interface.frame import HERE, Reading
from memos_cli.operation import settle


def open_adapters(seen: Reading) -> frozenset[str] | None:
    """The adapters that were taught nothing but what the actor may see; None where that is all there is."""
    if not seen.shown:
        return None
    held = settle.readable(seen.path / parameter.FOLDER)
    taught = {identity for one in held for identity in one.memory_ids}
    known = set(seen.memories.take(taught, columns=["id"])["id"].to_pylist())
    return frozenset(one.name for one in held if one.memory_ids <= known)


def insist_adapters(seen: Reading, names: Collection[str], to: str = HERE) -> None:
    """Raises NotAllowed when one of these adapters was taught a memory that the actor may not have there."""
    table = seen.memories if to == HERE else seen.leaving(to)
    if not table.only:
        return
    for name in names:
        taught = parameter.read(seen.path / parameter.FOLDER, name).memory_ids
        there = seen.whole.take(taught, columns=["id"]).num_rows
        if there > table.take(taught, columns=["id"]).num_rows:
            raise NotAllowed(f"adapter {name} was taught memories that are not all yours to take to {to!r}")
