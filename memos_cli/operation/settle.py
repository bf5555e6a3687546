"""What becomes of adapters and probes when memories change: a commit leaves none that says more than it should.

An adapter cannot be changed by row. So one that was taught a memory that is no longer in force goes stale with all that
stand on it, and its label and life follow those of the memories it still has. Works in the draft it was handed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import parameter, parameter_stack
from memos_cli.cube.parameter import Adapter, strictest
from memos_cli.errors import MemosError
from memos_cli.operation import lifecycle

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

PLAINTEXT, PROBES = "plaintext", "probes.lance"
# Memories in other states have no derived forms.
DERIVED_STATES = frozenset({"activated", "merged", "frozen", "archived"})
COLUMNS = ("id", "state", "valid_to", "sensitivity", "expires_at")

Row = Mapping[str, Any]


def settle(version: Path, memories: Memories, *, label: str) -> tuple[str, ...]:
    """Marks what is stale, raises labels and shortens lives, drops the probes of what is forgotten.

    `label` is the cube's, for rows without one. Returns the names of the adapters that have gone stale by this. One
    that cannot be read is left as it is: it is refused where it is used, and an audit tells.
    """
    _drop_probes(version / PLAINTEXT, memories)
    folder = version / parameter.FOLDER
    held = readable(folder)
    if not held:
        return ()
    rows = rows_of(memories, held)
    fresh = [one for one in held if one.about.state == parameter.FRESH]
    reasons = {one.name: why for one in fresh if (why := why_stale(one, rows))}
    for one in held:
        rights = rights_of(one, rows, label=label)
        if rights != one.about.rights:
            parameter.revise(folder, one.name, replace(one.about, rights=rights))
    marked = parameter_stack.mark(folder, readable(folder), reasons) if reasons else ()
    return tuple(name for name in marked if name in {one.name for one in fresh})


def readable(folder: Path) -> list[Adapter]:
    """The adapters in `folder` that can be read."""
    found = []
    for name in parameter.names(folder):
        try:
            found.append(parameter.read(folder, name))
        except MemosError:
            continue
    return found


def rows_of(memories: Memories, held: list[Adapter], *, columns: tuple[str, ...] = COLUMNS) -> dict[str, Row]:
    """The rows of all memories that these adapters were taught, by id."""
    wanted = {memory for one in held for memory in one.memory_ids}
    return {row["id"]: row for row in memories.take(wanted, columns=columns).to_pylist()}


def is_in_force(row: Row | None) -> bool:
    """Whether a memory may have derived forms."""
    return row is not None and row["valid_to"] is None and row["state"] in DERIVED_STATES


def why_stale(adapter: Adapter, rows: Mapping[str, Row]) -> str:
    """Why an adapter no longer says what its memories say; "" while it does."""
    lost = sorted(memory for memory in adapter.memory_ids if not is_in_force(rows.get(memory)))
    if not lost:
        return ""
    row = rows.get(lost[0])
    fate = "is gone" if row is None else "was superseded" if row["valid_to"] is not None else f"is {row['state']}"
    more = f", with {len(lost) - 1} more" if len(lost) > 1 else ""
    return f"memory {lost[0]} {fate}{more} of {len(adapter.memory_ids)}"


def rights_of(adapter: Adapter, rows: Mapping[str, Row], *, label: str) -> parameter.Rights:
    """Its rights by the memories it was taught as they are now: never a lower label or a longer life than before."""
    known = [rows[memory] for memory in adapter.memory_ids if memory in rows]
    old = adapter.about.rights
    sensitivity, expires = strictest(
        [old.sensitivity, *(row["sensitivity"] or label for row in known)],
        [old.expires, *(row["expires_at"] for row in known)],
    )
    # the file keeps whole seconds
    return replace(old, sensitivity=sensitivity, expires=expires.replace(microsecond=0) if expires else None)


def _drop_probes(directory: Path, memories: Memories) -> None:
    if not (directory / PROBES).is_dir():
        return
    from memos_cli.cube import probes

    asked = probes.memory_ids(directory)
    rows = memories.take(asked, columns=["id", "state"]).to_pylist()
    kept = {row["id"] for row in rows if row["state"] != lifecycle.FORGOTTEN}
    if lost := asked - kept:
        probes.delete(directory, memory_ids=lost)
