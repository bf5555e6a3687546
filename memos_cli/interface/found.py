"""What a query gives back, apart from the other results: a query that starts cold should not wait for their classes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A memory beside a hit, when context was asked for, or one that contradicts it."""

    id: str
    place: str
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that answers, with where it stands and why it ranks there.

    `signals` are the shares that add up to `score`; `also` are ids of memories with the same words; `contradicts` are
    those that cannot hold beside it, as far as `memos tidy` noted it.
    """

    rank: int
    score: float
    id: str
    text: str
    cube: str
    place: str
    source: str
    line_start: int | None
    line_end: int | None
    page: int | None
    turn: int | None
    section: str
    session: str
    speaker: str
    role: str
    time: datetime | None
    time_note: str
    kind: str
    type: str
    topic: str
    tags: tuple[str, ...]
    ref: str
    state: str
    version: int
    signals: dict[str, float]
    also: tuple[str, ...]
    before: tuple[Neighbour, ...]
    after: tuple[Neighbour, ...]
    contradicts: tuple[Neighbour, ...] = ()


@dataclass(frozen=True, slots=True)
class Named:
    """A thing that a prompt names, in its words: the `speaker` of a talk, a `quote`, `code` or a `name`."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Days:
    """A first and a last day, such as 2024-05-01; null where there is none."""

    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class TimeNamed:
    """A time that a prompt names: its words, on which side of them (`at`, `since`, `before`, ...), what it is about.

    `about`: what memories tell of (`told`), what was `known` then, what was `true` then, or when
    they were `added`. `days` are what it means;
    none for one without a year in a cube that has no year to try. `effect` is what became of it: memories of then were
    `raised`, it was a `filter`, or `nothing`.
    """

    words: str
    relation: str
    about: str
    days: tuple[Days, ...]
    effect: str


@dataclass(frozen=True, slots=True)
class PromptRead:
    """A prompt as a structured call: what kind of answer it wants, what it names, when it speaks of, its topic.

    `forms` are those of memory that can serve it, `words` what was searched for, `read_by` who read it: `rules`, or the
    name of a model.
    """

    intent: str
    entities: tuple[Named, ...]
    time: TimeNamed | None
    topic: str
    forms: tuple[str, ...]
    words: str
    read_by: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memory that was weighed, with why it ranks there; `shown` when it is among the hits."""

    rank: int
    shown: bool
    score: float
    id: str
    cube: str
    place: str
    text: str
    signals: dict[str, float]
    why: str


@dataclass(frozen=True, slots=True)
class VaultCube:
    """A cube of a vault as the catalogue ranks it for a prompt.

    `closeness` is the cosine of the prompt with the nearest centre of its vectors (null: compared by words alone),
    `words` are those of the prompt that it has, without their endings, the rarest first. `left_out` says why one that
    ranks high enough was not `opened`.
    """

    cube: str
    rank: int
    score: float
    opened: bool
    closeness: float | None
    words: tuple[str, ...]
    left_out: str


@dataclass(frozen=True, slots=True)
class VaultAsked:
    """How the cubes were picked: of those `considered` the best, and those that were opened.

    For that so many were `looked_at` anew, because they were new or had changed; `seconds` is what picking took.
    """

    considered: int
    looked_at: int
    seconds: float
    cubes: tuple[VaultCube, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found. `missing` names signals that could not be used, with the reason; `id` is the prompt's own.

    `untrusted` are those of the cubes that came from elsewhere and that nobody vouched for yet. `prompt` is the prompt
    as it was understood; `as_of` and `true_at` are the moments that were asked for, by flag or in words; of the
    `considered` memories that were weighed, `candidates` are the best, where that was asked for. `vault` tells how the
    cubes were picked where a whole vault was asked, else it is null.
    """

    query: str
    id: str
    prompt: PromptRead
    cubes: tuple[str, ...]
    mode: str
    profile: str
    as_of: datetime | None
    true_at: datetime | None
    missing: tuple[str, ...]
    untrusted: tuple[str, ...]
    hits: tuple[Hit, ...]
    considered: int
    candidates: tuple[Candidate, ...]
    context: str | None
    context_tokens: int | None
    tokenizer: str | None
    seconds: dict[str, float]
    vault: VaultAsked | None = None


@dataclass(frozen=True, slots=True)
class Citation:
    """A memory that an answer rests on; `number` is the one it had in the prompt and has among the hits."""

    number: int
    id: str
    cube: str
    place: str


@dataclass(frozen=True, slots=True)
class MemoryForm:
    """The form in which a memory reached the model; `number` is that of the hit.

    `plaintext`: its text was read, `why` tells why; `activation`: of its `tokens`, `reused` came from its file, and
    `way` is how it was put beside the others.
    """

    number: int
    id: str
    form: str
    way: str
    tokens: int
    reused: int
    why: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was written back of an exchange. `fresh` says that it was not there before; `number` is the version."""

    ids: tuple[str, ...]
    number: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model answered from memories.

    `answer` is null when it is not in memory, and `reason` says by whose word: `floor` (no memory is close enough; the
    model was not asked), `model` (it says so) or `unfounded` (it copies, and what it wrote is in none of them). `hits`
    are the memories it was given. `cited_by` tells where the citations are from: `span` (these memories hold the
    answer), `model` (it named them) or `given` (it named none, so all of them). `closeness` is that of the closest
    memory, from 0 to 1. `form` is the form in which memories were read, `mixed` for both; `forms` tells it of each, and
    `reused_tokens` of theirs were not read, `recomputed_tokens` read again for what they had not seen. `host` is where
    the model is, empty for this process. `tokens_by` says who counted tokens: `model`, `server`, or an estimate; empty
    when no model was asked. `untrusted` are those of the cubes that came from elsewhere and that nobody vouched for.
    `prompt` is the question as it was understood; `turns` so many of those before it were given to the model.
    """

    query: str
    id: str
    prompt: PromptRead
    cubes: tuple[str, ...]
    answer: str | None
    reason: str
    citations: tuple[Citation, ...]
    cited_by: str
    form: str
    forms: tuple[MemoryForm, ...]
    reused_tokens: int
    recomputed_tokens: int
    model: str
    host: str
    closeness: float
    floor: float
    mode: str
    profile: str
    as_of: datetime | None
    true_at: datetime | None
    missing: tuple[str, ...]
    untrusted: tuple[str, ...]
    hits: tuple[Hit, ...]
    prompt_tokens: int
    answer_tokens: int
    tokens_by: str
    cut: bool
    turns: int
    seconds: dict[str, float]
    remembered: Remembered | None
