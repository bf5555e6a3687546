"""The verb `govern` of the Memory API: what a cube says of who may read, change and share it, and how long it lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from memos_cli.cube import metadata
from memos_cli.cube.metadata import Governance, Memcube
from memos_cli.cube.scopes import rank
from memos_cli.errors import NotAllowed, Usage
from memos_cli.infrastructure import declassified, policies
from memos_cli.infrastructure.declassified import Declassified
from memos_cli.interface import frame
from memos_cli.interface.editing import sign
from memos_cli.interface.frame import Changing
from memos_cli.interface.results import Changed


def govern(
    cube: str | Path,
    *,
    sensitivity: str | None = None,
    scopes: Mapping[str, str | None] | None = None,
    ttl_days: int | None = None,
    decay_days: int | None = None,
    hold: bool | None = None,
    freeze: bool | None = None,
    rules: str | Path | None = None,
    declassify: bool = False,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Changes what a cube says of itself; None leaves a thing as it is. `scopes` are by kind: read, write, share.

    `rules` is a file with a table `[access]`, which takes the place of that of the cube. `ttl_days` and `decay_days` of
    0 take the end away. A lower label needs `declassify` and a reason, and is signed. Raises NotAllowed for all but the
    owner and those whom a rule lets, Usage when nothing is asked, Damaged for a file that is not one of rules.
    """
    desk = frame.desk(home, notify)
    given = {"ttl_days": ttl_days, "decay_days": decay_days, "legal_hold": hold, "frozen": freeze}
    given = {name: value for name, value in given.items() if value is not None}
    access = policies.load(Path(rules), own=False) if rules is not None else None
    wanted = {name: scope for name, scope in (scopes or {}).items() if scope is not None}
    if sensitivity is not None:
        metadata.check_sensitivity(sensitivity)
    if not (given or wanted or sensitivity is not None or access is not None):
        raise Usage(
            "nothing to change: name memories, or say what the cube is to say of itself", hint=f"memos show {cube}"
        )
    if declassify and (given or wanted or access is not None or sensitivity is None or not reason.strip()):
        raise Usage("--declassify goes with --sensitivity LEVEL and --reason TEXT alone: one thing is signed at a time")
    verb = "declassify" if declassify else "govern"
    with frame.trying(desk, cube, verb, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        old = seen.cube.governance
        fresh = metadata.scoped(replace(old, **_typed(given)), **wanted)
        _check_level(seen.cube, sensitivity, declassify=declassify, place=str(cube))
        fresh = replace(fresh, sensitivity=sensitivity or fresh.sensitivity)
        meta = replace(seen.cube, governance=fresh, access=seen.cube.access if access is None else access)
        if meta == seen.cube:
            return Changed(str(cube), verb, seen.version.number, dry_run, (), "nothing is different")
        told = _told(old, fresh, rules=meta.access != seen.cube.access)
        if dry_run:
            return Changed(str(cube), verb, seen.version.number, True, (), f"would set {told}")
        assert isinstance(seen, Changing)
        if declassify:
            sign(desk, seen, ids=(), was=[old.sensitivity], to=fresh.sensitivity, reason=reason)
        number = seen.commit({"governed": told}, cube=meta).number
        return Changed(str(cube), verb, number, False, (), told)


def _typed(given: Mapping[str, int | bool | None]) -> dict[str, Any]:
    for name in ("ttl_days", "decay_days"):
        if (days := given.get(name)) is not None and days < 0:
            raise Usage(f"expected {name} of 0 (no end) or more, found {days}")
    return dict(given)


def _check_level(cube: Memcube, to: str | None, *, declassify: bool, place: str) -> None:
    level = cube.governance.sensitivity
    lower = to is not None and rank(to) < rank(level)
    if lower and not declassify:
        raise NotAllowed(
            f"{cube.name} is {level}, and a lower label is a declassification, which is signed",
            hint=f"memos edit {place} --sensitivity {to} --declassify --reason WHY",
        )
    if declassify and not lower:
        raise Usage(f"there is nothing to declassify: {cube.name} is {level}, which is not above {to}")


def _told(old: Governance, new: Governance, *, rules: bool) -> str:
    """What is different, in words."""
    names = [
        "sensitivity", "read_scope", "write_scope", "share_scope", "ttl_days", "decay_days", "legal_hold", "frozen",
    ]  # fmt: skip
    told = [f"{name} to {getattr(new, name)}" for name in names if getattr(new, name) != getattr(old, name)]
    return ", ".join([*told, *(["access rules"] if rules else [])])


def declassifications(
    cube: str | Path, *, home: Path | None = None, notify: frame.Notify | None = None
) -> list[Declassified]:
    """Every lowering of a label in this cube, oldest first, each with the key that signed it ("" where none did).

    Those that are about memories which the actor may not see are left out. Raises Damaged for a file that is none.
    """
    with frame.reading(frame.desk(home, notify), cube, "log") as seen:
        found = list(declassified.read(seen.path, cube_id=seen.rules.id))
        if not seen.shown:
            return found
        named = {identity for each in found for identity in each.memories}
        known = set(seen.memories.take(named, columns=["id"])["id"].to_pylist())
        return [each for each in found if set(each.memories) <= known]
