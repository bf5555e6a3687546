"""Digests and the manifest of a version: what files a version has, their sizes and their sha256.

Canonical JSON is UTF-8, keys sorted by code point, no spaces, no floats, integers within 2**53: the same
value always gives the same bytes, in any language. A manifest is read strictly: what is not exactly what
`build` would have written is refused (`Damaged`), so that a hostile one never becomes a path.

Knows nothing of where a version is kept, and nothing of what is inside its files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.cube.migrate import FORMAT_VERSION, check_format
from memos_cli.errors import Damaged

MANIFEST_NAME = "MANIFEST.json"
MANIFEST_LIMIT_BYTES = 64 << 20
PATH_LIMIT_CHARACTERS = 512
FILE_LIMIT_BYTES = 1 << 50
TEXT_LIMIT_CHARACTERS = 4096
NESTING_LIMIT = 8
INTEGER_LIMIT = 2**53 - 1

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,254}"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,15}}")
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CUBE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{7,63}")
_OPERATION = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
_FIELDS = frozenset(
    ("format_version", "cube_id", "version", "parent", "operation", "actor", "time", "reason", "summary", "files")
)


# A named tuple, since a cube has many and they are made on every read.
class Entry(NamedTuple):
    """One file of a version: its posix path below the version, its size in bytes, its sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a version is, and the change that made it; `files` are sorted by path."""

    format_version: int
    cube_id: str
    version: int
    parent: str | None
    operation: str
    actor: dict[str, str]
    time: str
    reason: str
    summary: dict[str, Any]
    files: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """The manifest as it lies on disk; its sha256 is the identity of the version."""
        value = {name: getattr(self, name) for name in _FIELDS - {"files"}}
        value["files"] = [{"path": e.path, "size": e.size, "sha256": e.sha256} for e in self.files]
        return encode(value)

    def entries(self) -> dict[str, Entry]:
        """The files by path."""
        return {entry.path: entry for entry in self.files}

    @property
    def size_bytes(self) -> int:
        """The bytes of all files together, the manifest itself not counted."""
        return sum(entry.size for entry in self.files)


@dataclass(frozen=True, slots=True)
class Difference:
    """How one manifest differs from another, file by file; `unchanged` is a count."""

    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    changed: tuple[tuple[Entry, Entry], ...]
    unchanged: int


def sha256_hex(data: bytes) -> str:
    """The sha256 of bytes, in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def digest_of(data: bytes) -> str:
    """The sha256 of bytes in the form digests have everywhere in a cube: `sha256:<hex>`."""
    return f"sha256:{sha256_hex(data)}"


def hash_file(path: Path | str) -> str:
    """The sha256 of a file's content in hex, read in blocks; raises OSError."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON; raises Damaged for what canonical JSON cannot hold (floats among it)."""
    _check_value(value, "value", 0)
    return encode(value)


