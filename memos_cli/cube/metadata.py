"""memcube.toml: what a cube says of itself.

Identity, governance, policy and counts, in four tables. Loaded strictly: a key that is missing or of another kind
is Damaged, naming the key, what was expected and what was found; keys that are not known are kept out of the way
of later formats by ignoring them. Knows nothing of versions or of who asks.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memos_cli.cube import access, pin, scopes, semver, stamp
from memos_cli.cube.access import Access
from memos_cli.cube.migrate import FORMAT_VERSION, check_format
from memos_cli.cube.pin import Pin
from memos_cli.cube.stamp import Stamp
from memos_cli.cube.toml import read_toml
from memos_cli.errors import Damaged, Usage

FILE = "memcube.toml"
SENSITIVITIES = scopes.SENSITIVITIES
# Far below the cap on the file, whatever is escaped.
TEXT_LIMIT_CHARACTERS = 4_096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SCOPES = ("owner", "anyone")
REQUIRES_LIMIT = 64
_KEY = re.compile(r"ed25519:[0-9a-f]{32}")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """Which model made the vectors of a table. Two embedders' vectors never mix."""

    name: str
    digest: str
    dim: int
    window: int
    precision: str

    @property
    def label(self) -> str:
        """Name and the start of the digest, for people."""
        return f"{self.name}@{self.digest.removeprefix('sha256:')[:12]}"


@dataclass(frozen=True, slots=True)
class Governance:
    """Who owns the cube and what it allows. Scopes are those of `scopes.py`.

    After `ttl_days` the cube as a whole has expired. Each halving of what a memory is worth takes `decay_days`. Nothing
    of a cube under `legal_hold` may be lost, and nothing of a frozen one changed.
    """

    owner: str
    owner_user: str = ""
    read_scope: str = "anyone"
    write_scope: str = "owner"
    share_scope: str = "owner"
    sensitivity: str = "internal"
    ttl_days: int = 0
    decay_days: int = 0
    legal_hold: bool = False
    frozen: bool = False
    compliance: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """How the cube is kept: versions retained after each commit, besides the tagged."""

    keep_versions: int = 10


@dataclass(frozen=True, slots=True)
class Plaintext:
    """Counts of the plaintext form, as of the version they are written in.

    `guarded` are memories with an owner, label or scope of their own, None where nobody has counted; `decaying` those
    that fade at their own pace. `table` is where the memories lie when they are not in the cube's own files.
    """

    memories: int = 0
    live: int = 0
    sources: int = 0
    embedder: EmbedderIdentity | None = None
    guarded: int | None = None
    decaying: int = 0
    table: Pin | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """Counts of the activation form."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Parameter:
    """Counts of the parameter form."""

    adapters: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Memcube:
    """All of memcube.toml."""

    id: str
    name: str
    governance: Governance
    version: str = "0.1.0"
    description: str = ""
    licence: str = ""
    created: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    updated: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    policy: Policy = field(default_factory=Policy)
    plaintext: Plaintext = field(default_factory=Plaintext)
    activation: Activation = field(default_factory=Activation)
    parameter: Parameter = field(default_factory=Parameter)
    access: Access = field(default_factory=Access)
    # names of packages this one needs, and which versions of each
    requires: tuple[tuple[str, str], ...] = ()
    # whom this copy was made for; None for one that was made for nobody in particular
    stamp: Stamp | None = None
    format_version: int = FORMAT_VERSION

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of memory the cube holds."""
        held = {"activation": self.activation.files, "parameter": self.parameter.adapters}
        return ("plaintext", *(form for form, count in held.items() if count))


def new(name: str, *, governance: Governance, description: str = "", licence: str = "") -> Memcube:
    """Metadata of a cube that does not exist yet. Raises Usage for a name outside the grammar, or too long a text."""
    if not _NAME.fullmatch(name):
        raise Usage(f"cube names are letters, digits, '.', '_' and '-' (at most 128), found {name!r}")
    check_sensitivity(governance.sensitivity)
    for field_name, text in (("description", description), ("licence", licence)):
        if len(text) > TEXT_LIMIT_CHARACTERS:
            raise Usage(f"a {field_name} has at most {TEXT_LIMIT_CHARACTERS:,} characters, found {len(text):,}")
    return Memcube(id=uuid.uuid4().hex, name=name, governance=governance, description=description, licence=licence)


