"""What the Memory API gives back: frozen dataclasses, one per verb, each the shape of that verb's `--json`.

`schemas/` describes them; a test holds the two together. Knows nothing of printing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from memos_cli.cube.extracted import Estimate
from memos_cli.cube.losses import Loss
from memos_cli.cube.sources import SourceReport
from memos_cli.interface.tidied import Linked, StoodFor


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """An adapter of a cube: what it is for and made of. `state` is fresh, stale or damaged, `reason` tells why.

    `memories` is how many it was taught, `requires` are the names of those beneath it, the lowest first.
    """

    name: str
    kind: str
    model: str
    rank: int
    bytes: int
    memories: int
    requires: tuple[str, ...]
    gated: bool
    state: str
    reason: str
    sensitivity: str
    licence: str
    expires: datetime | None
    made_at: datetime | None


@dataclass(frozen=True, slots=True)
class CubeInfo:
    """A cube as `memos list` and `memos show` tell it, to one who sees so many of its memories.

    `may` are the kinds of verbs that the actor may do: read, write, share, govern. `made_for` is whom the stamp of this
    copy names ("" without one), and `table` where the memories lie when that is elsewhere. Adapters are told by `show`
    alone, and to those who may see all that they were taught.
    """

    name: str
    path: str
    id: str
    version: str
    number: int
    digest: str
    description: str
    licence: str
    owner: str
    sensitivity: str
    read_scope: str
    write_scope: str
    share_scope: str
    may: tuple[str, ...]
    rules: tuple[str, ...]
    maximum: dict[str, str]
    ttl_days: int
    decay_days: int
    legal_hold: bool
    frozen: bool
    forms: tuple[str, ...]
    memories: int
    live: int
    sources: int
    embedder: str | None
    size_bytes: int
    created: datetime
    updated: datetime
    versions: int
    tags: dict[str, int] = field(default_factory=dict)
    adapters: tuple[AdapterInfo, ...] = ()
    made_for: str = ""
    table: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory with all that is known of it, without its vectors.

    `extra` is what its source says of it and no other field holds, as the format it came in has it. `path` is its topic
    path: `topic`, or where none was set one made of its source and headings. `superseded_as` is `duplicate` or
    `conflict` where it was archived though its source still says it. `stands_for`, which only `show` tells, are those
    that were archived so for this one, and so are `links` with other memories.
    """

    id: str
    text: str
    kind: str
    type: str
    topic: str
    tags: tuple[str, ...]
    source: str
    source_digest: str
    title: str
    section: str
    place: str
    line_start: int | None
    line_end: int | None
    page: int | None
    turn: int | None
    session: str
    speaker: str
    role: str
    ref: str
    time: datetime | None
    event_time: datetime | None
    time_note: str
    origin: str
    state: str
    valid_from: datetime | None
    valid_to: datetime | None
    true_from: datetime | None
    true_to: datetime | None
    supersedes: str
    superseded_by: str
    superseded_as: str
    created_at: datetime
    updated_at: datetime
    owner: str
    read_scope: str
    write_scope: str
    share_scope: str
    sensitivity: str
    priority: int
    expires_at: datetime | None
    decay_days: int
    legal_hold: bool
    extra: dict[str, object]
    path: str
    stands_for: tuple[StoodFor, ...] = ()
    links: tuple[Linked, ...] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """A cube that was made."""

    name: str
    path: str
    id: str
    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one ingest did, or under `dry_run` would do. `extraction` is what a model was agreed to cost, if any.

    `losses` is what the formats of its sources have and a cube has not, counted.
    """

    cube: str
    number: int
    changed: bool
    dry_run: bool
    added: int
    kept: int
    superseded: int
    chunks_embedded: int
    texts_embedded: int
    text_bytes: int
    seconds: float
    estimated_seconds: float | None
    embedder: str | None
    resumed: int
    sources: tuple[SourceReport, ...]
    vanished: tuple[str, ...]
    skipped: tuple[str, ...]
    bad: tuple[str, ...]
    extracted: int
    extraction: Estimate | None
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One version of a cube: who made it, when, how and why."""

    number: int
    digest: str
    parent: str | None
    operation: str
    actor: dict[str, str]
    time: str
    reason: str
    summary: dict[str, object]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemoryEvent:
    """One thing that happened to a memory: `number` is the version in which it is first seen."""

    number: int
    operation: str
    time: str
    id: str
    event: str
    text: str
    state: str


@dataclass(frozen=True, slots=True)
class RowChange:
    """How a memory differs between two versions. `change` is added, removed or changed; `columns` what differs."""

    change: str
    id: str
    columns: tuple[str, ...]
    before: str
    after: str
    place: str


