"""When a memory is true, beside when the cube knew it: `true_from` and `true_to`, as far as its words or somebody say.

A cube knows a memory from `valid_from` to `valid_to`: that is what it held to be so, and follows from what was done to
it. What a memory tells may have been so for longer, or for less (`Ana lived in Lindau from 2019 to 2023`). Null says
that nobody said; then it may have been so at any time. Pure; reads English.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from memos_cli.errors import Usage
from memos_cli.operation.claims import DATE_WORDS, LONGEST_WORDS, moment_of, sentences

FROM, TO = "true_from", "true_to"
COLUMNS = (FROM, TO)
_BEGINNING = r"as of|since|from|starting|effective"
_ENDING = r"until|till|up to"
_ONWARDS = r"(?: on| onwards)?"
_ONE = rf"(?P<how>{_BEGINNING}|{_ENDING}) (?P<when>{DATE_WORDS}){_ONWARDS}"
_BOTH = rf"(?:(?:from|between) )?(?P<first>{DATE_WORDS}) ?(?:to|until|till|through|and|-|–) ?(?P<last>{DATE_WORDS})"
# What a sentence begins or ends with; a date in its middle may be about anything.
_SPANS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for each in (_BOTH, _ONE)
    for pattern in (rf"^{each},? ", rf"(?:,? |\(){each}\)?$")
)
# Most texts name no year behind such a word: they are told by this alone.
_MAY = re.compile(r"\d{4}")


def said(text: str) -> dict[str, datetime]:
    """The columns that the words of a memory tell: of a single sentence that begins or ends with a time."""
    if not _MAY.search(text) or len(text) > 12 * LONGEST_WORDS:
        return {}
    told = sentences(text)
    if len(told) != 1:
        return {}
    found = next((match for span in _SPANS if (match := span.search(told[0]))), None)
    if found is None:
        return {}
    parts = found.groupdict()
    if "how" in parts:
        ends = re.fullmatch(_ENDING, parts["how"], re.IGNORECASE)
        span = {TO: _end(parts["when"])} if ends else {FROM: _start(parts["when"])}
    else:
        span = {FROM: _start(parts["first"]), TO: _end(parts["last"])}
    known = {name: moment for name, moment in span.items() if moment}
    return known if FROM not in known or TO not in known or known[FROM] < known[TO] else {}


def _start(words: str) -> datetime | None:
    """The first moment of a year, month or day as it is written; None for what is no date."""
    return start_of(moment_of(words))


def start_of(named: tuple[int, ...]) -> datetime | None:
    """The first moment of a year, month or day (0 for what is left out); None for what is no date."""
    try:
        return datetime(named[0], named[1] or 1, named[2] or 1, tzinfo=UTC) if named else None
    except ValueError:
        return None


def _end(words: str) -> datetime | None:
    """The first moment after it."""
    start, named = _start(words), moment_of(words)
    if start is None:
        return None
    try:
        if named[2]:
            return start + timedelta(days=1)
        if named[1]:
            return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        return start.replace(year=start.year + 1)
    except (ValueError, OverflowError):
        return None


def check(row: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Raises Usage when a memory would be true until before it was."""
    start, end = ({**row, **columns}.get(name) for name in COLUMNS)
    if start is not None and end is not None and start >= end:
        raise Usage(f"memory {row['id']} would be true from {start:%Y-%m-%d} until {end:%Y-%m-%d}")


def was_true(moment: datetime, names: Collection[str]) -> str:
    """What was true at a moment as far as is known, as SQL, for a table with these columns; "" for all of it."""
    if not set(COLUMNS) <= set(names):
        return ""
    at = f"timestamp '{moment.strftime('%Y-%m-%d %H:%M:%S.%f')}'"
    return f"({FROM} is null or {FROM} <= {at}) and ({TO} is null or {TO} > {at})"


def known_and_true(moment: datetime, names: Collection[str]) -> str:
    """What is known today to have been true at a moment: what is recalled, and what was until something took its place.

    That is known of what has a `true_to`; of other memories that are not recalled any more it is not known that they
    ever were true.
    """
    recalled = "state in ('activated', 'merged', 'frozen') and valid_to is null"
    if not (true := was_true(moment, names)):
        return recalled
    return f"(({recalled}) or (state = 'archived' and {TO} is not null)) and {true}"
