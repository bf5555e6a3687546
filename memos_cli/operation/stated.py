"""Contradictions on their way from one cube into another: as a line of JSON says them, and back into a links table.

What a memory mentions is made anew of its words. What it contradicts was found by a comparison, a judge or a person,
and that somebody keeps both is nobody else's to say again: so it goes along, on the line of the memory with the smaller
id. Knows no file but the links table.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from memos_cli.cube import links
from memos_cli.cube.links import CONTRADICTS, Link
from memos_cli.cube.piece import storable
from memos_cli.operation import linking
from memos_cli.operation.outgoing import moment, moment_of

FIELD = "contradicts"
_ID = re.compile(r"[0-9a-f]{20}")
_MAKERS = (links.TIDY, links.JUDGE, links.PERSON)


def told(directory: Path, kept: Collection[str]) -> dict[str, list[dict[str, str]]]:
    """What lines say of contradictions between memories of `kept`, by the id of the line's memory."""
    said: dict[str, list[dict[str, str]]] = defaultdict(list)
    for one in sorted(links.read(directory, kind=CONTRADICTS), key=lambda one: one.key):
        if one.from_id in kept and one.to_id in kept:
            when = moment(one.made_at)
            said[one.from_id].append({"id": one.to_id, "why": one.why, "made_by": one.made_by, "made_at": when})
    return dict(said)


def encode(value: Any, *, memory: str) -> str:
    """What the line of a memory says, as a piece carries it. Raises ValueError where it is no list of such."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list as {FIELD}, found {value!r:.60}")
    for one in value:
        _link(memory, one)
    return json.dumps(value)


def decode(said: str, *, memory: str) -> Iterator[Link]:
    """The links that a piece carries for its memory."""
    return (_link(memory, one) for one in json.loads(said or "[]"))


def _link(memory: str, said: Any) -> Link:
    names = ("id", "why", "made_by", "made_at")
    other, why, maker, when = (said.get(name) if isinstance(said, dict) else None for name in names)
    if not isinstance(other, str) or not _ID.fullmatch(other) or other == memory or maker not in _MAKERS:
        raise ValueError(f"expected another memory's id, and {' or '.join(_MAKERS)} as made_by, found {said!r:.90}")
    if not isinstance(why, str) or len(why) > links.LONGEST_WHY:
        raise ValueError(f"expected at most {links.LONGEST_WHY} letters as why, found {why!r:.60}")
    made_at = moment_of(when)
    if made_at is None:
        raise ValueError(f"expected a time with zone as made_at, found {when!r:.60}")
    one, another = sorted((memory, other))
    return Link(one, another, CONTRADICTS, storable(why), 1.0, maker, made_at)


def take_in(directory: Path, found: Iterable[Link], *, came: Collection[str], there: Collection[str]) -> int:
    """Adds links to the table; returns how many are left out, because an end of theirs is not `there`.

    Of two memories neither of which just `came`, and of two of which the table tells, what it says already stands.
    """
    before = links.read(directory)
    known = {one.key for one in before}
    fresh: dict[tuple[str, str, str], Link] = {}
    lost = 0
    for one in found:
        if one.from_id not in there or one.to_id not in there:
            lost += 1
        elif one.key not in known and (one.from_id in came or one.to_id in came):
            fresh.setdefault(one.key, one)
    if fresh:
        linking.write(directory, [*before, *fresh.values()])
    return lost
