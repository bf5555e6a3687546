"""How the derived forms of two versions differ: caches by memory, adapters by name. Told from manifests alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from memos_cli.cube import activation, parameter
from memos_cli.cube.digest import Difference, Manifest

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


def memories_of(found: Difference) -> set[str]:
    """The memories whose activation files differ."""
    paths = [entry.path for entry in (*found.added, *found.removed, *(new for _, new in found.changed))]
    return {_memory(path) for path in paths if _memory(path)}


def forms(
    found: Difference, old: Manifest, new: Manifest, *, shown: Collection[str]
) -> Iterator[tuple[str, str, str, int]]:
    """The changes of activation memory, of the memories in `shown`, and of adapters, sorted: form, change, name, bytes.

    The bytes are those of the files there are now, or were.
    """
    before, after = _sizes(old), _sizes(new)
    touched = [entry.path for entry in (*found.added, *found.removed, *(one for _, one in found.changed))]
    for form, name in sorted({key for path in touched if (key := _key(path))}):
        if form == activation.FOLDER and name not in shown:
            continue
        was, now = before.get((form, name), 0), after.get((form, name), 0)
        change = CHANGED if was and now else ADDED if now else REMOVED
        yield form, change, name, now or was


def _sizes(manifest: Manifest) -> dict[tuple[str, str], int]:
    sizes: dict[tuple[str, str], int] = {}
    for entry in manifest.files:
        if key := _key(entry.path):
            sizes[key] = sizes.get(key, 0) + entry.size
    return sizes


def _key(path: str) -> tuple[str, str] | None:
    """The form and the name that a file belongs to; None for one of no derived form."""
    if memory := _memory(path):
        return activation.FOLDER, memory
    folder, _, rest = path.partition("/")
    name, _, inner = rest.partition("/")
    return (folder, name) if folder == parameter.FOLDER and inner else None


def _memory(path: str) -> str:
    folder, _, name = path.partition("/")
    return activation.memory_of(Path(name)) if folder == activation.FOLDER else ""
