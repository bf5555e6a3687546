"""The part of an audit that opens the table of memories: its schema, and with `deep` every row.

Rows are read in batches, so memory grows by the ids only. Knows files of one version and nothing of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import metadata
from memos_cli.errors import Damaged, MemosError, MissingExtra, NotAllowed, StoreFailed
from memos_cli.operation.findings import DAMAGE, Counts, Finding

if TYPE_CHECKING:
    import pyarrow as pa

    from memos_cli.cube.pin import Pin
    from memos_cli.cube.plaintext import Memories

PLAINTEXT = "plaintext"
VECTORS = ("vector", "near_vector")
LENGTH_TOLERANCE = 1e-3
_SPANS = (("valid_from", "valid_to"), ("true_from", "true_to"), ("line_start", "line_end"))


def check(version: Path, counts: Counts, *, deep: bool, remedy: str) -> Iterator[Finding]:
    """Findings about the table of the version at `version`; a version without plaintext has none."""
    from memos_cli.cube.external import told
    from memos_cli.cube.plaintext import Memories

    directory = version / PLAINTEXT
    if not directory.is_dir() and not _pin(version):
        return
    try:
        memories = Memories.open(directory)
        yield from _agreement(version, memories, remedy)
        if deep:
            yield from _rows(directory, memories, counts, remedy)
    except (NotAllowed, StoreFailed, MissingExtra):
        raise  # that a table elsewhere cannot be reached is no damage of it
    except MemosError as error:
        yield Finding(DAMAGE, "table", str(directory), error.message, remedy)
    # Lance reports what it cannot read as one of these.
    except (RuntimeError, ValueError, OSError) as error:
        if (pin := _pin(version)) and not isinstance(known := told(error, pin.url), Damaged):
            raise known from error
        yield Finding(DAMAGE, "table", str(directory), f"the table cannot be read: {error}"[:500], remedy)


def _pin(version: Path) -> Pin | None:
    """Where the table lies when it is not in the version; None too when the version does not say so."""
    with suppress(MemosError):
        return metadata.load(version).plaintext.table
    return None


def _agreement(version: Path, memories: Memories, remedy: str) -> Iterator[Finding]:
    """Whether memcube.toml says of the table what the table is."""
    from memos_cli.cube.plaintext import LIVE

    try:
        said = metadata.load(version).plaintext
    except MemosError:
        # The audit has said so already.
        return
    place = str(version / metadata.FILE)
    if said.embedder != memories.embedder:
        message = f"says embedder {_label(said.embedder)}, the table was made with {_label(memories.embedder)}"
        yield Finding(DAMAGE, "embedder", place, message, remedy)
    for name, found in (("memories", memories.count()), ("live", memories.count(LIVE))):
        expected = getattr(said, name)
        if expected != found:
            yield Finding(DAMAGE, "counts", place, f"says {expected} {name}, the table has {found}", remedy)


def _label(embedder: metadata.EmbedderIdentity | None) -> str:
    return embedder.label if embedder else "none"


def _rows(directory: Path, memories: Memories, counts: Counts, remedy: str) -> Iterator[Finding]:
    faults = Faults(memories)
    for batch in memories.table.search().to_batches():
        counts.rows += batch.num_rows
        faults.look(batch)
    for code, (number, message, example) in faults.all().items():
        place = f"{directory / 'memories.lance'} memory {example}"
        yield Finding(DAMAGE, code, place, f"{message} ({number} such, this one first)", remedy)


class Faults:
    """Faults of the rows looked at so far, by code: how many, in words, and the first memory that has it."""

    def __init__(self, memories: Memories) -> None:
        self._found: dict[str, tuple[int, str, str]] = {}
        self._live: set[str] = set()
        self._ids: set[str] = set()
        self._links: list[tuple[str, str]] = []
        self._vectors = [name for name in VECTORS if name in memories.schema.names]

    def look(self, batch: pa.RecordBatch) -> None:
        """Check one batch of rows."""
        columns = batch.schema.names
        light = batch.select([name for name in columns if name not in VECTORS])
        for row in light.to_pylist():
            self._look_at(row)
        for name in self._vectors:
            self._look_at_vectors(batch, name)

    def all(self) -> dict[str, tuple[int, str, str]]:
        """Every fault; call it when all rows were looked at, since a link may lead to a later row."""
        for memory, target in self._links:
            if target not in self._ids:
                self._note("row-link", memory, f"points to memory {target}, which is not in the table")
        self._links.clear()
        return self._found

    def _note(self, code: str, memory: str, message: str) -> None:
        number, first, example = self._found.get(code, (0, message, memory))
        self._found[code] = (number + 1, first, example)

    def _look_at(self, row: dict[str, Any]) -> None:
        from memos_cli.cube.metadata import SENSITIVITIES
        from memos_cli.cube.plaintext import RECALLED, STATES

        memory = str(row["id"])
        if not row["id"] or not row["text"]:
            self._note("row-empty", memory, "has no id or no text")
        if row["state"] not in STATES:
            self._note("row-state", memory, f"has the state {row['state']!r}, which is none of {', '.join(STATES)}")
        if row["sensitivity"] not in (*SENSITIVITIES, ""):
            self._note("row-label", memory, f"has the label {row['sensitivity']!r}")
        for low, high in _SPANS:
            if row.get(low) is not None and row.get(high) is not None and row[low] > row[high]:
                self._note("row-span", memory, f"has {low} after {high}")
        live = row["state"] in RECALLED and row["valid_to"] is None
        if live and memory in self._live:
            self._note("row-twice", memory, "is in the table more than once")
        if live:
            self._live.add(memory)
        self._ids.add(memory)
        self._links += [(memory, row[name]) for name in ("supersedes", "superseded_by") if row[name]]

    def _look_at_vectors(self, batch: pa.RecordBatch, name: str) -> None:
        import numpy as np

        column = batch.column(batch.schema.get_field_index(name))
        there = column.is_valid().to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(there)
        flat = column.filter(column.is_valid()).flatten().to_numpy(zero_copy_only=False)
        vectors = flat.reshape(len(rows), -1) if len(rows) else flat.reshape(0, 1)
        finite = np.isfinite(vectors).all(axis=1)
        unit = np.abs(np.linalg.norm(np.where(np.isfinite(vectors), vectors, 0), axis=1) - 1) <= LENGTH_TOLERANCE
        ids = batch.column(batch.schema.get_field_index("id"))
        for index in rows[~finite]:
            self._note("row-vector", str(ids[int(index)]), f"has a {name} with a number that is not finite")
        for index in rows[finite & ~unit]:
            self._note("row-vector", str(ids[int(index)]), f"has a {name} that is not of unit length")