@dataclass(frozen=True, slots=True)
class FormChange:
    """How a derived form differs between two versions: `name` is a memory's id, or an adapter's name.

    `change` is added, removed or changed; `bytes` are those of the files it has now, or had.
    """

    form: str
    change: str
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Differed:
    """The difference between two versions: rows, metadata, derived forms, files, and rows of the links table."""

    cube: str
    old: int
    new: int
    rows: tuple[RowChange, ...]
    metadata: tuple[str, ...]
    forms: tuple[FormChange, ...]
    files_added: int
    files_removed: int
    bytes_added: int
    bytes_removed: int
    links_added: int
    links_removed: int


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did. `number` is the version it made; under `dry_run` the one it started from."""

    cube: str
    verb: str
    number: int
    dry_run: bool
    ids: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class Collected:
    """What gc removed, or under `dry_run` would remove; `expired` are the memories that it marked so, `pruned` those it
    took out."""

    cube: str
    dry_run: bool
    removed: tuple[int, ...]
    kept: tuple[int, ...]
    held: tuple[int, ...]
    freed_bytes: int
    expired: tuple[str, ...]
    pruned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """A memory that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What converting would cost, from a sample of so many: bytes and seconds of all; what one memory saves each use.

    `break_even_uses`: after how many uses it has saved the time it took to make; null where reading is as fast.
    """

    bytes: int
    seconds: float
    saved_seconds: float
    break_even_uses: float | None
    sampled: int


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion made, or under `dry_run` would make.

    `made` and `kept` are ids of memories whose files are new and were there; `failing` those whose fidelity is below
    the gate, which are not used; `together` the cheapest way of composing several of them that passes, null for none.
    """

    cube: str
    number: int
    dry_run: bool
    to: str
    model: str
    fingerprint: str
    made: tuple[str, ...]
    kept: tuple[str, ...]
    failing: tuple[str, ...]
    left_out: tuple[Left, ...]
    stale: int
    bytes: int
    tokens: int
    seconds: float
    together: str | None
    cost: Cost | None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written for another program: `to` it, at `path`, memories and tokens of it; `label` is what to trust.

    `sensitivity` is the strictest label of its memories.
    """

    cube: str
    to: str
    model: str
    path: str
    memories: tuple[str, ...]
    tokens: int
    bytes: int
    label: str
    sensitivity: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """What became of one memory: `standing` is known, distilled or unteachable, with the reason.

    `questions` is how many were taught, tested and looked at; `before` and `after` the share of test questions that are
    answered without the text (`after` null where it was not taught).
    """

    id: str
    text: str
    standing: str
    why: str
    questions: int
    before: float
    after: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer as they are taught (split train), looked at (dev) or tested (test)."""

    memory: str
    question: str
    answer: str
    kind: str
    split: str


@dataclass(frozen=True, slots=True)
class DistillCost:
    """What an adapter costs, from a few steps: seconds and bytes at most, and after how many uses a memory pays.

    `saved_seconds` is what reading one memory's text takes; `pays_after_uses` is null where that is nothing.
    """

    seconds: float
    bytes: int
    saved_seconds: float
    pays_after_uses: float | None


@dataclass(frozen=True, slots=True)
class Distilled:
    """An adapter that was made, or under `dry_run` would be: what was taught, how it did, and whether it was kept.

    `figures` are those of the gates by name, `failures` the gates it fell short of; `requires` the adapters beneath
    it; `pairs` the questions (of a dry run only).
    """

    cube: str
    number: int
    dry_run: bool
    name: str
    model: str
    fingerprint: str
    requires: tuple[str, ...]
    rank: int
    lessons: tuple[Lesson, ...]
    pairs: tuple[Pair, ...]
    figures: dict[str, float]
    failures: tuple[str, ...]
    published: bool
    steps: int
    stopped: str
    resumed: int
    bytes: int
    seconds: float
    cost: DistillCost | None


@dataclass(frozen=True, slots=True)
class Rebound:
    """An adapter that is bound to another model now, with the share of its test questions that it answers there."""

    cube: str
    number: int
    name: str
    model: str
    recall: float


@dataclass(frozen=True, slots=True)
class Leak:
    """What an adapter that was made again still knows of what was deleted.

    `never` and `now` are the mean probability of the answers to its questions: of a model that was never taught, and
    with the adapter; `gone` says that they are the same within chance.
    """

    adapter: str
    questions: int
    never: float
    now: float
    gone: bool


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Stale adapters that were made again, those that had nothing left and were removed, and what was asked of them."""

    cube: str
    made: tuple[Distilled, ...]
    removed: tuple[str, ...]
    leaks: tuple[Leak, ...]
