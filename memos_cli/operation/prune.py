"""Rows that have ended, out of a draft's table: what keeps a cube that takes in and lets go all the time from growing.

That is tidying and no forgetting: nothing is proved, nothing keeps the words from coming back, and earlier versions
hold them as long as they are kept. What is hidden stays, so that it stays hidden; so does what is frozen or held, and
what its source still says though it was archived, for the next ingest would bring it in again.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.operation import linking, share
from memos_cli.operation.purge import delete, relink

if TYPE_CHECKING:
    from memos_cli.cube.plaintext import Memories

ENDED = "superseded_as = ''"
COLUMNS = ("id", "supersedes", "superseded_by")


def ended_before(memories: Memories, moment: datetime) -> str:
    """What of a table ended before a moment (in UTC), as SQL: marked as expired by then, or archived or superseded."""
    at = f"timestamp '{moment.strftime('%Y-%m-%d %H:%M:%S.%f')}'"
    expired = f"state = 'expired' and updated_at <= {at}"
    archived = (
        f"state = 'archived' and valid_to <= {at}{' and ' + ENDED if 'superseded_as' in memories.schema.names else ''}"
    )
    return f"not legal_hold and (({expired}) or ({archived}))"


def prune(tree: Path, memories: Memories, moment: datetime) -> tuple[str, ...]:
    """Takes what ended before a moment out of the draft at `tree`, and writes the table anew without it; the ids.

    The table has to be opened anew afterwards, if there were any.
    """
    rows = {row["id"]: row for row in memories.rows(ended_before(memories, moment), columns=COLUMNS).to_pylist()}
    if rows:
        delete(memories, rows)
        relink(memories, rows)
        linking.drop(tree / share.PLAINTEXT, rows)
        share.clean(tree)
    return tuple(rows)
