"""The part of an audit that looks at activation memory: its headers, and with `deep` every number.

Whether the bytes are those of the manifest is looked at elsewhere; here, whether they are what they say. Knows files of
one version, and no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from memos_cli.cube import activation
from memos_cli.errors import MemosError
from memos_cli.operation.answer import line_of
from memos_cli.operation.convert import content_of
from memos_cli.operation.findings import DAMAGE, WARNING, Finding

# What of a memory a prompt shows.
_COLUMNS = ["id", "text", "kind", "section", "speaker", "role", "time"]


def check(version: Path, *, deep: bool, remedy: str) -> Iterator[Finding]:
    """Findings about the activation files of the version at `version`; one without any has none."""
    folder = version / activation.FOLDER
    if not folder.is_dir():
        return
    sound: list[activation.Activation] = []
    for path in sorted(folder.iterdir()):
        if activation.NAME.fullmatch(path.name) is None:
            message = "expected only files named <memory>.<key>.kv.safetensors here"
            yield Finding(WARNING, "activation-name", str(path), message, "nothing: no memory is loaded from it")
            continue
        try:
            sound.append(activation.verify(path) if deep else activation.read(path))
        except MemosError as error:
            yield Finding(DAMAGE, "activation", str(path), error.message, remedy)
    yield from _against_table(version, sound)


def _against_table(version: Path, sound: list[activation.Activation]) -> Iterator[Finding]:
    """Files of memories that the table does not have, or that say something else there."""
    from memos_cli.cube.plaintext import Memories

    try:
        wanted = {made.header.memory for made in sound}
        rows = Memories.open(version / "plaintext").take(wanted, columns=_COLUMNS) if wanted else None
    # The part that looks at the table has said so.
    except (MemosError, RuntimeError, ValueError, OSError):
        return
    known = {row["id"]: row for row in rows.to_pylist()} if rows is not None else {}
    for made in sound:
        memory = made.header.memory
        if memory not in known:
            message = f"the cube has no memory {memory}; what it said can be told from this file"
            remedy = "nothing is loaded from it; take the file out of the cube before sharing it"
            yield Finding(WARNING, "activation-foreign", str(made.path), message, remedy)
        elif content_of(line_of(SimpleNamespace(**known[memory]))) != made.header.content:
            message = f"made of what memory {memory} said before; it is not used any more"
            remedy = f"memos convert {version.parent.parent} --ids {memory}"
            yield Finding(WARNING, "activation-stale", str(made.path), message, remedy)
