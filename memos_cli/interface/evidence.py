"""What the Memory API gives back where something has to be shown: lines of the access log, checkpoints, proofs.

Frozen dataclasses, each the shape of a verb's `--json`; `schemas/` describes them. Knows nothing of printing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memos_cli.operation.proof import Proof


@dataclass(frozen=True, slots=True)
class AccessLine:
    """A line of the access log. `kind` is read, injection, change, export or denial; `query` is a keyed hash."""

    seq: int
    time: str
    actor: dict[str, str]
    verb: str
    kind: str
    version: int
    memories: tuple[str, ...]
    count: int
    outcome: str
    query: str | None
    facts: dict[str, object]
    hash: str


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint that was written: the version and the `lines` of the log it vouches for, and whose key signed it."""

    cube: str
    path: str
    cube_id: str
    version: int
    digest: str
    lines: int
    head: str
    time: str
    key: str


@dataclass(frozen=True, slots=True)
class Purged:
    """What was forgotten for good, or under `dry_run` would be, and the proof that it is gone.

    `ids` are the memories, `along` those among them that were not named, with the reason why they went too.
    `rewindowed` neighbours are no longer found by their words; `activations` and `adapters` made of them are gone, and
    `others`, what else in the cube told of them. `dropped` versions held them; `held` ones are still being read.
    Without `proof` nothing was looked through: a dry run.
    """

    cube: str
    number: int
    dry_run: bool
    ids: tuple[str, ...]
    along: dict[str, str] = field(default_factory=dict)
    rewindowed: int = 0
    activations: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    dropped: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    message: str = ""
    proof: Proof | None = None
