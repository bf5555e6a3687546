"""The format's versions: which one this program writes, and how the older ones are read and put aside.

FORMAT_VERSION is what every manifest says. A cube that says more was made by a newer memos and is refused in
words; one that says less has a reader here. A reader yields plain values (metadata and rows), so that the
rewriting is done by the ordinary commit protocol and not by a path of its own.

Migration is in place and safe to interrupt: the new versions/ are made beside the old files, which stay the cube
until `current` appears; then `set_aside` moves them to before-migration/, where they stay until somebody deletes
them. Run again after an interruption, it begins anew or just finishes the moving. Knows nothing of that commit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memos_cli.errors import Damaged, NotFound

FORMAT_VERSION = 1
BEFORE_MIGRATION = "before-migration"

# Format 0, the draft layout: the metadata and the memories lie at the root, and there are no versions.
FORMAT_0_METADATA = "memcube.toml"
FORMAT_0_ROWS = "memories.jsonl"
FORMAT_0_FILES = frozenset({FORMAT_0_METADATA, FORMAT_0_ROWS})
LINE_LIMIT_BYTES = 16 << 20
_ROW_FIELDS = {"id", "text", "source", "created"}

Older = tuple[dict[str, Any], Iterator[dict[str, Any]]]


def check_format(found: Any, *, place: str = "cube") -> int:
    """`found`, when this program reads and writes that format; raises Damaged for a newer, older or odd one."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise Damaged(f"{place}: expected a format version, found {found!r:.40}")
    if found > FORMAT_VERSION:
        raise Damaged(
            f"{place}: format {found} was made by a newer memos; this one reads up to {FORMAT_VERSION}",
            hint="pip install --upgrade memos",
        )
    if found < FORMAT_VERSION:
        raise Damaged(f"{place}: format {found} is older than {FORMAT_VERSION}", hint="memos migrate CUBE")
    return found


def find_format(directory: Path) -> int | None:
    """The format of the cube in `directory`, told by its layout; None for a folder that is no cube of any format.

    A folder whose migration was cut short before its end is still of the old format; after it, of the new one.
    """
    if os.path.lexists(directory / "current"):
        return FORMAT_VERSION
    if all((directory / name).is_file() for name in FORMAT_0_FILES):
        return 0
    return None


def read_older(directory: Path) -> Older:
    """The metadata and the rows of a cube of an older format, by that format's reader.

    Raises NotFound when the folder holds no cube of an older format, Damaged for one that cannot be read.
    """
    found = find_format(directory)
    if found is None or found not in READERS:
        raise NotFound(f"expected a cube of a format before {FORMAT_VERSION} in {directory}, found none")
    return READERS[found](directory)


def read_format_0(directory: Path) -> Older:
    """The metadata (name, description, created) of a draft-layout cube, and its rows as they are read.

    A row has id, text, source (each a str) and created (a datetime with zone, or None). Raises Damaged, naming
    the line, for a malformed one; rows before it were yielded by then.
    """
    # Imported here, so that knowing the format version costs nothing.
    from memos_cli.cube.toml import read_toml

    table = read_toml(directory / FORMAT_0_METADATA)
    if table.get("format_version", 0) != 0:
        raise Damaged(f"{directory / FORMAT_0_METADATA}: expected format_version 0, found {table['format_version']!r}")
    metadata: dict[str, Any] = {"format_version": 0, "created": _moment(table.get("created"), place="created")}
    for name in ("name", "description"):
        metadata[name] = table.get(name, "")
        if not isinstance(metadata[name], str):
            raise Damaged(f"{directory / FORMAT_0_METADATA}: expected {name} to be text, found {metadata[name]!r:.40}")
    return metadata, _rows_of_format_0(directory / FORMAT_0_ROWS)


def _rows_of_format_0(path: Path) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    try:
        with open(path, "rb") as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LINE_LIMIT_BYTES + 1), b""), start=1):
                if line.strip():
                    row = _row_of_format_0(line, place=f"{path}:{number}")
                    if row["id"] in seen:
                        raise Damaged(f"{path}:{number}: expected each id once, found {row['id']!r:.80} again")
                    seen.add(row["id"])
                    yield row
    except FileNotFoundError as error:
        raise Damaged(f"expected the memories of this cube in {path}, found no such file") from error


def _row_of_format_0(line: bytes, *, place: str) -> dict[str, Any]:
    if len(line) > LINE_LIMIT_BYTES:
        raise Damaged(f"{place}: expected lines of at most {LINE_LIMIT_BYTES} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{place}: expected a JSON object, found something else") from error
    if not isinstance(value, dict) or not value.keys() <= _ROW_FIELDS:
        raise Damaged(f"{place}: expected an object with {', '.join(sorted(_ROW_FIELDS))}")
    for name in ("id", "text", "source"):
        found = value.get(name, "" if name == "source" else None)
        if not isinstance(found, str) or (name != "source" and not found.strip()):
            raise Damaged(f"{place}: expected {name} to be text, found {found!r:.40}")
        value[name] = found
    return {**value, "created": _moment(value.get("created"), place=place)}


def _moment(value: Any, *, place: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise Damaged(f"{place}: expected created as 2026-01-31T12:00:00Z, found {value!r:.40}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def set_aside(directory: Path) -> list[str]:
    """Move an older format's files to before-migration/ once the new `current` is there; the names moved.

    Raises Damaged while there is no `current`, or when a file of that name was put aside before.
    """
    if not os.path.lexists(directory / "current"):
        raise Damaged(f"{directory} has not been migrated yet", hint=f"memos migrate {directory}")
    moved = sorted(name for name in FORMAT_0_FILES if os.path.lexists(directory / name))
    aside = directory / BEFORE_MIGRATION
    for name in moved:
        aside.mkdir(exist_ok=True)
        if os.path.lexists(aside / name):
            raise Damaged(f"{aside / name} is there already", hint=f"mv {aside} {aside}.1")
        os.rename(directory / name, aside / name)
    return moved


READERS: dict[int, Callable[[Path], Older]] = {0: read_format_0}
