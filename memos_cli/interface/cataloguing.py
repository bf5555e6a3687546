"""Keeping the catalogue of a vault up to date: a fingerprint of each cube, of what may be asked of it.

A cube is looked at again when its current version has another name than the one that was looked at, and when one of
its memories has outlived its time. It is read through the frame, under the verb `catalogue`, so its trail says so. What
the actor may not query is in no fingerprint; a cube that is closed to them has an empty one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube.scopes import rank
from memos_cli.errors import Locked, MemosError, NotAllowed
from memos_cli.infrastructure import catalogue
from memos_cli.infrastructure.catalogue import Catalogue, Entry, Record
from memos_cli.infrastructure.keyring import secret
from memos_cli.infrastructure.vault import CUBES, Vault
from memos_cli.interface import frame
from memos_cli.interface.frame import Desk, Reading

if TYPE_CHECKING:
    import pyarrow as pa

VERB, QUERY = "catalogue", "query"
KEY_FILE = "catalogue.key"
# What is made in another way counts as not made.
RECIPE = 1
# The highest label of a memory whose words are in a fingerprint.
TOLD = "internal"
# So many cubes are looked at before the file is written: who interrupts the first look keeps most of it.
BATCH = 100
_TELLING = ("text", "speaker", "section", "topic", "title")
_COLUMNS = (*_TELLING, "sensitivity", "expires_at")


def key_of(desk: Desk) -> bytes:
    """The home's key for the words of fingerprints."""
    return secret(desk.home, KEY_FILE)


def up_to_date(desk: Desk) -> tuple[Catalogue, int]:
    """The catalogue of the home as its cubes are now, and how many were looked at for that.

    A cube that cannot be read is told to the desk and left out. Raises NotAllowed for a client: the catalogue is made
    of what the owner of the home may query.
    """
    if desk.actor.client is not None:
        raise NotAllowed("a vault is asked by the owner of the home alone", hint="name the cubes to ask")
    whose, now = _whose(desk), frame.now().timestamp()
    there = Vault(desk.home).pointers()
    known = catalogue.read(desk.home, whose=whose)
    fresh = known.fresh(there, now=now)
    stale = sorted(there.keys() - fresh.keys())
    if len(stale) > BATCH:
        desk.notify(f"looking at {len(stale)} cubes, once, to know what each is about")
    looked = 0
    for start in range(0, len(stale), BATCH):
        found = [record for name in stale[start : start + BATCH] if (record := _look(desk, name))]
        looked += len(found)
        if found:
            known = catalogue.publish(desk.home, whose, found, now=now)
    if len(known.entries) > len(fresh) + looked:
        known = catalogue.publish(desk.home, whose, (), now=now)
    return known, looked


def forget(desk: Desk, root: Path) -> None:
    """Leaves no trace of an earlier version of the cube at `root` in the catalogue of this home, nor of the one that
    the cube lies in. Raises MemosError when that cannot be done."""
    vault = root.parent
    # a file that is called like ours, in a folder that is nobody's home, is not ours to change
    there = [vault.parent] if vault.name == CUBES and (vault.parent / "keys").is_dir() else []
    for home in {desk.home, *there}:
        try:
            catalogue.prune(home)
        except (OSError, Locked) as error:
            raise MemosError(
                f"the memories are forgotten, but {catalogue.path_of(home)} may still tell of them: {error}",
                hint="the same command again, or remove that file: it is made anew",
            ) from error


def _whose(desk: Desk) -> str:
    """For whom a catalogue is made: another key, or another policy of theirs, may see other memories."""
    policy = hashlib.sha256(repr(desk.policy).encode("utf-8", "replace")).hexdigest()
    return f"{RECIPE} {desk.actor.key} {policy}"


def _look(desk: Desk, name: str) -> Record | None:
    """The record of a cube as it is now; None for one that cannot be read."""
    path = Vault(desk.home).path(name)
    version = Vault(desk.home).pointer(name)
    try:
        with frame.reading(desk, path, VERB) as seen:
            version = seen.version.path.name
            seen.ask(QUERY)
            try:
                return _record(seen, name, key_of(desk))
            except NotAllowed as error:  # its table lies elsewhere, and nobody has let it be called yet
                desk.notify(f"{name} is left out: {error.message}")
                return None
    except NotAllowed:
        return _closed(name, version)
    except MemosError as error:
        desk.notify(f"{name} is left out: {error.message}")
        return None


def _closed(name: str, version: str) -> Record:
    import numpy as np

    return Record(
        Entry(name, version, closed=True), np.empty((0, 0), np.float16), np.empty(0, np.uint32), np.empty(0, np.uint16)
    )


def _record(seen: Reading, name: str, key: bytes) -> Record:
    from memos_cli.operation.fingerprint import sketch

    cube = seen.cube
    identity = seen.whole.embedder
    rows = _rows(seen, [*_COLUMNS, *(["vector"] if identity else [])])
    level = cube.governance.sensitivity
    guarded = [rank(each or level) > rank(TOLD) for each in rows["sensitivity"].to_pylist()]
    told, kept = _vectors(rows, guarded)
    print_ = sketch(
        _texts(rows, guarded), about=f"{name} {cube.name} {cube.description}", speakers=_speakers(rows, guarded),
        vectors=told, guarded=kept, key=key,
    )  # fmt: skip
    entry = Entry(
        name, seen.version.path.name, rows=rows.num_rows,
        embedder=json.dumps(asdict(identity), sort_keys=True) if identity else "",
        centres=len(print_.centres), dim=print_.centres.shape[1], until=_until(rows),
    )  # fmt: skip
    return Record(entry, print_.centres, print_.words, print_.counts)


def _rows(seen: Reading, columns: list[str]) -> pa.Table:
    """What may be asked of a cube now; of a large table rows from all over it."""
    from memos_cli.cube.plaintext import live_at
    from memos_cli.operation.fingerprint import MOST_ROWS

    shown = seen.memories.narrowed(seen.sight(QUERY).condition)
    live = live_at(frame.now())
    count = shown.count(live)
    if count <= MOST_ROWS:
        return shown.rows(live, columns=columns)
    places = shown.numbered(live, columns=["id"])["_rowid"].to_pylist()
    return shown.at(places[:: -(-count // MOST_ROWS)], columns=columns)


def _vectors(rows: pa.Table, guarded: list[bool]) -> tuple[Any, Any]:
    """The vectors of the memories that may be told, and of the others."""
    import numpy as np

    from memos_cli.operation.holding import vectors_of

    if "vector" not in rows.column_names:
        return np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
    vectors, apart = vectors_of(rows, "vector"), np.array(guarded, bool)
    return vectors[~apart], vectors[apart]


def _texts(rows: pa.Table, guarded: list[bool]) -> Iterator[str]:
    """What each memory that may be told says, with who said it and under which heading."""
    columns = [rows[name].to_pylist() for name in _TELLING]
    for apart, parts in zip(guarded, zip(*columns, strict=True), strict=True):
        if not apart:
            yield " ".join(part for part in parts if part)


def _speakers(rows: pa.Table, guarded: list[bool]) -> list[str]:
    """Who talks in memories that may be told."""
    said = zip(rows["speaker"].to_pylist(), guarded, strict=True)
    return list(dict.fromkeys(name for name, apart in said if name and not apart))


def _until(rows: pa.Table) -> float:
    """When the first of the memories ends; 0 for never."""
    ends = [moment.timestamp() for moment in rows["expires_at"].to_pylist() if moment]
    return min(ends, default=0.0)
