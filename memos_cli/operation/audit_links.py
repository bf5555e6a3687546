"""The part of an audit that reads the links table: its kinds and sizes, and that no link leads to what is not there.

A link to a memory that was forgotten for good would tell that there was one. Knows the files of one version.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from memos_cli.cube import links
from memos_cli.cube.links import Link
from memos_cli.errors import MemosError
from memos_cli.operation.findings import DAMAGE, Finding

PLAINTEXT = "plaintext"
_ID = re.compile(r"[0-9a-f]{20}")


def check(version: Path, *, deep: bool, remedy: str) -> Iterator[Finding]:
    """Findings about the links of the version at `version`, each fault once with how many there are."""
    directory = version / PLAINTEXT
    if not (directory / links.FILE).exists():
        return
    place = str(directory / links.FILE)
    try:
        found = links.read(directory)
        ids = _ids(directory) if deep else None
    except MemosError as error:
        yield Finding(DAMAGE, "links", place, error.message, remedy)
        return
    # Lance reports what it cannot read as one of these; the audit of the table tells more.
    except (RuntimeError, ValueError, OSError):
        ids = None
    faults: dict[str, list[tuple[Link, str]]] = {}
    for one in found:
        for code, message in _faults(one, ids):
            faults.setdefault(code, []).append((one, message))
    for code, message, example in _together(found):
        faults.setdefault(code, []).append((example, message))
    for code, told in faults.items():
        one, message = told[0]
        where = f"{place} {one.from_id[:20]!s} {one.kind[:20]} {one.to_id[:20]}"
        yield Finding(DAMAGE, code, where, f"{message} ({len(told)} such, this one first)", remedy)


def _ids(directory: Path) -> frozenset[str]:
    from memos_cli.cube.plaintext import Memories

    return frozenset(Memories.open(directory).rows(columns=["id"])["id"].to_pylist())


def _faults(one: Link, ids: Collection[str] | None) -> Iterator[tuple[str, str]]:
    """What is wrong with a link by itself."""
    ends = (one.from_id, one.to_id)
    if not all(each and _ID.fullmatch(each) for each in ends):
        yield "link-end", "has an end that is no memory's id"
    elif one.from_id == one.to_id:
        yield "link-end", "leads from a memory to itself"
    elif ids is not None and any(each not in ids for each in ends):
        yield "link-dangling", "leads to or from a memory that is not in the table"
    if one.kind not in links.STORED:
        yield "link-kind", f"has the kind {str(one.kind)[:40]!r}, expected one of {', '.join(sorted(links.STORED))}"
    if one.made_by not in links.MAKERS:
        yield "link-maker", f"was made by {str(one.made_by)[:40]!r}, expected one of {', '.join(links.MAKERS)}"
    sized = one.why is not None and len(one.why) <= links.LONGEST_WHY
    weighed = one.weight is not None and math.isfinite(one.weight) and 0 <= one.weight <= 1
    if not sized or not weighed or one.made_at is None:
        yield "link-size", f"has a reason of over {links.LONGEST_WHY} letters, no time, or a weight that is not 0 to 1"


def _together(found: list[Link]) -> Iterator[tuple[str, str, Link]]:
    """What is wrong with links beside one another."""
    mentioned = Counter(one.from_id for one in found if one.kind == links.MENTIONS)
    known = set()
    for one in found:
        if one.key in known:
            yield "link-twice", "is there more than once", one
        known.add(one.key)
        if one.kind == links.MENTIONS and mentioned[one.from_id] > links.MOST_MENTIONS:
            message = f"is of a memory with {mentioned[one.from_id]} mentions, expected {links.MOST_MENTIONS} at most"
            yield "link-many", message, one
