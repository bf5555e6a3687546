"""How often and when each memory was used, as the access log tells it: what was found by a query counts as used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from memos_cli.infrastructure import trail

# How often, and when last.
Use = tuple[int, datetime]
_USING = frozenset({"query"})


def of_cube(root: Path, *, home: Path, cube_id: str) -> Mapping[str, Use]:
    """Uses by memory, from the cube's own log and that of the one who asks, who may not be able to write there."""
    return read([trail.path_of(root), trail.home_path(home, cube_id)])


def read(paths: Iterable[Path]) -> Mapping[str, Use]:
    """Uses by memory in some logs; a line that cannot be read, or says something else, is no use."""
    found: dict[str, Use] = {}
    for path in paths:
        for entry in trail.entries(path):
            moment = _moment(entry.get("time"))
            if moment is None or entry.get("verb") not in _USING or entry.get("outcome") != "ok":
                continue
            for identity in entry.get("memories") or ():
                count, last = found.get(identity, (0, moment))
                found[identity] = (count + 1, max(last, moment))
    return found


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
