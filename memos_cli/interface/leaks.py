"""The words of something that leaked: a cube, a package, or a file of text or JSON, read as a stream.

Bytes that are no text are passed over; JSON is read as the texts in it, so that an escaped letter is the letter.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import archive, bundle
from memos_cli.errors import NotFound, Usage
from memos_cli.infrastructure import admission, sealing

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

_LINE_LIMIT_BYTES = 4 << 20
# A JSON file that is written over several lines is read at once, up to so much.
_WHOLE_LIMIT_BYTES = 16 << 20
_BATCH_ROWS = 512


def is_package(path: Path) -> bool:
    """Whether the file at `path` begins as a package. Raises NotFound, Usage for an encrypted one."""
    if not path.is_file():
        raise NotFound(f"expected a cube, a package or a file of text, found nothing of these at {str(path)[:200]}")
    if sealing.is_sealed(path):
        raise Usage(f"{path} is encrypted", hint=f"memos unpack {path} --identity KEY.txt, and trace the cube")
    with open(path, "rb") as stream:
        return stream.read(10) == b"oci-layout"


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, str]]:
    """The version in the package at `path`, taken apart for a while, and the stamp in its manifest ("" for none).

    What is in it is looked at as with `unpack` before it is opened. Raises Damaged, MemosError.
    """
    found = archive.open_archive(path)
    with tempfile.TemporaryDirectory(prefix="memos-trace-") as place:
        folder = Path(place) / "version"
        folder.mkdir()
        held = bundle.contents(found.manifest, found.fetch)
        admission.check_names(held.manifest)
        bundle.assemble(found.manifest, found.fetch, folder)
        admission.check_kinds(folder, held.manifest.files)
        admission.inspect(folder, size_bytes=held.manifest.size_bytes)
        yield folder, found.image.stamp


def of_memories(memories: Memories) -> Iterator[str]:
    """The text of every memory."""
    for rows in memories.batches(columns=["text"], size=_BATCH_ROWS):
        yield from (row["text"] for row in rows)


def of_file(path: Path) -> Iterator[str]:
    """The text of a file, a line at a time. Raises OSError."""
    if path.stat().st_size <= _WHOLE_LIMIT_BYTES:
        whole = _json(path.read_bytes())
        if whole is not None:
            yield from _texts(whole)
            return
    with open(path, "rb") as stream:
        while line := stream.readline(_LINE_LIMIT_BYTES):
            value = _json(line)
            yield from [line.decode("utf-8", "replace")] if value is None else _texts(value)


def _json(data: bytes) -> Any:
    """The value in some bytes of JSON that holds others; None for anything else."""
    if data.lstrip()[:1] not in (b"{", b"[", b'"'):
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value of JSON, in its order, names of fields too."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [item for pair in reversed(one.items()) for item in reversed(pair)]
        elif isinstance(one, list):
            waiting += reversed(one)
        elif isinstance(one, str | int) and not isinstance(one, bool):
            yield str(one)
