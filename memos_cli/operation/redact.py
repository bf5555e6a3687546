"""A version without some of its memories: what a copy holds that may not have all of the original.

The table is written anew, for Lance keeps the text of rows that were deleted. With a memory go its derived files, its
source when nothing else of it is left, and every mention of its id. Windows need no change: none crosses from what
stays to what goes, as long as what goes is told by GUARDS and ends. Digests of sources go too. Works in a
folder it was handed.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation, exchanges, extracted, parameter, parameter_stack, probes, sources
from memos_cli.cube.filters import quote
from memos_cli.cube.plaintext import TABLE, Memories, with_columns
from memos_cli.infrastructure.disk import write_bytes
from memos_cli.operation import linking, settle

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 2_048
_LINKS = ("supersedes", "superseded_by")


def redact(version: Path, *, only: str, plaintext: str) -> Memories:
    """Leaves in `version` only the memories that satisfy an SQL condition ("" for all), and nothing that tells of
    others; returns the new table. `plaintext` is the name of its folder."""
    directory = version / plaintext
    old = Memories.open(directory)
    kept = frozenset(old.narrowed(only).rows(columns=["id"])["id"].to_pylist())
    beside = directory / "redacting"
    fresh = Memories.create(beside, embedder=old.embedder)
    for part in old.narrowed(only).parts(BATCH):
        fresh.append(unlinked(part, kept).select(fresh.schema.names).cast(fresh.schema))
    shutil.rmtree(directory / f"{TABLE}.lance")
    (beside / f"{TABLE}.lance").rename(directory / f"{TABLE}.lance")
    beside.rmdir()
    memories = Memories.open(directory)
    _tidy_beside(directory, memories, kept)
    for path in activation.find(version / activation.FOLDER):
        if activation.memory_of(path) not in kept:
            path.unlink()
    _drop_learned(version, directory, kept)
    return memories


def _drop_learned(version: Path, directory: Path, kept: Collection[str]) -> None:
    """Removes adapters that were taught something that is gone, with those that stand on them, and its probes."""
    folder = version / parameter.FOLDER
    for one in settle.readable(folder):
        if not one.memory_ids <= set(kept) and one.path.exists():
            parameter_stack.remove(folder, one.name, with_above=True)
    if (directory / settle.PROBES).exists():
        lost = probes.memory_ids(directory) - set(kept)
        gone = {made for made in probes.adapters(directory) if made not in parameter.names(folder)}
        probes.delete(directory, memory_ids=lost, adapters=gone)


def unlinked(rows: pa.Table, kept: Collection[str]) -> pa.Table:
    """The rows without the ids of memories that are gone."""
    links = {name: [each if each in kept else "" for each in rows[name].to_pylist()] for name in _LINKS}
    heirs = zip(rows["superseded_as"].to_pylist(), links["superseded_by"], strict=True)
    links["superseded_as"] = [reason if heir else "" for reason, heir in heirs]
    # a digest of a whole source tells whether a guess at what is missing is right
    return with_columns(rows, **links, source_digest="")


def _tidy_beside(directory: Path, memories: Memories, kept: Collection[str]) -> None:
    """Leaves in the other files of the plaintext form what is about sources that are left."""
    uris = memories.uris()
    catalogue = sources.read(directory)
    left: dict[str, Any] = {}
    for uri in catalogue:
        if uri in uris:
            count = memories.count(f"source = {quote(uri)} and valid_to is null")
            left[uri] = replace(catalogue[uri], memories=count, digest="")
    write_bytes(directory / sources.FILE, sources.encode(left))
    if (directory / extracted.FILE).exists():
        asked = [each for each in extracted.read(directory).values() if each.source in uris]
        write_bytes(directory / extracted.FILE, extracted.encode({each.key: each for each in asked}))
    linking.leave(directory, kept)
    if (directory / exchanges.FILE).exists():
        told = [
            replace(each, cited=tuple(one for one in each.cited if one in kept))
            for uri, each in exchanges.read(directory).items()
            if uri in uris
        ]
        write_bytes(directory / exchanges.FILE, exchanges.encode(told))
