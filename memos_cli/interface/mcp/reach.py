"""Which cubes one client reaches: a name is looked up and never made into a path."""

from __future__ import annotations

from collections.abc import Sequence

from memos_cli.interface import frame
from memos_cli.interface.visiting import Visit

# So many names are told; a home may have thousands.
TOLD = 20


def check(visit: Visit, name: str) -> None:
    """Raises NotAllowed, which the log of the door keeps, for a cube that the client does not reach."""
    frame.desk(None, guest=visit.guest).path(name)


def told(names: Sequence[str]) -> str:
    """Names in words."""
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more or "none"
