"""The part of an audit that looks at activation memory: its headers, and with `deep` every number.

Whether the bytes are those of the manifest is looked at elsewhere; here, whether they are what they say. Knows files of
one version, and no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memos_cli.cube import activation
from memos_cli.errors import MemosError
from memos_cli.operation.findings import DAMAGE, WARNING, Finding


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
    yield from _foreign(version, sound)


def _foreign(version: Path, sound: list[activation.Activation]) -> Iterator[Finding]:
    """Files of memories that the table does not have: what was deleted can still be told from them."""
    from memos_cli.cube.plaintext import Memories

    try:
        wanted = {made.header.memory for made in sound}
        rows = Memories.open(version / "plaintext").take(wanted, columns=["id"]) if wanted else None
    # The part that looks at the table has said so.
    except (MemosError, RuntimeError, ValueError, OSError):
        return
    known = set(rows["id"].to_pylist()) if rows is not None else set()
    for made in sound:
        if made.header.memory not in known:
            message = f"the cube has no memory {made.header.memory}; what it said can be told from this file"
            remedy = "nothing is loaded from it; take the file out of the cube before sharing it"
            yield Finding(WARNING, "activation-foreign", str(made.path), message, remedy)
