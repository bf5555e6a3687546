"""Taking activation memory out of a cube: the files of some memories for one model; their text stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memos_cli.cube import activation
from memos_cli.errors import MemosError
from memos_cli.infrastructure import faults
from memos_cli.interface import frame
from memos_cli.interface.changes import check_loss
from memos_cli.interface.converting import ACTIVATION
from memos_cli.interface.results import Changed


def release(
    cube: str | Path,
    ids: Sequence[str],
    *,
    weights: str = "",
    left_behind: str = "",
    dry_run: bool = False,
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Changed:
    """Removes the activation memory of these memories, of the model with these weights only if they are given.

    With `left_behind`, the name of a model, what was made with other weights of it goes, and what is for these stays.
    Makes no version where there is none. Raises NotAllowed for what is frozen, held or not yours to change.
    """
    desk = frame.desk(home, notify)
    with frame.trying(desk, cube, "convert", dry_run=dry_run, reason=reason, lock_timeout=lock_timeout) as seen:
        folder = seen.path / activation.FOLDER
        files = [path for path in activation.find(folder) if activation.memory_of(path) in set(ids)]
        files = [path for path in files if not weights or _is_of(path, weights, left_behind)]
        gone = tuple(dict.fromkeys(activation.memory_of(path) for path in files))
        check_loss(seen, gone)
        seen.facts |= {"form": ACTIVATION, "removed": len(gone)}
        seen.touched += gone
        if dry_run or not gone:
            if isinstance(seen, frame.Changing) and seen.draft is not None:
                seen.draft.discard()
            return Changed(str(cube), "convert", seen.version.number, dry_run, gone, "nothing was changed")
        assert isinstance(seen, frame.Changing)
        for path in files:
            path.unlink()
            faults.point("released")
        number = seen.commit({"released": len(gone)}).number
        return Changed(str(cube), "convert", number, False, gone, f"activation memory of {len(gone)} memories removed")


def _is_of(path: Path, weights: str, left_behind: str) -> bool:
    """Whether a file was made with a model of these weights, or with others of the one that has this name."""
    try:
        header = activation.read(path).header
    except MemosError:
        return False
    same = header.hard.get("weights") == weights
    return not same and header.source.get("model") == left_behind if left_behind else same
