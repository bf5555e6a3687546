"""A piece: what reading a source yields before it becomes a memory. Knows no format, no table and no model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# Neither may reach a table: Arrow strings are UTF-8 (no surrogates), and many tools cut text at a NUL.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing worth remembering, with the place it came from.

    `text` keeps the line breaks of its source where it can, so that a part of it has an exact span; of a chat turn it
    is what was said, without the speaker. Lines, pages and turns count from 1 and spans include both ends. `page` is
    the page, slide or sheet. `ref` is the source's own id of it. Times are aware and in UTC.

    `said` are columns of the row whose values the source itself names, such as its tags; `extra` is what else it says
    of it and no column holds, as JSON: "" where there is nothing.
    """

    text: str
    kind: str = "paragraph"
    section: tuple[str, ...] = ()
    line_start: int | None = None
    line_end: int | None = None
    page: int | None = None
    turn: int | None = None
    session: str = ""
    speaker: str = ""
    role: str = ""
    ref: str = ""
    time: datetime | None = None
    event_time: datetime | None = None
    time_note: str = ""
    said: tuple[tuple[str, Any], ...] = ()
    extra: str = ""


def storable(text: str) -> str:
    """The text with NUL and lone surrogates replaced by U+FFFD; the same object when it has none."""
    return UNSTORABLE.sub(REPLACEMENT, text) if UNSTORABLE.search(text) else text