def encode(value: Any) -> bytes:
    """What `canonical` gives, of a value that is known to hold nothing but texts, whole numbers, lists and objects."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise Damaged(f"expected a value that canonical JSON can hold, found one that it cannot: {error}") from error


def is_safe_path(path: str) -> bool:
    """Whether `path` may name a file of a cube: ASCII, relative, no dot at the start of a part, at most 16 parts."""
    return len(path) <= PATH_LIMIT_CHARACTERS and _PATH.fullmatch(path) is not None


def build(
    files: Iterable[Entry],
    *,
    cube_id: str,
    version: int,
    parent: str | None,
    operation: str,
    actor: Mapping[str, str],
    time: str,
    reason: str = "",
    summary: Mapping[str, Any] | None = None,
) -> Manifest:
    """A checked manifest of `files` in the present format; raises Damaged for a name or value it may not hold."""
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        cube_id=cube_id,
        version=version,
        parent=parent,
        operation=operation,
        actor=dict(actor),
        time=time,
        reason=reason,
        summary=dict(summary or {}),
        files=tuple(sorted(files, key=lambda entry: entry.path)),
    )
    _check(manifest, MANIFEST_NAME)
    return manifest


def parse(data: bytes, *, place: str = MANIFEST_NAME) -> Manifest:
    """The manifest in `data`; raises Damaged, naming `place`, for anything `build` would not have written."""
    value = _load(data, place)
    check_format(value.get("format_version"), place=place)
    if value.keys() != _FIELDS:
        odd = sorted(value.keys() ^ _FIELDS)
        raise _damaged(place, f"the fields of a manifest, found a difference in {odd[0]!r}")
    if not isinstance(value["files"], list):
        raise _damaged(place, "a list of files")
    files = tuple(_entry(item, place) for item in value["files"])
    manifest = Manifest(**{**value, "files": files})
    _check(manifest, place)
    if manifest.to_bytes() != data:
        raise _damaged(place, "canonical JSON (sorted, without spaces or repeated keys)")
    return manifest


def diff(old: Manifest, new: Manifest) -> Difference:
    """What `new` adds, removes and changes against `old`, by path and sha256, each sorted by path."""
    before, after = old.entries(), new.entries()
    both = [(before[path], after[path]) for path in before if path in after]
    changed = tuple(pair for pair in both if pair[0].sha256 != pair[1].sha256)
    return Difference(
        added=tuple(entry for path, entry in after.items() if path not in before),
        removed=tuple(entry for path, entry in before.items() if path not in after),
        changed=changed,
        unchanged=len(both) - len(changed),
    )


def _damaged(place: str, expected: str) -> Damaged:
    return Damaged(f"{place}: expected {expected}", hint="this version cannot be trusted; take the cube from a copy")


def _load(data: bytes, place: str) -> dict[str, Any]:
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise _damaged(place, f"at most {MANIFEST_LIMIT_BYTES} bytes, found {len(data)}")
    try:
        value = json.loads(data.decode("utf-8"))
    # A number of thousands of digits raises ValueError, deep nesting RecursionError.
    except (ValueError, RecursionError) as error:
        raise _damaged(place, f"JSON in UTF-8, found otherwise ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise _damaged(place, f"an object, found a {type(value).__name__}")
    return value


def _entry(item: Any, place: str) -> Entry:
    if not isinstance(item, dict) or item.keys() != {"path", "size", "sha256"}:
        raise _damaged(place, "path, size and sha256 for each file")
    return Entry(**item)


def _check(manifest: Manifest, place: str) -> None:
    _check_head(manifest, place)
    _check_value(manifest.summary, place, 0)
    for entry in manifest.files:
        _check_entry(entry, place)
    _check_order(manifest.files, place)


def _check_head(manifest: Manifest, place: str) -> None:
    if not _is_whole(manifest.version, 1, 99_999_999):
        raise _damaged(place, f"a version number from 1 to 99999999, found {manifest.version!r}")
    if manifest.parent is not None and not _matches(_DIGEST, manifest.parent):
        raise _damaged(place, f"sha256:<64 hex> or null as the parent, found {manifest.parent!r}")
    for name, pattern in (("cube_id", _CUBE_ID), ("operation", _OPERATION), ("time", _TIME)):
        if not _matches(pattern, getattr(manifest, name)):
            raise _damaged(place, f"a well-formed {name}, found {getattr(manifest, name)!r:.80}")
    if not isinstance(manifest.reason, str) or len(manifest.reason) > TEXT_LIMIT_CHARACTERS:
        raise _damaged(place, f"a reason of at most {TEXT_LIMIT_CHARACTERS} characters")
    if not isinstance(manifest.actor, dict) or not all(_is_short_text(v) for v in manifest.actor.values()):
        raise _damaged(place, "short texts about the actor")
    if not isinstance(manifest.summary, dict):
        raise _damaged(place, "an object as the summary")


def _check_entry(entry: Entry, place: str) -> None:
    if (
        not isinstance(entry.path, str)
        or not is_safe_path(entry.path)
        or entry.path.casefold() == MANIFEST_NAME.casefold()
    ):
        raise _damaged(place, f"a safe relative path, found {entry.path!r:.120}")
    if type(entry.size) is not int or not 0 <= entry.size <= FILE_LIMIT_BYTES:
        raise _damaged(place, f"a size in bytes for {entry.path}, found {entry.size!r}")
    if not _matches(_HEX, entry.sha256):
        raise _damaged(place, f"64 hex digits as the sha256 of {entry.path}")


def _check_order(files: tuple[Entry, ...], place: str) -> None:
    """Sorted, none twice (not even by case, for file systems that fold it), none both a file and a folder."""
    last = ""
    for entry in files:
        if entry.path <= last:
            raise _damaged(place, f"paths in order and each once, found {entry.path!r} after {last!r}")
        last = entry.path
    folded = {entry.path.casefold() for entry in files}
    folders: set[str] = set()
    for folder in {path.rpartition("/")[0] for path in folded}:
        parts = folder.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    if len(folded) != len(files) or folded & folders:
        raise _damaged(place, "paths that differ by more than case, and no file that is also a folder")


def _check_value(value: Any, place: str, depth: int) -> None:
    if depth > NESTING_LIMIT:
        raise _damaged(place, f"at most {NESTING_LIMIT} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise _damaged(place, f"text as key, found {key!r:.40}")
            _check_value(inner, place, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_value(inner, place, depth + 1)
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > INTEGER_LIMIT:
            raise _damaged(place, "integers within 2**53")
    elif not (value is None or isinstance(value, str | bool)):
        raise _damaged(place, f"text, integers, true, false, null, lists and objects; found a {type(value).__name__}")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_short_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_LIMIT_CHARACTERS
