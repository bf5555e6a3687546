"""What `schedule` gives back: a plan of moves, what became of them, and the arithmetic of one memory.

Frozen dataclasses, the shapes of its `--json`. Knows nothing of printing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostBasis:
    """Where seconds and bytes of a plan come from: `measured` on this machine, or `estimated` from the model's shape.

    `tokens` are the sizes of memory that were looked at, with the bytes and seconds of each in the same order.
    """

    kind: str
    machine: str
    made_at: str
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]
    write_seconds: tuple[float, ...]
    plain_seconds: tuple[float, ...]
    read_seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PlannedCube:
    """A cube as a plan found it: its version, memories recalled now, and activation memory for the plan's model.

    `queries` are the uses that the log tells; `counted` says which: what models were `given`, or, as long as none was
    given anything, what was `found`.
    """

    cube: str
    id: str
    number: int
    digest: str
    memories: int
    held: int
    held_bytes: int
    queries: int
    counted: str


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One memory of a move: its uses so far and to come, bytes and seconds that the move takes, and seconds it saves.

    Where a move is about an adapter, its name is the `id`, and where it is about the table as a whole, `plaintext`.
    `saved_seconds` is what all the uses to come save together, `saved_each` one of them. `text` is empty where it may
    not go where the plan goes.
    """

    id: str
    text: str
    reason: str
    uses: int
    expected_uses: float
    bytes: int
    seconds: float
    saved_each: float
    saved_seconds: float


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """One step of a plan, which is one version of one cube: what is done (`kind`) to which memories, and why.

    Bytes are those it adds, below 0 for those it frees.
    """

    number: int
    kind: str
    cube: str
    reason: str
    items: tuple[PlannedItem, ...]
    bytes: int
    seconds: float
    saved_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a move: `done` with the version it made, `before` when an earlier run did it, or `nothing`.

    `failing` are memories that were made and are not used, for they fell short of the fidelity gate.
    """

    move: int
    state: str
    version: int
    ids: tuple[str, ...]
    failing: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan: moves in their order, what they take and save in all, and what stays as it is, by reason.

    `outcomes` is empty for a plan that was not carried out; `bytes_before` and `bytes_after` are those of activation
    memory.
    """

    id: str
    policy: str
    model: str
    costs: CostBasis
    half_life_days: float
    horizon_days: float
    budget_bytes: int | None
    budget_seconds: float | None
    cubes: tuple[PlannedCube, ...]
    moves: tuple[PlannedMove, ...]
    stays: dict[str, int]
    bytes_before: int
    bytes_after: int
    seconds: float
    saved_seconds: float
    notes: tuple[str, ...]
    applied: bool
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the arithmetic: what, how much, in which unit."""

    name: str
    value: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a plan does with one memory what it does: its form now, each step of the policy's arithmetic, the verdict."""

    cube: str
    id: str
    text: str
    policy: str
    model: str
    form: str
    tokens: int
    uses: int
    priority: int
    steps: tuple[Step, ...]
    score: float
    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class PolicyPlayed:
    """How a policy did on a trace: uses that were read back, memories written, and seconds as they were measured.

    `over_bound` is its seconds over those of the bound; `quality` the share of answers that are as with the text, as
    it was measured for each memory; `bytes` the most it held at once.
    """

    policy: str
    hit_rate: float
    writes: int
    bytes: int
    read_seconds: float
    write_seconds: float
    seconds: float
    over_bound: float
    quality: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """A trace played with several policies, best first.

    Each memory was made, read and read back on the runtime; seconds are sums of what that took, while policies decided
    by the scheduler's own costs. `bound_seconds` is what nobody who knew the whole trace could have gone below,
    `plain_seconds` what reading every text takes.
    """

    cube: str
    model: str
    trace: str
    seed: int
    requests: int
    memories: int
    budget_bytes: int
    plain_seconds: float
    bound_seconds: float
    policies: tuple[PolicyPlayed, ...]
