"""Which cubes one client reaches, and by which names. A name is looked up and never made into a path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from memos_cli.errors import Usage
from memos_cli.infrastructure.vault import SUFFIX, Vault, locate
from memos_cli.interface import frame
from memos_cli.interface.visiting import Visit

# So many names are told; a home may have thousands.
TOLD = 20


def served(home: Path, cubes: Iterable[str]) -> dict[str, Path] | None:
    """The cubes that a process was started with, by the names that clients use; None without any.

    A path goes by its last part without `.cube`. Raises NotFound for one that is not there, Usage when two have the
    same name.
    """
    found: dict[str, Path] = {}
    for cube in cubes:
        root = locate(Vault(home).path(cube)).absolute()
        name = root.name.removesuffix(SUFFIX)
        if found.setdefault(name, root) != root:
            raise Usage(f"expected cubes of different names, found {found[name]} and {root}")
    return found or None


def names(visit: Visit) -> list[str]:
    """What the cubes are called that this client reaches."""
    desk = frame.desk(None, guest=visit.guest)
    return [desk.name_of(root) for root in desk.cubes()]


def check(visit: Visit, name: str) -> None:
    """Raises NotAllowed, which the log of the door keeps, for a cube that the client does not reach."""
    frame.desk(None, guest=visit.guest).path(name)


def told(names: list[str]) -> str:
    """Names in words."""
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more or "none"