def scoped(
    governance: Governance, *, read: str | None = None, write: str | None = None, share: str | None = None
) -> Governance:
    """The same rules under other scopes; None leaves one. Raises Usage for what is neither a word nor a key."""
    given = {"read_scope": read, "write_scope": write, "share_scope": share}
    wanted: dict[str, Any] = {name: scopes.canonical(scope) for name, scope in given.items() if scope is not None}
    return replace(governance, **wanted)


def check_sensitivity(level: str) -> str:
    """`level` itself. Raises Usage when it is not one of the four."""
    if level not in SENSITIVITIES:
        raise Usage(f"sensitivity is one of {', '.join(SENSITIVITIES)}, found {level!r}")
    return level


def check_version(version: str) -> str:
    """`version` itself. Raises Usage when it is not a semantic version; build metadata (`+`) is not one of ours."""
    if not _SEMVER.fullmatch(version) or len(version) > 128:
        raise Usage(f"a version is such as 1.4.0 or 1.4.0-rc.1, found {version[:80]!r}")
    return version


def touched(
    cube: Memcube, *, plaintext: Plaintext, activation: Activation = Activation(), parameter: Parameter = Parameter()
) -> Memcube:
    """The same cube with new counts and `updated` now."""
    now = datetime.now(UTC).replace(microsecond=0)
    return replace(cube, plaintext=plaintext, activation=activation, parameter=parameter, updated=now)


def dumps(cube: Memcube) -> bytes:
    """The bytes of memcube.toml. Equal cubes give equal bytes."""
    import tomli_w

    body: dict[str, Any] = {
        "format_version": cube.format_version,
        "cube": {
            "id": cube.id,
            "name": cube.name,
            "version": cube.version,
            "description": cube.description,
            "licence": cube.licence,
            "created": cube.created,
            "updated": cube.updated,
            "forms": list(cube.forms),
        },
        "governance": {**asdict(cube.governance), "compliance": list(cube.governance.compliance)},
        "policy": asdict(cube.policy),
        "plaintext": {k: v for k, v in asdict(cube.plaintext).items() if v is not None},
    }
    if cube.requires:
        body["requires"] = dict(cube.requires)
    if cube.activation.files:
        body["activation"] = asdict(cube.activation)
    if cube.parameter.adapters:
        body["parameter"] = asdict(cube.parameter)
    if rules := access.as_table(cube.access):
        body["access"] = rules
    if cube.stamp:
        body["stamp"] = asdict(cube.stamp)
    return tomli_w.dumps(body).encode()


def load(directory: Path) -> Memcube:
    """The metadata in `directory`/memcube.toml. Raises NotFound, or Damaged naming the key."""
    path = directory / FILE
    return _Reader(read_toml(path), where=str(path)).memcube()


