"""What the verbs give back that move packages to and from stores. Knows nothing of printing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pushed:
    """A package that was published at `reference`, or under `dry_run` would be.

    `bytes` and `blobs` travelled, `blobs_there` were in the store already. `key` signed it; null for nobody.
    """

    source: str
    reference: str
    name: str
    version: str
    digest: str
    key: str | None
    blobs: int
    bytes: int
    blobs_there: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Pulled:
    """A cube that came from a store, or under `dry_run` would.

    `changed` is false when it was there already; `before` is the version that was in its place, if any. `travelled` are
    the bytes that came over the way, `bytes` those of its files. `key` signed it; `trusted`: it is believed.
    """

    cube: str
    reference: str
    name: str
    version: str
    before: str | None
    number: int
    digest: str
    bytes: int
    travelled: int
    memories: int
    licence: str
    key: str | None
    trusted: bool
    changed: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A package that a search found: its newest version."""

    name: str
    reference: str
    version: str
    description: str
    licence: str
    sensitivity: str
    memories: int
    bytes: int
    versions: int
    updated: str
    digest: str


@dataclass(frozen=True, slots=True)
class Known:
    """A version of a package, and why it was taken back, if it was."""

    version: str
    yanked: str | None


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a package, and whether that key is believed of packages from there."""

    key: str
    name: str
    believed: bool


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """All that a store tells of a version of a package before it is fetched.

    `bytes` is what its blobs weigh. `provenance` is the predicate of its provenance statement, null when there is none.
    `refused` says why it could not be installed as things are; null when it could.
    """

    name: str
    reference: str
    version: str
    digest: str
    sequence: int
    description: str
    licence: str
    sensitivity: str
    owner: str
    forms: tuple[str, ...]
    memories: int
    bytes: int
    requires: dict[str, str]
    versions: tuple[Known, ...]
    signers: tuple[Signer, ...]
    provenance: dict[str, object] | None
    refused: str | None


@dataclass(frozen=True, slots=True)
class Yanked:
    """A version that is not chosen any more, or is again."""

    reference: str
    yanked: bool
    reason: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Indexed:
    """An index that was written: where, and of how many packages."""

    path: str
    packages: int
    versions: int
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """One cube of an install: what became of it is `installed`, `upgraded`, `kept`, or under a dry run would be."""

    name: str
    version: str
    before: str | None
    reference: str
    digest: str
    key: str | None
    path: str
    licence: str
    became: str
    direct: bool


@dataclass(frozen=True, slots=True)
class Outdated:
    """A cube of the lock that has a newer version: the newest that the ranges allow, and the newest of all."""

    name: str
    version: str
    wanted: str
    newest: str
    reference: str
    yanked: str | None


@dataclass(frozen=True, slots=True)
class Required:
    """What a cube requires after a change: names and ranges."""

    cube: str
    number: int
    requires: dict[str, str]
    dry_run: bool
