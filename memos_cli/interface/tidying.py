"""What has ended in a cube and is still there: a list of it, marking it so that it is in no window, and taking it out.

A memory that has ended is refused at once, by the clock. This is the tidy step: `memos gc` marks it as expired, and
`--prune` takes out what ended some days ago; `memos forget --where state=expired --purge` does so with proof.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from memos_cli.errors import Usage
from memos_cli.infrastructure import uses
from memos_cli.interface import embedding, frame, tables
from memos_cli.interface.frame import Changing, Desk, Reading
from memos_cli.operation import lifecycle
from memos_cli.operation.lifecycle import Due
from memos_cli.operation.rewindow import rewindow


def due(cube: str | Path, *, home: Path | None = None, notify: frame.Notify | None = None) -> list[Due]:
    """The memories of a cube that have ended and are not marked so, with why and since when."""
    with frame.reading(frame.desk(home, notify), cube, "gc") as seen:
        seen.facts["dry_run"] = True
        return due_in(seen)


def due_in(seen: Reading) -> list[Due]:
    """The same for a cube that is open."""
    decay = seen.rules.governance.decay_days
    used = uses.of_cube(seen.root, home=seen.desk.home, cube_id=seen.rules.id) if decay or _any_decays(seen) else {}
    rows = (row for part in seen.whole.batches(columns=lifecycle.COLUMNS, size=8192) for row in part)
    return list(lifecycle.due(rows, now=frame.now(), decay_days=decay, used=used))


def _any_decays(seen: Reading) -> bool:
    return "decay_days" in seen.whole.schema.names and seen.whole.count("decay_days > 0") > 0


def expire(
    desk: Desk,
    cube: str | Path,
    *,
    only: Collection[str] | None = None,
    reason: str = "what has ended",
    lock_timeout: float,
) -> tuple[str, ...]:
    """Marks what is due (of `only` these, when given) as expired, in a version of its own; the ids.

    Makes no version when nothing is.
    """
    with frame.changing(desk, cube, "gc", reason=reason, lock_timeout=lock_timeout) as change:
        over = [one for one in due_in(change) if only is None or one.id in only]
        if not over:
            assert change.draft is not None
            change.draft.discard()
            return ()
        ids = [one.id for one in over]
        _mark(change, over)
        sources = change.whole.take(ids, columns=["source"])["source"].to_pylist()
        encoder = embedding.for_cube(desk, change.whole.embedder, spec=None, cube=str(cube))
        rewindow(change.whole, sources, embedder=encoder)
        change.touched += ids
        change.commit({"expired": len(ids)})
        return tuple(ids)


def _mark(change: Changing, over: list[Due]) -> None:
    now = frame.now()
    rows = change.whole.take([one.id for one in over], columns=["id", "state", "legal_hold"]).to_pylist()
    for state, held in {(row["state"], row["legal_hold"]) for row in rows}:
        lifecycle.move(state, lifecycle.EXPIRED, held=held)
    change.whole.change([one.id for one in over], state=lifecycle.EXPIRED, updated_at=now)
    # what has faded has an end from now on, so that no window takes it in again
    change.whole.change([one.id for one in over if one.why == "decay"], expires_at=now)


def prune(
    desk: Desk, cube: str | Path, *, days: float, dry_run: bool = False, lock_timeout: float = 10.0
) -> tuple[str, ...]:
    """Takes out of the cube's rows what ended so many days ago or more, in a version of its own; the ids.

    That is what was marked as expired, superseded or archived by then; `memos query --as-of` does not find it any more,
    earlier versions do as long as they are kept. What is hidden, frozen or held stays. Raises Usage for negative days.
    """
    from memos_cli.operation.prune import ended_before
    from memos_cli.operation.prune import prune as take_out

    try:
        moment = frame.now() - timedelta(days=days)
    except (OverflowError, ValueError):
        moment = None
    if moment is None or days < 0:
        raise Usage(f"what is pruned ended 0 days ago or more, in this age of the world: found {days:g}")
    with frame.reading(desk, cube, "gc") as seen:
        seen.facts["dry_run"] = True
        tables.insist_here(seen.cube, "taking out what ended", path=cube)
        meant = tuple(seen.whole.rows(ended_before(seen.whole, moment), columns=["id"])["id"].to_pylist())
    if dry_run or not meant:
        return meant
    with frame.changing(desk, cube, "gc", reason="what ended is taken out", lock_timeout=lock_timeout) as change:
        gone = take_out(change.path, change.whole, moment)
        change.reopen()
        change.touched += gone
        change.commit({"pruned": len(gone)})
        return gone
