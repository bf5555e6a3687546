"""The log of a home's door: who came to a running process and was turned away before any cube was opened.

It is a trail like that of a cube, in `$MEMOS_HOME/log/door.jsonl`. Refusals that a cube's rules make stand in the
cube's own. Keys are never in it, right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memos_cli.infrastructure import trail

_NAME = "door"


def note(home: Path, *, actor: Mapping[str, str], verb: str, facts: Mapping[str, Any]) -> None:
    """One line: somebody was refused at the door. Raises MemosError, Locked as `trail.append` does."""
    event = trail.event(actor=actor, verb=verb, version=0, kind=trail.DENIAL, outcome="denied", facts=facts)
    trail.write([path_of(home)], event)


def path_of(home: Path) -> Path:
    """Where the log is, whether or not there is one yet."""
    return trail.home_path(home, _NAME)


def entries(home: Path) -> Iterator[dict[str, Any]]:
    """Its lines, oldest first."""
    return trail.entries(path_of(home))
