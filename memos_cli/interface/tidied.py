"""What `memos tidy` gives back: which memories say the same and which cannot both hold, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoodFor:
    """A memory that was archived for another that stands in its place; `how` is `duplicate` or `conflict`."""

    id: str
    how: str
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Linked:
    """What a memory has to do with another, at `place`, whose `id` and words are told.

    `kind` is `mentions`, `follows`, `supersedes`, `contradicts` or `derived-from`, read from this memory to the other
    where `way` is `to`, and from the other to this one where it is `from`. `made_by` is `ingest`, `tidy`, `judge` or
    `person`, and `columns` where no table but the memories tell it; a `person` said of two that contradict one another
    that both stay.
    """

    kind: str
    way: str
    id: str
    place: str
    text: str
    why: str
    made_by: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Compared:
    """A memory as it is compared. `text` is empty where the words may not go where the result goes."""

    id: str
    text: str
    place: str
    time: datetime | None
    created_at: datetime
    origin: str
    priority: int
    state: str


@dataclass(frozen=True, slots=True)
class SameAs:
    """A memory that says what another says. `how` is `exact`, `near`, `fact` or `judge`, `why` the same in words."""

    memory: Compared
    how: str
    why: str


@dataclass(frozen=True, slots=True)
class Joined:
    """Memories that become one: `stays` stands for those in `same`, which are archived; `why` it is this one."""

    stays: Compared
    same: tuple[SameAs, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Opposed:
    """Two memories that cannot both hold.

    `kind` is `value`, `time`, `negation`, `update` or `judge`; `subject` and `relation` what they disagree about, and
    `says` the two values. `stays` and `goes` are ids, both empty while both stay; `why` tells why it is so. `open` is
    whether a policy may decide it; `kept`, that somebody said before that both stay.
    """

    kind: str
    subject: str
    relation: str
    says: tuple[str, str]
    one: Compared
    other: Compared
    open: bool
    stays: str
    goes: str
    why: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Unjoined:
    """Two memories that say the same and stay two, and why."""

    one: Compared
    other: Compared
    how: str
    why: str


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was compared, what was found, and what becomes of it; with `applied` it has been done.

    `archived` are the ids that are archived by it. `several` are relations that were taken to have several values at a
    time, for most of their subjects have. `blocked` tells why who asks may not carry it out, "" when they may.
    """

    cube: str
    number: int
    applied: bool
    resolve: str
    compared: int
    merges: tuple[Joined, ...]
    conflicts: tuple[Opposed, ...]
    left: tuple[Unjoined, ...]
    several: tuple[str, ...]
    archived: tuple[str, ...]
    blocked: str
    notes: tuple[str, ...]
