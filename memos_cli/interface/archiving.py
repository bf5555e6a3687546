"""Setting memories aside and taking them back: the moves into `archived` and out of it, for the verbs that make them.

What is archived is not recalled, and has no derived forms; `memos query --as-of` finds it at the times when it was true
and recalled. It comes back as it was, unless something that took its place is recalled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memos_cli.cube.scopes import GUARDS
from memos_cli.errors import Usage
from memos_cli.interface import embedding, frame
from memos_cli.interface.frame import PLAINTEXT, Changing, Desk, Reading
from memos_cli.operation import lifecycle, mentioning
from memos_cli.operation.absorbed import RESTORED
from memos_cli.operation.rewindow import rewindow

_READ = ("id", "state", "legal_hold", "source", "expires_at", "superseded_by", "superseded_as")


def set_aside(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that archive these memories. Raises NotAllowed for what is frozen or held, Usage for what cannot."""
    for row in rows:
        lifecycle.check_loss(row)
        if row["state"] == lifecycle.GENERATED:
            raise Usage(f"memory {row['id']} waits to be accepted, so it is not recalled", hint="memos edit --accept")
        lifecycle.move(row["state"], lifecycle.ARCHIVED, held=row["legal_hold"])
    return {"state": lifecycle.ARCHIVED, "valid_to": frame.now()}


def taken_back(
    seen: Reading, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any], *, cube: str
) -> dict[str, Any]:
    """The columns that recall archived memories again, as of now counted as used.

    Raises Usage for what is not archived, what has outlived its time and gets no other end, and what something that is
    recalled stands in the place of: both would be told. Not so what was archived as a duplicate or by a conflict: that
    was a judgement, and this is another.
    """
    for row in rows:
        if row["state"] != lifecycle.ARCHIVED:
            raise Usage(f"memory {row['id']} is {row['state']}, not archived")
        if row["valid_from"] is None:
            raise Usage(f"memory {row['id']} was written by a model and never accepted: it was never recalled")
        lifecycle.move(row["state"], lifecycle.ACTIVATED)
        if row["expires_at"] is not None and row["expires_at"] <= frame.now() and "expires_at" not in columns:
            raise Usage(
                f"memory {row['id']} outlived its time on {row['expires_at']:%Y-%m-%d}",
                hint=f"memos edit {cube} {row['id']} --restore --ttl DAYS, or --ttl 0 for no end",
            )
    _check_heirs(seen, rows, cube=cube)
    return {"state": lifecycle.ACTIVATED, **RESTORED, "last_used": frame.now()}


def _check_heirs(seen: Reading, rows: Sequence[Mapping[str, Any]], *, cube: str) -> None:
    from memos_cli.cube.plaintext import RECALLED

    heirs = {row["superseded_by"]: row["id"] for row in rows if row["superseded_by"] and not row["superseded_as"]}
    for heir in seen.whole.take(heirs, columns=["id", "state", "valid_to"]).to_pylist():
        if heir["valid_to"] is None and heir["state"] in RECALLED:
            raise Usage(
                f"{heir['id']} stands in the place of memory {heirs[heir['id']]}: both would be recalled",
                hint=f"memos edit {cube} {heir['id']} --archive, and then --restore",
            )


def archive(desk: Desk, cube: str | Path, ids: Sequence[str], *, reason: str, lock_timeout: float) -> tuple[str, ...]:
    """Archives those of these memories that are still recalled, in a version of its own; the ids.

    Makes no version when none is. Raises NotAllowed for what is frozen, held or not the actor's to change.
    """
    from memos_cli.cube.plaintext import RECALLED

    with frame.changing(desk, cube, "edit", reason=reason, lock_timeout=lock_timeout) as change:
        rows = change.memories.take(ids, columns=[*_READ, "valid_to", *GUARDS]).to_pylist()
        rows = [row for row in rows if row["valid_to"] is None and row["state"] in RECALLED]
        if not rows:
            assert change.draft is not None
            change.draft.discard()
            return ()
        change.check(rows)
        columns = set_aside(rows)
        gone = tuple(row["id"] for row in rows)
        change.touched += gone
        change.whole.change(gone, **columns, updated_at=frame.now())
        rewindow_sources(desk, change, [row["source"] for row in rows], cube=str(cube))
        mentioning.link(change.whole, change.path / PLAINTEXT, now=frame.now(), uris=(), ids=gone)
        change.commit({"archived": len(gone)})
        return gone


def rewindow_sources(desk: Desk, change: Changing, sources: Sequence[str], *, cube: str) -> None:
    """Neighbours of memories that came or went are found by the words that stand around them now."""
    encoder = embedding.for_cube(desk, change.whole.embedder, spec=None, cube=cube)
    rewindow(change.whole, sources, embedder=encoder)
