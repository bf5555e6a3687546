"""The links of a memory as they may be told: of two ends both must be open to who asks, and neither hidden nor over."""

from __future__ import annotations

from pathlib import Path

from memos_cli.cube import links
from memos_cli.cube.links import CONTRADICTS, Link
from memos_cli.interface import frame, seeing
from memos_cli.interface.frame import PLAINTEXT, Reading
from memos_cli.interface.rows import PLACED, place_of
from memos_cli.interface.tidied import Linked
from memos_cli.operation import linking
from memos_cli.operation.lifecycle import FORGOTTEN

_ORDER = ("contradicts", "supersedes", "derived-from", "mentions", "follows")
# So many are told of one memory; a heading may be mentioned by thousands.
MOST = 200


def linked(seen: Reading, identity: str) -> tuple[Linked, ...]:
    """The links of a memory with others that may be seen here, in both directions, those that say most first."""
    shown = seen.memories.narrowed(f"{seeing.alive(frame.now())} and state != '{FORGOTTEN}'")
    found = linking.of(shown, seen.path / PLAINTEXT, identity)
    found = sorted(found, key=lambda one: (_ORDER.index(one.kind) if one.kind in _ORDER else len(_ORDER), one.key))
    names = ("id", "text", "source", *PLACED)
    others = {row["id"]: row for row in shown.take((_other(one, identity) for one in found), columns=names).to_pylist()}
    told: list[Linked] = []
    for one in found:
        row = others.get(_other(one, identity))
        if row is not None and len(told) < MOST:
            # each of two that contradict one another does so
            way = "to" if one.from_id == identity or one.kind == CONTRADICTS else "from"
            told.append(Linked(one.kind, way, row["id"], place_of(row), row["text"], one.why, one.made_by, one.made_at))
    return tuple(told)


def changed_links(before: Path, after: Path) -> tuple[int, int]:
    """How many links the tables of two versions have that the other has not: the later, and the earlier."""
    old, new = ({one.key for one in links.read(path / PLAINTEXT)} for path in (before, after))
    return len(new - old), len(old - new)


def _other(one: Link, identity: str) -> str:
    return one.to_id if one.from_id == identity else one.from_id
