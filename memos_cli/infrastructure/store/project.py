"""What a project needs: `cubes.toml`, which people write, and `memos.lock`, which says what that came to.

    sources = ["file:///srv/store", "oci://ghcr.io/acme"]     names are looked up here, in this order
    folder = "memory"                                         where cubes go; the current folder without it

    [cubes]
    team = "^1.4"
    handbook = { version = "2", source = "oci://ghcr.io/acme", path = "books/handbook.cube" }

Both files may come with somebody else's project: paths stay below the folder, and nothing in them says what is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from memos_cli.cube import semver
from memos_cli.cube.toml import read_toml
from memos_cli.errors import Damaged, NotFound, Usage
from memos_cli.infrastructure.disk import write_bytes
from memos_cli.infrastructure.store import reference
from memos_cli.infrastructure.store.transport import check_digest

FILE = "cubes.toml"
LOCK = "memos.lock"
LOCK_FORMAT = 1
CUBES_LIMIT = 1_000
SUFFIX = ".cube"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cube that a project lists: which versions will do, from which store, and where it goes."""

    name: str
    range: semver.Range
    source: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Project:
    """What cubes.toml says."""

    place: Path
    sources: tuple[str, ...]
    folder: str
    cubes: tuple[Wanted, ...]

    def path_of(self, name: str) -> Path:
        """Where a cube goes, one that nobody listed too."""
        told = next((one.path for one in self.cubes if one.name == name), f"{self.folder}/{name}{SUFFIX}")
        return self.place.parent / told


@dataclass(frozen=True, slots=True)
class Locked:
    """A cube as it was chosen: `package` is its reference without version, `key` who signed it ("" for nobody)."""

    name: str
    version: str
    package: str
    digest: str
    key: str
    sequence: int
    requires: Mapping[str, str]


def load(place: Path) -> Project:
    """The project that the file at `place` tells of. Raises NotFound, Damaged."""
    try:
        said = read_toml(place)
    except NotFound as error:
        hint = f"write one: a line [cubes], and below it NAME = '^1.0', in {place.name}"
        raise NotFound(f"no {place.name} in {place.parent}", hint=hint) from error
    if odd := sorted(said.keys() - {"sources", "folder", "cubes"}):
        raise Damaged(f"{place}: expected sources, folder and [cubes], found {odd[0]!r:.60}")
    sources, folder, cubes = said.get("sources", []), said.get("folder", "."), said.get("cubes", {})
    if not isinstance(sources, list) or not all(isinstance(one, str) for one in sources):
        raise Damaged(f"{place}: expected a list of stores as sources")
    if not isinstance(cubes, dict) or len(cubes) > CUBES_LIMIT:
        raise Damaged(f"{place}: expected a table of at most {CUBES_LIMIT:,} cubes")
    below = _checked_path(folder, place, suffix="")
    wanted = tuple(_wanted(name, told, below, place) for name, told in cubes.items())
    return Project(place, tuple(sources), below, wanted)


def _wanted(name: str, told: Any, folder: str, place: Path) -> Wanted:
    table = {"version": told} if isinstance(told, str) else told
    if not isinstance(table, dict) or not table.keys() <= {"version", "source", "path"}:
        raise Damaged(f"{place}: {name}: expected a range, or a table of version, source and path")
    if not all(isinstance(value, str) for value in table.values()):
        raise Damaged(f"{place}: {name}: expected texts as version, source and path")
    path = _checked_path(table.get("path", f"{folder}/{name}{SUFFIX}"), place, suffix=SUFFIX)
    return Wanted(_checked_name(name, place), _range(table.get("version", "*"), name, place), table.get("source"), path)


def read_lock(place: Path) -> tuple[Locked, ...] | None:
    """What a lock file says, sorted by name; None when there is none. Raises Damaged."""
    try:
        said = read_toml(place)
    except NotFound:
        return None
    cubes = said.get("cube", [])
    if said.get("version") != LOCK_FORMAT or not isinstance(cubes, list) or len(cubes) > CUBES_LIMIT:
        raise Damaged(f"{place}: expected a lock of version {LOCK_FORMAT}", hint=f"rm {place} and memos install")
    found = tuple(_locked(one, place) for one in cubes)
    if len({one.name for one in found}) != len(found):
        raise Damaged(f"{place}: expected each cube once")
    return found


def write_lock(place: Path, cubes: tuple[Locked, ...]) -> bool:
    """Writes a lock file when it would change; whether it did."""
    import tomli_w

    tables = [
        {
            "name": one.name, "version": one.version, "package": one.package, "digest": one.digest, "key": one.key,
            "sequence": one.sequence, "requires": dict(sorted(one.requires.items())),
        }
        for one in sorted(cubes, key=lambda one: one.name)
    ]  # fmt: skip
    data = (
        b"# Written by memos install; not to be edited.\n"
        + tomli_w.dumps({"version": LOCK_FORMAT, "cube": tables}).encode()
    )
    if place.is_file() and place.read_bytes() == data:
        return False
    write_bytes(place, data, durable=True)
    return True


def _locked(told: Any, place: Path) -> Locked:
    kinds = {"name": str, "version": str, "package": str, "digest": str, "key": str, "sequence": int, "requires": dict}
    if not isinstance(told, dict) or told.keys() != kinds.keys():
        raise Damaged(f"{place}: expected {', '.join(kinds)} for each cube")
    for name, kind in kinds.items():
        if type(told[name]) is not kind:
            raise Damaged(f"{place}: expected {name} to be {kind.__name__}, found {str(told[name])[:60]!r}")
    _checked_name(told["name"], place)
    check_digest(told["digest"], place=str(place))
    if semver.parse(told["version"]) is None:
        raise Damaged(f"{place}: expected a version such as 1.4.0, found {told['version'][:60]!r}")
    try:
        package = reference.parse(told["package"])
    except Usage as error:
        raise Damaged(f"{place}: {error.message}") from error
    if package.name != told["name"] or package.version or package.digest or not package.scheme:
        raise Damaged(f"{place}: expected the package {told['name']} in a store, found {told['package'][:120]!r}")
    for name, needed in told["requires"].items():
        _range(needed, name, place)
    return Locked(**told)


def _range(text: Any, name: str, place: Path) -> semver.Range:
    try:
        return semver.parse_range(text if isinstance(text, str) else repr(text))
    except Usage as error:
        raise Damaged(f"{place}: {name}: {error.message}") from error


def _checked_name(name: str, place: Path) -> str:
    if reference.is_name(name):
        return name
    raise Damaged(f"{place}: expected a package's name, found {name[:80]!r}")


def _checked_path(path: Any, place: Path, *, suffix: str) -> str:
    """A path below the project's folder."""
    plain = isinstance(path, str) and all(letter.isprintable() for letter in path) and len(path) <= 500
    if not plain or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not path.endswith(suffix):
        kind = f" that ends in {suffix}" if suffix else ""
        raise Damaged(f"{place}: expected a path below its folder{kind}, found {path!r:.120}")
    return str(PurePosixPath(path))
