"""What `memos fuse` gives back: what two cubes were made into, and where they did not agree."""

from __future__ import annotations

from dataclasses import dataclass

from memos_cli.interface.tidied import Opposed


@dataclass(frozen=True, slots=True)
class Marked:
    """A mark that two cubes gave one memory differently: what was taken, the other, and why."""

    id: str
    mark: str
    taken: str
    other: str
    why: str


@dataclass(frozen=True, slots=True)
class FusedCubes:
    """Two cubes made into one, or under `dry_run` as they would be.

    `base` says which versions of them are the same, "" where none is known. `first`, `second` and `both` count memories
    by where they are; `gone` are ids that one cube took out and the other had left alone; `refused` counts what was
    forgotten for good. `conflicts` are of memories of the two that cannot both hold, or that gave other words to one
    they share (`reworded`); where `stays` is empty, both are recalled in the cube. `caches`, `adapters` and `probes`
    (questions) went along, for their memories are the same.
    """

    cube: str
    path: str
    id: str
    number: int
    digest: str
    dry_run: bool
    sources: tuple[str, str]
    base: str
    memories: int
    first: int
    second: int
    both: int
    gone: tuple[str, ...]
    refused: int
    resolve: str
    conflicts: tuple[Opposed, ...]
    marks: tuple[Marked, ...]
    sensitivity: str
    share_scope: str
    caches: int
    adapters: tuple[str, ...]
    probes: int
    notes: tuple[str, ...]
