"""The verb `ingest` for a text that somebody hands over, rather than a file: what agents and programs remember by."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from memos_cli.errors import Usage
from memos_cli.interface import frame
from memos_cli.interface.ingestion import ingest
from memos_cli.interface.results import Ingested
from memos_cli.operation.marking import Marks

TEXT_LIMIT_CHARACTERS = 1_000_000


def ingest_text(
    cube: str | Path,
    text: str,
    *,
    format: str | None = None,
    type: str | None = None,
    topic: str | None = None,
    tags: Sequence[str] | None = None,
    sensitivity: str | None = None,
    ttl_days: int | None = None,
    dry_run: bool = False,
    written_by: str = "",
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Ingested:
    """Puts a text into a cube, just as `memos ingest CUBE -` does with what is piped in: the same text twice is once.

    With the name of a client in `written_by`, the text is that of its model: its source is `client:NAME/<12 hex>`, and
    it is not recalled until `edit` accepts it. Reads no file and asks no server. Raises Usage for an empty text, and
    what `ingest` does.
    """
    if not text.strip():
        raise Usage("expected a text to remember, found nothing")
    if len(text) > TEXT_LIMIT_CHARACTERS:
        raise Usage(f"expected a text of at most {TEXT_LIMIT_CHARACTERS:,} characters, found {len(text):,}")
    marks = Marks(type, topic, tuple(tags) if tags else None, sensitivity, ttl_days)
    stdin = io.BytesIO(text.encode("utf-8", "replace"))
    return ingest(
        cube, ["-"], marks=marks, format=format, dry_run=dry_run, reason=reason, stdin=stdin,
        written_by=written_by, lock_timeout=lock_timeout, home=home, notify=notify,
    )  # fmt: skip
