"""What of a version somebody sees: the table of a cube as if it had no other memories than those open to them.

The rules of today decide about every version: what has been closed, or has outlived its time, since a version was made
is not seen in that version either. Who sees less than all of a cube is refused the verbs that tell of it as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube.filters import quote
from memos_cli.cube.metadata import Memcube
from memos_cli.errors import NotAllowed
from memos_cli.infrastructure import governance, vault
from memos_cli.infrastructure.governance import HERE
from memos_cli.infrastructure.sight import Sight
from memos_cli.operation import lifecycle
from memos_cli.operation.marking import GOVERNED

if TYPE_CHECKING:
    from memos_cli.cube.access import Access
    from memos_cli.cube.plaintext import Memories
    from memos_cli.infrastructure.identity import Actor
    from memos_cli.infrastructure.uses import Use

PLAINTEXT = "plaintext"
# More ids than this are not put into a condition: then old versions are for those who see all of a cube.
MOST_CLOSED = 20_000


def sight_of(actor: Actor, verb: str, rules: Memcube, cube: Memcube, *, policy: Access, to: str = HERE) -> Sight:
    """Which memories of a version, whose metadata is `cube`, may be seen, changed or taken under the rules of today."""
    return governance.sight(actor, verb, replace(rules, plaintext=cube.plaintext), policy=policy, to=to)


def alive(now: datetime) -> str:
    """What has not outlived its time, as SQL."""
    moment = now.strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"state != 'expired' and (expires_at is null or expires_at > timestamp '{moment}')"


def governed(rules: Memcube) -> frozenset[str]:
    """Columns of a memory that only those set who govern the cube: also its owner label, where a rule looks at it."""
    return GOVERNED | ({"owner"} if any(rule.owners for rule in rules.access.rules) else set())


def insist_whole(condition: str, memories: Memories, verb: str, name: str) -> None:
    """Raises NotAllowed when a memory of the table is not in sight: `verb` tells of a cube as a whole."""
    if memories.count() > memories.narrowed(condition).count():
        raise NotAllowed(
            f"{verb} of {name!r} is about the cube as a whole, and not all of it is open to you",
            hint="ask its owner",
        )


def closed_since(root: Path, sight: Sight, now: datetime, *, name: str) -> str:
    """A condition that leaves out what the current version has and does not show any more; "" where it shows all.

    Raises NotAllowed when that is too much to tell one by one.
    """
    from memos_cli.cube.plaintext import Memories

    with vault.snapshot(root) as snapshot:
        memories = Memories.open(snapshot.path / PLAINTEXT)
        shown = f"({alive(now)})" + (f" and {sight.condition}" if sight.condition else "")
        rows = memories.rows(f"not ({shown})", columns=["id"], limit=MOST_CLOSED + 1)
    ids = rows["id"].to_pylist()
    if len(ids) > MOST_CLOSED:
        raise NotAllowed(f"earlier versions of {name!r} are not open to you", hint="ask its owner")
    return f"id not in ({', '.join(quote(each) for each in ids)})" if ids else ""


def faded(memories: Memories, *, decay_days: int, used: Mapping[str, Use], now: datetime) -> str:
    """A condition that leaves out what has faded by `now`; "" when nothing has."""
    where = "state in ('activated', 'merged', 'archived')"
    rows = (row for part in memories.batches(where, columns=lifecycle.COLUMNS, size=8192) for row in part)
    over = [one.id for one in lifecycle.due(rows, now=now, decay_days=decay_days, used=used) if one.why == "decay"]
    return f"id not in ({', '.join(quote(each) for each in over)})" if over else ""


def shown_links(memories: Memories, rows: list[dict[str, Any]]) -> None:
    """Blanks, in rows, what tells of memories that are not in sight: their ids, and the digest of a whole source."""
    if not memories.only:
        return
    links = ("supersedes", "superseded_by")
    named = {row[link] for row in rows for link in links if row[link]}
    known = set(memories.take(named, columns=["id"])["id"].to_pylist()) if named else set()
    for row in rows:
        row |= {link: row[link] if row[link] in known else "" for link in links}
        if "superseded_as" in row and not row["superseded_by"]:
            row["superseded_as"] = ""
        if "source_digest" in row:
            row["source_digest"] = ""
