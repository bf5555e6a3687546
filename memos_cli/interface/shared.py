"""What the verbs that share cubes give back: packages, keys, and what was taken in. Knows nothing of printing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from memos_cli.cube.losses import Loss


@dataclass(frozen=True, slots=True)
class Packed:
    """A package that was written, or under `dry_run` would be.

    `number` is the version of the cube that is in it, `digest` that of the manifest: what names this very package.
    `rewritten`: a version was made first, without what was deleted. `key` signed it; null for nobody.
    `recipient` is whom this copy is for (null for nobody in particular), with so many `canaries`. A dry run knows no
    digest ("") and an upper bound of the bytes where something would have to be made first.
    """

    cube: str
    path: str
    name: str
    version: str
    number: int
    digest: str
    bytes: int
    blobs: int
    forms: tuple[str, ...]
    rows_left_out: int
    files_left_out: int
    rewritten: bool
    key: str | None
    encrypted: bool
    recipient: str | None
    canaries: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package that was taken in, or under `dry_run` would be.

    `key` signed it (null for nobody); `trusted` says whether that key is believed, so that the cube is too.
    """

    cube: str
    source: str
    name: str
    version: str
    number: int
    digest: str
    bytes: int
    memories: int
    key: str | None
    trusted: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Trusted:
    """A cube whose memories are taken at their word from now on, and where it came from."""

    cube: str
    source: str
    digest: str
    key: str | None
    was_trusted: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key: `own` ones sign, others are believed, of packages from `sources` (none: all). `line` is to give away."""

    name: str
    fingerprint: str
    own: bool
    sources: tuple[str, ...]
    line: str


@dataclass(frozen=True, slots=True)
class TakenOut:
    """Memories that were written in another format, or under `dry_run` would be: `ids` in the order of the file.

    `path` is `-` for standard output, `shape` that of a MemOS cube, `sensitivity` the strictest label of what left.
    `losses` is what the format has no place for, counted.
    """

    cube: str
    number: int
    dry_run: bool
    to: str
    path: str
    ids: tuple[str, ...]
    bytes: int
    shape: str
    losses: tuple[Loss, ...]
    sensitivity: str


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client: `may` are verbs or kinds of verbs, `cubes` names or `*`, `at_most` the highest label it may see.

    "" for `at_most` is what may go to a model elsewhere. `key` is told once, when it is made, and null ever after.
    """

    name: str
    may: tuple[str, ...]
    cubes: tuple[str, ...]
    at_most: str
    made: datetime | None
    expires: datetime | None
    expired: bool
    key: str | None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What `memos serve` serves and where: `cubes` by their names, `model` answers, `clients` have keys."""

    url: str
    host: str
    port: int
    cubes: tuple[str, ...]
    model: str
    clients: int
