"""Moves of a plan that are about adapters: a group of memories that pays as one, and one that has gone stale.

Training takes minutes to hours, and weights cannot be taken apart again, so this is in a plan only when somebody asked
for it. What fell short of its gates is noted down and not tried again, until its memories or the model change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memos_cli.cube import parameter
from memos_cli.infrastructure import measured
from memos_cli.interface import wording
from memos_cli.interface.planned import PlannedItem
from memos_cli.operation import settle, teaching
from memos_cli.operation.policies import Setting, uses_to_come
from memos_cli.operation.schedule import KEEP, PROMOTE, Choice
from memos_cli.operation.teaching import Lesson, Pupil, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from memos_cli.interface.frame import Desk, Reading
    from memos_cli.operation.rates import Rates

_PREFIX = "hot-"


@dataclass(frozen=True, slots=True)
class Taught:
    """An adapter of a cube for the model of a plan: what it was taught, what it stands on, whether it is stale and
    why, its bytes, and the seconds that training it took where it was made."""

    name: str
    memory_ids: frozenset[str]
    requires: tuple[str, ...]
    stale: str
    bytes: int
    seconds: float

    @property
    def as_it_is(self) -> tuple[str, str]:
        """What it is known by as long as nothing more of it goes stale."""
        return self.name, self.stale


def adapters_of(seen: Reading, *, weights: str) -> tuple[Taught, ...]:
    """The adapters of a cube for the model with these weights, those that others stand on first."""
    held = settle.readable(seen.path / parameter.FOLDER)
    mine = [one for one in held if one.about.base.hard.get("weights") == weights]
    return tuple(
        Taught(
            one.name, one.memory_ids, tuple(name.partition("@")[0] for name in one.about.requires),
            one.about.reason if one.about.state == parameter.STALE else "", one.bytes,
            float(one.about.recipe.get("seconds") or 0.0),
        )
        for one in sorted(mine, key=lambda one: (len(one.about.requires), one.name))
    )  # fmt: skip


def lesson_of(folder: Path, rates: Rates, adapters: Sequence[Taught]) -> Lesson:
    """What teaching takes here, by the adapters that are there or by the model's shape."""
    from memos_cli.operation.estimate import shape_of

    return teaching.lesson(rates, shape_of(folder), took=[one.seconds for one in adapters if one.seconds])


def again(adapters: Sequence[Taught], price: Lesson) -> Iterator[PlannedItem]:
    """A line for each adapter that is to be taught anew."""
    for one in adapters:
        seconds = one.seconds or price.seconds
        yield PlannedItem(one.name, "", wording.stale_adapter(one.stale), 0, 0.0, 0, seconds, 0.0, 0.0)


def pupils(choices: Sequence[Choice], rates: Rates, setting: Setting, *, without: Collection[str]) -> list[Pupil]:
    """The memories that may be taught, with what each use saves beside the form that they will be in."""
    bare = rates.price(0).plain_seconds
    found = []
    for one in choices:
        candidate, price = one.candidate, one.candidate.standing.price
        if candidate.fixed or candidate.id in without:
            continue
        read = price.read_seconds if one.verdict in (PROMOTE, KEEP) else price.plain_seconds
        found.append(
            Pupil(
                candidate.id, uses_to_come(candidate.standing, setting), max(0.0, min(read, price.plain_seconds) - bare)
            )
        )
    return found


def group_of(
    verdict: Verdict, price: Lesson, choices: Sequence[Choice], texts: Mapping[str, str]
) -> tuple[PlannedItem, ...]:
    """A group as lines of a plan; each takes its share of the whole."""
    count = len(verdict.pupils)
    used = {one.candidate.id: one.candidate.standing.uses for one in choices}
    return tuple(
        PlannedItem(
            one.id, texts[one.id], wording.taught(used[one.id], one, count, price), used[one.id], one.coming,
            price.bytes // count, price.seconds / count, one.saved_each, one.gain,
        )
        for one in verdict.pupils
    )  # fmt: skip


def name_of(ids: Sequence[str]) -> str:
    """What the adapter of a group is called: the same group, the same name."""
    return _PREFIX + hashlib.sha256(" ".join(sorted(ids)).encode()).hexdigest()[:8]


def note_refusal(desk: Desk, weights: str, ids: Sequence[str], failures: Sequence[str]) -> None:
    """Remembers that a group fell short of its gates under a model."""
    measured.write(desk.home / "cache", _refusal_key(weights, ids), {"failures": list(failures)})


def was_refused(desk: Desk, weights: str, ids: Sequence[str]) -> bool:
    """Whether this very group fell short before."""
    return measured.read(desk.home / "cache", _refusal_key(weights, ids)) is not None


def _refusal_key(weights: str, ids: Sequence[str]) -> str:
    return measured.key_of("untaught", weights, *sorted(ids))
