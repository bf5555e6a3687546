"""What the Memory API gives back of adapters as wholes: what was read out of one, and one that was made of several.

Frozen dataclasses, each the shape of a verb's `--json`; `schemas/` describes them. Knows nothing of printing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taught:
    """A memory that an adapter was taught, and what there is of it now.

    `standing` is there (as it was taught), reworded, ended (superseded, archived, expired or forgotten) or gone.
    """

    id: str
    standing: str


@dataclass(frozen=True, slots=True)
class ReadBack:
    """A fact that an adapter says: as a sentence, and how surely.

    `p` is the mean probability of the value, `gain` by how much the adapter raises its logarithm, `agree` in how many
    wordings it was said. `verdict` is what the cube says of it: verified, contradicted or unverified. `id` is that of
    the memory that was written, "" for none, with `why` not.
    """

    text: str
    subject: str
    relation: str
    value: str
    wording: str
    p: float
    gain: float
    agree: int
    verdict: str
    id: str
    why: str


@dataclass(frozen=True, slots=True)
class Elicited:
    """What was read back out of an adapter, or under `dry_run` would be.

    `taught` are its sources; when none of them is gone nothing is asked, and `probes` is 0. `targets` and `decoys` are
    things asked, in three wordings each; `heard` and `decoys_heard` those of either that were answered, `outdone` those
    besides whose value is likelier for another question, `kept` the
    facts at or above `threshold` (null: at none), of which a share of `rate` is estimated to be false (`fdr` was
    allowed). `withheld` say what was forgotten or has ended, and are not told; `facts` are the others that were kept.
    """

    cube: str
    number: int
    dry_run: bool
    adapter: str
    model: str
    taught: tuple[Taught, ...]
    subjects: int
    relations: int
    probes: int
    targets: int
    decoys: int
    heard: int
    decoys_heard: int
    outdone: int
    kept: int
    threshold: float | None
    rate: float
    fdr: float
    withheld: int
    facts: tuple[ReadBack, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Member:
    """One adapter of several: the share of its test questions answered by it as it was, and by the one of all."""

    name: str
    id: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Fused:
    """One adapter made of several, or under `dry_run` what it would be.

    `way` is cat or svd, `error` that of a delta against the exact sum, `max_lora_rank` what a vLLM server must be told
    (null: its default will do). `members` are empty when it was not verified; `failures` are those that lost too much.
    """

    cube: str
    number: int
    dry_run: bool
    name: str
    model: str
    way: str
    rank: int
    error: float
    bytes: int
    max_lora_rank: int | None
    verified: bool
    members: tuple[Member, ...]
    failures: tuple[str, ...]
    published: bool
    seconds: float
