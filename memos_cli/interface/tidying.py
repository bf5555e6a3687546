"""What has ended in a cube and is still there: the list of it, and marking it so that it is purged and in no window.

A memory that has ended is refused at once, by the clock. This is the tidy step: `memos gc` marks it as expired, and
`memos forget --where state=expired --purge` takes it away.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from memos_cli.infrastructure import uses
from memos_cli.interface import embedding, frame
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
    change.whole.change([one.id for one in over], state=lifecycle.EXPIRED, updated_at=now)
    # what has faded has an end from now on, so that no window takes it in again
    change.whole.change([one.id for one in over if one.why == "decay"], expires_at=now)
