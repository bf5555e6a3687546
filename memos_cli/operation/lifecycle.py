"""MemLifecycle: the states of a memory, and which of them follows which.

A finite state machine (MemOS, arXiv 2507.03724, section 5.4). The paper has generated, activated, merged and
archived, and a frozen state for what must not be touched; a memory here can also outlive its time (expired) and be
forgotten.

    generated   a model wrote it; not recalled until somebody accepts it
    activated   recalled
    merged      stands for several memories that were put together; recalled
    archived    was true once, or was set aside: superseded, its source is gone, or nobody used it; recalled only as of
                a past time
    frozen      recalled, and kept from every other state until it is thawed
    expired     outlived its time to live; not recalled
    forgotten   hidden from every query of any time; only a rollback of the whole cube brings it back

A memory ends when its time to live is over (`expires_at`), or when it has faded: it is worth 1 plus its uses, half of
that each `decay_days` after it was made or last used, and under an eighth it has faded. So a memory that nobody uses
lives three times `decay_days`, and each doubling of its uses gives it one time more. Each step of priority doubles all
of that: at priority 9 it fades 512 times as slowly. (A time to live is a promise that it goes, and knows no priority.)
What is frozen or under legal hold does not end, and no move takes it away. What has ended is refused at once; `due`
lists it for those who tidy up.

Says what may follow; knows nothing of tables, and nothing of who may ask for it (that is governance).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from memos_cli.errors import NotAllowed, Usage

GENERATED, ACTIVATED, MERGED, ARCHIVED = "generated", "activated", "merged", "archived"
FROZEN, EXPIRED, FORGOTTEN = "frozen", "expired", "forgotten"

# A memory that was never accepted can only be accepted or end: merging it would be a way round the acceptance.
MOVES = MappingProxyType({
    GENERATED: (ACTIVATED, ARCHIVED, EXPIRED, FORGOTTEN),
    ACTIVATED: (MERGED, ARCHIVED, FROZEN, EXPIRED, FORGOTTEN),
    MERGED: (ACTIVATED, ARCHIVED, FROZEN, EXPIRED, FORGOTTEN),
    ARCHIVED: (ACTIVATED, EXPIRED, FORGOTTEN),
    FROZEN: (ACTIVATED,),
    EXPIRED: (ACTIVATED, ARCHIVED, FORGOTTEN),
    FORGOTTEN: (),
})  # fmt: skip
# Where a memory under legal hold cannot go: it would not be recalled any more, or be another.
LOSING = frozenset({MERGED, ARCHIVED, EXPIRED, FORGOTTEN})

# What is read of memories to tell which of them are due.
COLUMNS = (
    "id", "state", "expires_at", "legal_hold", "decay_days", "created_at", "valid_from", "last_used", "uses",
    "priority",
)  # fmt: skip
# Halvings after which a memory that was never used has faded.
HALVINGS = 3
MOST_PRIORITY = 9
# What an edit of a frozen memory, or of one under legal hold, leaves alone.
FIXED = frozenset(
    {"text", "type", "topic", "tags", "owner", "priority", "expires_at", "decay_days", "true_from", "true_to"}
)
HELD = frozenset({"text", "expires_at", "decay_days"})


@dataclass(frozen=True, slots=True)
class Due:
    """A memory that has ended: why (`ttl` or `decay`), and since when."""

    id: str
    why: str
    since: datetime


def fades_at(last: datetime, *, decay_days: int, uses: int, priority: int = 0) -> datetime:
    """When a memory that was made or last used at `last` has faded."""
    days = decay_days * (HALVINGS + math.log2(1 + max(0, uses))) * 2.0 ** min(max(0, priority), MOST_PRIORITY)
    try:
        return last + timedelta(days=days)
    except OverflowError:
        return datetime.max.replace(tzinfo=last.tzinfo)


def due(
    rows: Iterable[Mapping[str, Any]],
    *,
    now: datetime,
    decay_days: int = 0,
    used: Mapping[str, tuple[int, datetime]] = MappingProxyType({}),
) -> Iterator[Due]:
    """Of rows with COLUMNS, those that have ended by `now` and are not marked so yet.

    `decay_days` is that of the cube, for memories without their own; `used` is how often and when each was used last.
    """
    for row in rows:
        if row["state"] in (EXPIRED, FORGOTTEN, FROZEN) or row["legal_hold"]:
            continue
        if row["expires_at"] is not None and row["expires_at"] <= now:
            yield Due(row["id"], "ttl", row["expires_at"])
            continue
        faded = _faded_at(row, decay_days=row["decay_days"] or decay_days, used=used)
        if faded is not None and faded <= now:
            yield Due(row["id"], "decay", faded)


def _faded_at(row: Mapping[str, Any], *, decay_days: int, used: Mapping[str, tuple[int, datetime]]) -> datetime | None:
    if decay_days <= 0 or row["state"] == GENERATED:
        return None
    count, last = used.get(row["id"], (0, None))
    touched = last_touched(row, last)
    if touched is None:
        return None
    uses = (row["uses"] or 0) + count
    return fades_at(touched, decay_days=decay_days, uses=uses, priority=row["priority"] or 0)


def last_touched(row: Mapping[str, Any], last: datetime | None) -> datetime | None:
    """When a memory was made, taken for true or used; `last` is its last use by the log."""
    moments = [moment for moment in (row["created_at"], row["valid_from"], row["last_used"], last) if moment]
    return max(moments, default=None)


def check_change(row: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises NotAllowed when one of these columns of a memory is not to be changed: it is frozen, or held."""
    for what, fixed, over in (
        ("is frozen", FIXED if row["state"] == FROZEN else (), "--thaw"),
        ("is under legal hold", HELD if row["legal_hold"] else (), "--release"),
    ):
        if kept := sorted(set(names) & set(fixed)):
            raise NotAllowed(
                f"memory {row['id']} {what}: its {', '.join(kept)} stays as it is",
                hint=f"memos edit CUBE {row['id']} {over}",
            )


def check_loss(row: Mapping[str, Any]) -> None:
    """Raises NotAllowed when a memory (with `id`, `state` and `legal_hold`) must not be hidden, ended or removed."""
    check_change(row, {"text"})


def move(state: str, to: str, *, held: bool = False) -> str:
    """`to`, when a memory that is `state` may become it. Raises Usage naming what it may become.

    A memory that is `held` loses nothing: raises NotAllowed for the moves that end it, or put it into another.
    """
    for name in (state, to):
        if name not in MOVES:
            raise Usage(f"a memory's state is one of {', '.join(MOVES)}, found {name!r}")
    if to not in MOVES[state]:
        legal = ", ".join(MOVES[state]) or "nothing else"
        raise Usage(f"a memory that is {state} cannot become {to}; it can become {legal}")
    if held and to in LOSING:
        raise NotAllowed(
            f"a memory under legal hold cannot become {to}: nothing of it may be lost",
            hint="memos edit CUBE ID --release",
        )
    return to


def ended(state: str) -> str:
    """The state of a memory whose source no longer says it: archived, unless it was hidden or ended before."""
    return state if state in (ARCHIVED, FORGOTTEN) else move(state, ARCHIVED)
