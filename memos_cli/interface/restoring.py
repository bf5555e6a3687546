"""The verb `rollback` of the Memory API: what was said in an earlier version, under the rules of today.

A rollback brings back memories, not who might see them then: labels, scopes, holds and ends stay as they are today, and
so does the record of what was declassified. It loses nothing that is frozen or under legal hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memos_cli.cube.scopes import GUARDS
from memos_cli.errors import Damaged, NotAllowed, Usage
from memos_cli.infrastructure import declassified, vault
from memos_cli.interface import embedding, frame
from memos_cli.interface.frame import PLAINTEXT, Changing
from memos_cli.interface.results import Changed
from memos_cli.operation import lifecycle
from memos_cli.operation.rewindow import rewindow

_KEPT = (*GUARDS, "legal_hold", "expires_at", "decay_days")
_RULED = " or ".join(
    [*(f"{name} != ''" for name in GUARDS), "legal_hold", "expires_at is not null", "state = 'frozen'"]
)


def rollback(
    cube: str | Path,
    number: int,
    *,
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Makes the content of an earlier version the newest one; nothing between is lost from the history.

    Who may see what is as it is today. Raises NotFound when the version is not kept, NotAllowed when something that is
    frozen or under legal hold would be lost.
    """
    desk = frame.desk(home, notify)
    message = f"the content of version {number}"
    if dry_run:
        with frame.reading(desk, cube, "rollback", version=number) as old:
            old.facts["dry_run"] = True
            before = vault.current_number(old.root)
        return Changed(str(cube), "rollback", before, True, (), f"would make {message} the newest")
    if number == vault.current_number(desk.path(cube)):
        raise Usage(f"version {number} is the current one already", hint=f"memos log {cube}")
    version = frame.restore(
        desk, cube, number, keep=lambda change: _keep(change, str(cube)), reason=reason, lock_timeout=lock_timeout
    )
    return Changed(str(cube), "rollback", version.number, False, (), f"version {version.number} has {message}")


def _keep(change: Changing, cube: str) -> None:
    """Puts the labels and ends of today on the memories that are there today and were then."""
    from memos_cli.cube.plaintext import Memories

    try:
        with vault.snapshot(change.root) as latest:
            declassified.carry(latest.path, change.path)
            columns = ["id", "state", "source", *_KEPT]
            ruled = Memories.open(latest.path / PLAINTEXT).rows(_RULED, columns=columns).to_pylist()
    except Damaged:
        return  # the way back from a damaged version, of which nothing can be kept
    then = change.whole.take([row["id"] for row in ruled], columns=["id", "state", "valid_to", "source", *_KEPT])
    before = {row["id"]: row for row in then.to_pylist()}
    for row in ruled:
        _refuse_loss(row, before.get(row["id"]))
    differ = [row for row in ruled if row["id"] in before and _labels(row) != _labels(before[row["id"]])]
    for row in differ:
        change.whole.change([row["id"]], **_labels(row))
    if differ:
        encoder = embedding.for_cube(change.desk, change.whole.embedder, spec=None, cube=cube)
        rewindow(change.whole, [before[row["id"]]["source"] for row in differ], embedder=encoder)


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _KEPT}


def _refuse_loss(row: dict[str, Any], then: dict[str, Any] | None) -> None:
    held = row["legal_hold"] or row["state"] == lifecycle.FROZEN
    if held and (then is None or then["valid_to"] is not None or then["state"] != row["state"]):
        raise NotAllowed(f"memory {row['id']} is frozen or under legal hold, and that version does not have it so")
