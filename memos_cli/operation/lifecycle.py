"""MemLifecycle: the states of a memory, and which of them follows which.

A finite state machine (MemOS, arXiv 2507.03724, section 5.4). The paper has generated, activated, merged and
archived, and a frozen state for what must not be touched; a memory here can also outlive its time (expired) and be
forgotten.

    generated   a model wrote it; not recalled until somebody accepts it
    activated   recalled
    merged      stands for several memories that were put together; recalled
    archived    was true once: superseded, or its source is gone; recalled only as of a past time
    frozen      recalled, and kept from being merged or expiring
    expired     outlived its time to live; not recalled
    forgotten   hidden from every query of any time; only a rollback of the whole cube brings it back

Says what may follow; knows nothing of rows, and nothing of who may ask for it (that is governance).
"""

from __future__ import annotations

from types import MappingProxyType

from memos_cli.errors import Usage

GENERATED, ACTIVATED, MERGED, ARCHIVED = "generated", "activated", "merged", "archived"
FROZEN, EXPIRED, FORGOTTEN = "frozen", "expired", "forgotten"

# A memory that was never accepted can only be accepted or end: merging it would be a way round the acceptance.
MOVES = MappingProxyType({
    GENERATED: (ACTIVATED, ARCHIVED, EXPIRED, FORGOTTEN),
    ACTIVATED: (MERGED, ARCHIVED, FROZEN, EXPIRED, FORGOTTEN),
    MERGED: (ACTIVATED, ARCHIVED, FROZEN, EXPIRED, FORGOTTEN),
    ARCHIVED: (ACTIVATED, FORGOTTEN),
    FROZEN: (ACTIVATED, ARCHIVED, FORGOTTEN),
    EXPIRED: (ACTIVATED, ARCHIVED, FORGOTTEN),
    FORGOTTEN: (),
})  # fmt: skip


def move(state: str, to: str) -> str:
    """`to`, when a memory that is `state` may become it. Raises Usage naming what it may become."""
    for name in (state, to):
        if name not in MOVES:
            raise Usage(f"a memory's state is one of {', '.join(MOVES)}, found {name!r}")
    if to not in MOVES[state]:
        legal = ", ".join(MOVES[state]) or "nothing else"
        raise Usage(f"a memory that is {state} cannot become {to}; it can become {legal}")
    return to


def ended(state: str) -> str:
    """The state of a memory whose source no longer says it: archived, unless it was hidden or ended before."""
    return state if state in (ARCHIVED, FORGOTTEN) else move(state, ARCHIVED)
