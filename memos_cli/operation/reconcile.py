"""What changed between a source as it is remembered and as it reads now. Pure: lists of keys in, moves out.

A memory is the same when the same words stand under the same heading, session or speaker (its content key),
wherever in the file they moved to. So an edit costs the edited chunks and nothing else.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

# Past this many comparisons the quadratic matcher is left for matching by key alone.
_FINE = 4_000_000

Move = tuple[int | None, int | None, bool]


def align(old: Sequence[str], new: Sequence[str]) -> Iterator[Move]:
    """Moves (old index, new index, same): kept, replaced (both, not same), added (no old), removed (no new)."""
    start = _common(old, new)
    stop = _common(old[start:][::-1], new[start:][::-1])
    yield from ((i, i, True) for i in range(start))
    middle_old, middle_new = old[start : len(old) - stop], new[start : len(new) - stop]
    fine = len(middle_old) * len(middle_new) <= _FINE
    for i, j, same in (_by_order if fine else _by_key)(middle_old, middle_new):
        yield (None if i is None else i + start), (None if j is None else j + start), same
    yield from ((len(old) - k, len(new) - k, True) for k in range(stop, 0, -1))


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    count = 0
    for a, b in zip(old, new, strict=False):
        if a != b:
            break
        count += 1
    return count


def _by_order(old: Sequence[str], new: Sequence[str]) -> Iterator[Move]:
    """Matched in order first; what is left over is matched by key (a moved section), then paired as replaced."""
    left_old: list[int] = []
    left_new: list[int] = []
    replaced: dict[int, int] = {}
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from ((i, j, True) for i, j in zip(range(i1, i2), range(j1, j2), strict=True))
            continue
        left_old += range(i1, i2)
        left_new += range(j1, j2)
        replaced.update(zip(range(i1, i2), range(j1, j2), strict=False))
    moved = list(_by_key([old[i] for i in left_old], [new[j] for j in left_new]))
    gone = {left_old[i] for i, j, _ in moved if i is not None and j is None}
    fresh = {left_new[j] for i, j, _ in moved if j is not None and i is None}
    yield from ((left_old[i], left_new[j], True) for i, j, _ in moved if i is not None and j is not None)
    for i, j in replaced.items():
        if i in gone and j in fresh:
            gone.remove(i)
            fresh.remove(j)
            yield i, j, False
    yield from ((i, None, False) for i in sorted(gone))
    yield from ((None, j, False) for j in sorted(fresh))


def _by_key(old: Sequence[str], new: Sequence[str]) -> Iterator[Move]:
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for i, key in enumerate(old):
        waiting[key].append(i)
    for j, key in enumerate(new):
        found = waiting[key].popleft() if waiting[key] else None
        yield found, j, found is not None
    for rest in waiting.values():
        yield from ((i, None, False) for i in rest)