class _Reader:
    """Takes typed values out of a parsed table, naming the key that is wrong."""

    def __init__(self, table: dict[str, Any], *, where: str) -> None:
        self.table, self.where = table, where

    def memcube(self) -> Memcube:
        check_format(self.value("", "format_version", int), place=self.where)
        name, version = self.value("cube", "name", str), self.value("cube", "version", str)
        if not _NAME.fullmatch(name):
            raise self.wrong("cube.name", "letters, digits, '.', '_' and '-'", name)
        if not _SEMVER.fullmatch(version):
            raise self.wrong("cube.version", "a version such as 1.4.0", version)
        return Memcube(
            id=self.value("cube", "id", str),
            name=name,
            version=version,
            description=self.value("cube", "description", str, ""),
            licence=self.value("cube", "licence", str, ""),
            created=self.value("cube", "created", datetime),
            updated=self.value("cube", "updated", datetime),
            governance=self.governance(),
            policy=self.policy(),
            plaintext=self.plaintext(),
            requires=self.requires(),
            activation=Activation(
                files=self.value("activation", "files", int, 0), bytes=self.value("activation", "bytes", int, 0)
            ),
            parameter=Parameter(
                adapters=self.value("parameter", "adapters", int, 0), bytes=self.value("parameter", "bytes", int, 0)
            ),
            access=access.read(self.value("", "access", dict, {}), where=f"{self.where}: access", local=False),
            stamp=self.stamp(),
        )

    def stamp(self) -> Stamp | None:
        found = self.table.get("stamp")
        return None if found is None else stamp.from_table(found, place=f"{self.where}: stamp")

    def governance(self) -> Governance:
        sensitivity = self.value("governance", "sensitivity", str, "internal")
        if sensitivity not in SENSITIVITIES:
            raise self.wrong("governance.sensitivity", " or ".join(SENSITIVITIES), sensitivity)
        return Governance(
            owner=self.value("governance", "owner", str),
            owner_user=self.value("governance", "owner_user", str, ""),
            read_scope=self.value("governance", "read_scope", str, "anyone"),
            write_scope=self.value("governance", "write_scope", str, "owner"),
            share_scope=self.value("governance", "share_scope", str, "owner"),
            sensitivity=sensitivity,
            ttl_days=self.value("governance", "ttl_days", int, 0),
            decay_days=self.value("governance", "decay_days", int, 0),
            legal_hold=self.value("governance", "legal_hold", bool, False),
            frozen=self.value("governance", "frozen", bool, False),
            compliance=tuple(str(tag) for tag in self.value("governance", "compliance", list, [])),
        )

    def requires(self) -> tuple[tuple[str, str], ...]:
        table = self.value("", "requires", dict, {})
        for name, needed in table.items():
            if not _NAME.fullmatch(name) or not isinstance(needed, str) or len(table) > REQUIRES_LIMIT:
                raise self.wrong("requires", f"at most {REQUIRES_LIMIT} packages with ranges", f"{name} {needed}")
            try:
                semver.parse_range(needed)
            except Usage as error:
                raise self.wrong(f"requires.{name}", "a range such as ^1.4", needed) from error
        return tuple(sorted(table.items()))

    def policy(self) -> Policy:
        keep = self.value("policy", "keep_versions", int, 10)
        if keep < 1:
            raise self.wrong("policy.keep_versions", "at least 1", keep)
        return Policy(keep_versions=keep)

    def plaintext(self) -> Plaintext:
        table = self.value("", "plaintext", dict, {})
        embedder = None
        if "embedder" in table:
            embedder = embedder_from(table["embedder"], where=f"{self.where}: plaintext.embedder")
        return Plaintext(
            memories=self.value("plaintext", "memories", int, 0),
            live=self.value("plaintext", "live", int, 0),
            sources=self.value("plaintext", "sources", int, 0),
            guarded=self.value("plaintext", "guarded", int, 0) if "guarded" in table else None,
            decaying=self.value("plaintext", "decaying", int, 0),
            table=pin.from_table(table["table"], place=f"{self.where}: plaintext.table") if "table" in table else None,
            embedder=embedder,
        )

    def value(self, table: str, key: str, kind: type, default: Any = None) -> Any:
        """The value of `key` in `table` ("" is the top). Raises Damaged when it is absent without default."""
        place = self.table.get(table, {}) if table else self.table
        if not isinstance(place, dict):
            raise self.wrong(table, "a table", place)
        found = place.get(key, default)
        # bool is an int to Python, not to a reader of the file
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise self.wrong(f"{table}.{key}".lstrip("."), kind.__name__, found)
        return found

    def wrong(self, key: str, expected: str, found: object) -> Damaged:
        return Damaged(f"{self.where}: {key}: expected {expected}, found {str(found)[:80]!r}")


def embedder_from(table: object, *, where: str) -> EmbedderIdentity:
    """The identity written in a TOML or JSON table. Raises Damaged, naming `where`."""
    if not isinstance(table, dict):
        raise Damaged(f"{where}: expected a table, found {type(table).__name__}")
    kinds = {"name": str, "digest": str, "dim": int, "window": int, "precision": str}
    for key, kind in kinds.items():
        if not isinstance(table.get(key), kind):
            raise Damaged(f"{where}: expected {key} to be {kind.__name__}, found {str(table.get(key))[:80]!r}")
    if not 1 <= table["dim"] <= 16_384:
        raise Damaged(f"{where}: expected dim between 1 and 16384, found {table['dim']}")
    return EmbedderIdentity(**{key: table[key] for key in kinds})
