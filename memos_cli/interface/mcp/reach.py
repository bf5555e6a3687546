"""Which cubes one client reaches, and by which names. A name is looked up and never made into a path."""

from __future__ import annotations

from memos_cli.interface import frame
from memos_cli.interface.visiting import Visit, served

__all__ = ["check", "names", "served", "told"]

# So many names are told; a home may have thousands.
TOLD = 20


def names(visit: Visit) -> list[str]:
    """What the cubes are called that this client reaches."""
    return visit.names()


def check(visit: Visit, name: str) -> None:
    """Raises NotAllowed, which the log of the door keeps, for a cube that the client does not reach."""
    frame.desk(None, guest=visit.guest).path(name)


def told(names: list[str]) -> str:
    """Names in words."""
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more or "none"
