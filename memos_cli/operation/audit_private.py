"""The part of an audit that looks for secrets and personal data in the text of memories.

A finding says which kind and in which memory, and never quotes what was found. Rows are read in batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.operation.findings import WARNING, Finding
from memos_cli.operation.private import Detector

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

# So many of a kind are named one by one; of the others only the number is told.
NAMED = 20
COLUMNS = ("text", "title", "section", "source")


def check(root: Path, memories: Memories, *, secrets: Detector | None, pii: Detector | None) -> Iterator[Finding]:
    """A finding for each memory and kind, of whatever state: what is not recalled any more is still in the files."""
    seen: dict[tuple[str, str], int] = {}
    for identity, text in _texts(memories):
        for code, detector in (("secret", secrets), ("pii", pii)):
            for kind in sorted(detector(text)) if detector else ():
                seen[code, kind] = seen.get((code, kind), 0) + 1
                if seen[code, kind] <= NAMED:
                    yield _finding(root, code, kind, identity)
    for (code, kind), count in seen.items():
        if count > NAMED:
            message = f"{kind}: {count - NAMED} more memories"
            yield Finding(WARNING, code, str(root), message, f"memos audit {root} again, when those are gone")


def _finding(root: Path, code: str, kind: str, identity: str) -> Finding:
    place, remedy = f"{root} memory {identity}", f"memos forget {root} --ids {identity} --purge --yes"
    if code == "secret":
        remedy = f"change the secret, since copies may exist; then {remedy}"
        return Finding(WARNING, "secret", place, f"{kind} in its text", remedy)
    return Finding(WARNING, "pii", place, f"personal data in its text: {kind}", remedy)


def _texts(memories: Memories) -> Iterator[tuple[str, str]]:
    for batch in memories.table.search().select(["id", *COLUMNS]).to_batches(1024):
        for row in batch.to_pylist():
            yield str(row["id"]), "\n".join(str(row[name]) for name in COLUMNS if row[name])
