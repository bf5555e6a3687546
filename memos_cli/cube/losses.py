"""What a format could not carry: counted by what it is of and by the field, with the reason. Knows no format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Formats are foreign: a file with a name of its own for every field must not become a list without an end.
MOST_KINDS = 200


@dataclass(frozen=True, slots=True)
class Loss:
    """So many things of a kind (a memory, a cache, a setting) that came or went without this field, and why."""

    kind: str
    field: str
    count: int
    why: str


@dataclass(slots=True)
class Losses:
    """Losses as they are met, one line for each kind, field and reason, in the order they were first met."""

    _met: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def add(self, kind: str, field: str, why: str, count: int = 1) -> None:
        """Counts one more, or `count`; past MOST_KINDS different ones, all others count as one."""
        if count <= 0:
            return
        key = (kind, field[:120], why)
        if key not in self._met and len(self._met) >= MOST_KINDS:
            key = (kind, "other fields", "too many different ones to name")
        self._met[key] = self._met.get(key, 0) + count

    def extend(self, losses: Iterable[Loss]) -> None:
        """Counts what was counted elsewhere."""
        for loss in losses:
            self.add(loss.kind, loss.field, loss.why, loss.count)

    def clear(self) -> None:
        """Forgets all of them: what is read again is counted again."""
        self._met.clear()

    def told(self) -> tuple[Loss, ...]:
        """All of them so far."""
        return tuple(Loss(kind, name, count, why) for (kind, name, why), count in self._met.items())


def together(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """The losses of several sources as one list."""
    total = Losses()
    total.extend(losses)
    return total.told()
