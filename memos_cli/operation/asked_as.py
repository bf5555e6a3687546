"""Other wordings that a memory is asked for by, kept with it in `extra` and searched with its window.

The text that a person reads is never touched: only the words it is found by. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

KEY = "asked_as"
MOST, LONGEST = 6, 200


def wordings_of(extra: str) -> tuple[str, ...]:
    """The wordings that a row's `extra` holds; none where it holds something else."""
    if KEY not in extra:
        return ()
    try:
        told = json.loads(extra)
    except ValueError:
        return ()
    said = told.get(KEY) if isinstance(told, dict) else None
    return tuple(one[:LONGEST] for one in said if isinstance(one, str))[:MOST] if isinstance(said, list) else ()


def with_wordings(extra: str, wordings: Sequence[str]) -> str:
    """The same `extra` with these wordings too. Raises ValueError for one that holds no JSON object."""
    told = json.loads(extra) if extra else {}
    if not isinstance(told, dict):
        raise ValueError("what a source says of a memory is not a JSON object")
    every = dict.fromkeys([*wordings_of(extra), *(one[:LONGEST] for one in wordings)])
    return json.dumps({**told, KEY: list(every)[:MOST]}, ensure_ascii=False, sort_keys=True)


def near_of(near: str, extra: str) -> str:
    """A search window with the wordings of the memory's `extra` after it."""
    said = wordings_of(extra)
    return "\n".join([near, *said]) if said else near
