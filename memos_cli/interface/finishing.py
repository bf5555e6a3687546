"""The last steps before a version is published: what must not stay goes, and the metadata counts what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import metadata
from memos_cli.cube.metadata import Memcube
from memos_cli.cube.scopes import GUARDS
from memos_cli.infrastructure import vault
from memos_cli.interface.seeing import PLAINTEXT

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories


def drop_orphans(path: Path, memories: Memories) -> None:
    """Removes the derived forms of what is no longer remembered: a cache tells its text to who can run the model."""
    from memos_cli.cube import activation
    from memos_cli.operation.settle import DERIVED_STATES

    files = activation.find(path / activation.FOLDER)
    if not files:
        return
    rows = memories.take({activation.memory_of(file) for file in files}, columns=["id", "state", "valid_to"])
    known = {row["id"] for row in rows.to_pylist() if row["valid_to"] is None and row["state"] in DERIVED_STATES}
    for file in files:
        if activation.memory_of(file) not in known:
            file.unlink()


def write_metadata(path: Path, cube: Memcube, memories: Memories) -> Memcube:
    """memcube.toml with counts as the table now has them."""
    from memos_cli.cube import activation, parameter, sources
    from memos_cli.cube.plaintext import LIVE

    counts = metadata.Plaintext(
        memories=memories.count(),
        live=memories.count(LIVE),
        sources=len(sources.read(path / PLAINTEXT)),
        guarded=memories.count(" or ".join(f"{name} != ''" for name in GUARDS)),
        decaying=memories.count("decay_days > 0") if "decay_days" in memories.schema.names else 0,
        embedder=memories.embedder,
        table=memories.table.pinned(),
    )
    files = [file.stat().st_size for file in activation.find(path / activation.FOLDER)]
    fresh = metadata.touched(
        cube, plaintext=counts, activation=metadata.Activation(len(files), sum(files)),
        parameter=metadata.Parameter(*parameter.measure(path / parameter.FOLDER)),
    )  # fmt: skip
    vault.write_bytes(path / metadata.FILE, metadata.dumps(fresh))
    return fresh


def redact_copy(path: Path, only: str, meta: Memcube) -> None:
    """Takes out of a copy what its owner may not have."""
    from memos_cli.cube.search import ensure_indexes
    from memos_cli.operation.redact import redact

    memories = redact(path, only=only, plaintext=PLAINTEXT)
    ensure_indexes(memories.table)
    write_metadata(path, meta, memories)
