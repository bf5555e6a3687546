"""What the Memory API gives back where something has to be shown: lines of the access log, checkpoints, proofs.

Frozen dataclasses, each the shape of a verb's `--json`; `schemas/` describes them. Knows nothing of printing.
"""

from __future__ import annotations

from dataclasses import dataclass


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
