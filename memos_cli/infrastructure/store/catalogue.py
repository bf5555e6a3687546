"""The index of a store that cannot be listed: one file, `memos-index.json`, that any web server hands out.

A line of facts per package: enough to search and choose by. Nothing in it is believed when a package is fetched: its
own manifest says what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from memos_cli.cube import oci, semver
from memos_cli.cube.digest import canonical
from memos_cli.errors import Damaged, StoreFailed
from memos_cli.infrastructure.store.offer import Offer
from memos_cli.infrastructure.store.reference import is_name
from memos_cli.infrastructure.store.transport import Files, check_digest

FILE = "memos-index.json"
FORMAT = 1
LIMIT_BYTES = 16 << 20
TEXT_LIMIT_CHARACTERS = 4_096


@dataclass(frozen=True, slots=True)
class Entry:
    """A package: its newest version, and all that may be chosen, the newest first."""

    name: str
    version: str
    digest: str
    description: str
    licence: str
    sensitivity: str
    memories: int
    bytes: int
    updated: str
    versions: tuple[str, ...]


def entry_of(found: Offer, versions: Sequence[str]) -> Entry:
    """What an index says of a package whose newest version was found."""
    said = found.config.said
    return Entry(
        found.image.name, found.image.version, found.image.digest, said["description"], said["licence"],
        said["sensitivity"], said["memories"], found.image.size_bytes, said["updated"], tuple(versions),
    )  # fmt: skip


def read(files: Files) -> tuple[Entry, ...] | None:
    """The packages that a store's index tells of; None when it has no index. Raises Damaged."""
    found = files.small(FILE, LIMIT_BYTES)
    if found is None:
        return None
    place = f"{files.place}/{FILE}"
    value = oci.parse_object(found[0], place=place, limit_bytes=LIMIT_BYTES)
    packages = value.get("packages")
    if value.get("format_version") != FORMAT or not isinstance(packages, list):
        raise Damaged(f"{place}: expected an index of format {FORMAT}", hint="memos index FOLDER makes one")
    return tuple(_entry(one, place) for one in packages)


def write(files: Files, entries: Sequence[Entry]) -> None:
    """Writes the index. Raises StoreFailed when somebody else does at the same time."""
    data = canonical({"format_version": FORMAT, "packages": [_plain(entry) for entry in entries]})
    before = files.small(FILE, LIMIT_BYTES)
    if not files.swap(FILE, data, before[1] if before else None):
        raise StoreFailed(f"{files.place}/{FILE} was changed meanwhile", hint="the same command again")


def _plain(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "versions": list(entry.versions)}


def _entry(value: Any, place: str) -> Entry:
    kinds = {"memories": int, "bytes": int, "versions": list}
    names = {field.name: kinds.get(field.name, str) for field in fields(Entry)}
    if not isinstance(value, dict) or not names.keys() <= value.keys():
        raise Damaged(f"{place}: expected {', '.join(names)} for each package")
    for name, kind in names.items():
        if type(value[name]) is not kind or kind is str and len(value[name]) > TEXT_LIMIT_CHARACTERS:
            raise Damaged(f"{place}: expected {name} to be {kind.__name__}, found {str(value[name])[:60]!r}")
    versions = value["versions"]
    if not all(isinstance(one, str) and semver.parse(one) for one in [*versions, value["version"]]):
        raise Damaged(f"{place}: expected versions such as 1.4.0")
    check_digest(value["digest"], place=place)
    if not is_name(value["name"]):
        raise Damaged(f"{place}: expected a package's name, found {value['name'][:60]!r}")
    return Entry(**{**{name: value[name] for name in names}, "versions": tuple(versions)})
