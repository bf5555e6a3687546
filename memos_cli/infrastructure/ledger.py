"""The ledger of copies: whom each was made for, and keyed hashes of what is in it alone. Private to a home.

`$MEMOS_HOME/watermarks/ledger.jsonl`, mode 0600, has a line of JSON for each copy, synced before the copy is written.
Who reads it sees who got what, and no words of any canary; without the key beside the home's other keys nothing can be
compared with it. Knows nothing of how canaries are made or found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memos_cli.cube.digest import encode
from memos_cli.errors import Damaged, MemosError
from memos_cli.infrastructure import disk

FOLDER, FILE = "watermarks", "ledger.jsonl"
KEY_FILE = "watermark.key"


@dataclass(frozen=True, slots=True)
class Planted:
    """What is kept of a canary: how many words it has, the keyed hash of all of them, and of each rare one with its
    place; and how unlikely they are, in thousandths of a bit."""

    words: int
    whole: str
    rare: tuple[tuple[int, str], ...]
    bits: int
    rare_bits: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that was made: for whom, of which package, when, by which key; and what is in it alone."""

    recipient: str
    recipient_key: str
    cube_id: str
    name: str
    version: str
    digest: str
    time: str
    signed_by: str
    canaries: tuple[Planted, ...]


def path_of(home: Path) -> Path:
    """Where the ledger of a home is."""
    return home / FOLDER / FILE


def record(home: Path, copy: Copy) -> None:
    """Adds a copy, once; it is on the disk when this returns. Raises MemosError."""
    from filelock import FileLock

    path = path_of(home)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.parent / ".lock"):
            if any(known.digest == copy.digest for known in read(home)):
                return
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as stream:
                # half a line at the end, of a process that died there, was never a copy
                stream.truncate(stream.read().rfind(b"\n") + 1)
                stream.seek(0, os.SEEK_END)
                stream.write(encode(asdict(copy)) + b"\n")
                os.fsync(stream.fileno())
            disk.sync(path.parent)
    except OSError as error:
        raise MemosError(
            f"{path} cannot be written: {error.strerror}; no copy is made that it does not tell of",
            hint="export MEMOS_HOME=/a/folder/you/can/write",
        ) from error


def read(home: Path) -> Iterator[Copy]:
    """The copies that were made, oldest first. Raises Damaged, MemosError."""
    path = path_of(home)
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return
    except OSError as error:
        raise MemosError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            yield _copy(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Damaged(f"{path}:{number}: expected a copy as memos pack --for notes it") from error


def _copy(value: dict[str, Any]) -> Copy:
    texts = {name: str(value[name]) for name in Copy.__slots__ if name != "canaries"}
    planted = tuple(
        Planted(
            int(one["words"]),
            str(one["whole"]),
            tuple((int(at), str(said)) for at, said in one["rare"]),
            int(one["bits"]),
            int(one["rare_bits"]),
        )  # fmt: skip
        for one in value["canaries"]
    )
    return Copy(**texts, canaries=planted)
