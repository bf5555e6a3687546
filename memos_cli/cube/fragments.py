"""Parts of a table that several processes write at once, and that one of them puts in.

Lance keeps a table's rows in fragments: a file anybody may write beside the others, which nobody reads before a commit
names it. That side of Lance is in its own package (`pylance`), which comes with an extra; what it writes, lancedb
reads. Knows nothing of who writes, or where.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube.lance import MEMORIES

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.plaintext import Memories

DATA = "data"


def write(directory: Path, rows: pa.Table, *, name: str = MEMORIES) -> tuple[str, ...]:
    """Writes rows beside the table under `directory`; what to hand to `append`, once this process is done."""
    import lance
    from lance.fragment import write_fragments

    place = str(directory / f"{name}.lance")
    # a table that was extended has the same columns in another order
    ordered = rows.select(lance.dataset(place).schema.names)
    return tuple(json.dumps(one.to_json()) for one in write_fragments(ordered, place, mode="append"))


def append(memories: Memories, written: Sequence[str]) -> None:
    """Puts in what `write` told of, in this order and in one commit of the table."""
    if not written:
        return
    import lance
    from lance.fragment import FragmentMetadata

    place = str(memories.directory / f"{MEMORIES}.lance")
    added = lance.LanceOperation.Append([FragmentMetadata.from_json(one) for one in written])
    lance.LanceDataset.commit(place, added, read_version=lance.dataset(place).version)
    memories.table.whole.checkout_latest()


def drop_lost(memories: Memories, before: Collection[str]) -> None:
    """Removes data that no row is in: what was being written where a process ended. `before` are files to keep."""
    import lance

    place = memories.directory / f"{MEMORIES}.lance"
    held = {Path(path).name for path in _paths(lance.dataset(str(place)).get_fragments())}
    for path in files(memories.directory) - held - set(before):
        (place / DATA / path).unlink(missing_ok=True)


def files(directory: Path) -> frozenset[str]:
    """The names of the data files of the table under `directory`."""
    folder = directory / f"{MEMORIES}.lance" / DATA
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def _paths(fragments: Iterable[Any]) -> Iterable[str]:
    return (file.path for fragment in fragments for file in fragment.data_files())
