"""Times as sources write them, and the first date that the words of a turn name.

Relative phrases are found by a pattern (English only) and worked out by dateparser, so a turn without one costs
microseconds. Knows no time zones: a time without one counts as UTC. '05/06/2023' is May 6th if nothing tells otherwise.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

MONTH = (
    "(?:january|february|march|april|may|june|july|august|september|october|november|december"
    "|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec)"
)
WEEKDAY = "(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tues?|wed|thurs?|fri|sat|sun)"
COUNT = "(?:[0-9]{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:a\\ )?couple\\ of)"
UNIT = "(?:day|week|month|year)s?"
DAY = "[0-3]?[0-9](?:st|nd|rd|th)?"
YEAR = "(?:19|20)[0-9]{2}"
PHRASE = re.compile(
    rf"""\b(?:
      (?:the\ )?day\ before\ yesterday | (?:the\ )?day\ after\ tomorrow
    | yesterday | tomorrow | today | tonight | last\ night | this\ (?:morning|afternoon|evening)
    | (?:last|this\ past|this|next|coming|this\ coming)\ (?:{WEEKDAY}|weekend)
    | (?:last|this|next)\ (?:week|month|year|{MONTH})
    | {COUNT}\ (?:{UNIT}|weekends?)\ ago | {COUNT}\ {UNIT}\ from\ now | in\ {COUNT}\ {UNIT}
    | {YEAR}-[01][0-9]-[0-3][0-9]
    | {MONTH}\.?\ {DAY}(?:,?\ {YEAR})? | {DAY}(?:\ of)?\ {MONTH}\b(?:,?\ {YEAR})? | {MONTH}\ {YEAR}
    )\b""",
    re.VERBOSE,
)
# Most turns hold none of these, and looking for a few words is far cheaper than trying the pattern everywhere.
HINTS = (
    "day",
    "night",
    "tomorrow",
    "week",
    "month",
    "year",
    "last ",
    "next ",
    "this morning",
    "this afternoon",
    "this evening",
)
MONTH_HINTS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "-")
NEAR_MONTHS = re.compile("[0-9]|last |this |next ")


def parse_time(value: Any, *, day_first: bool = False) -> datetime | None:
    """The time a source wrote, in UTC: ISO 8601, seconds or milliseconds since 1970, or words; None when it is none.

    `day_first` reads '05/06/2023' as June 5th.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _from_epoch(float(value))
    return _parse_words(value.strip(), day_first) if isinstance(value, str) and len(value) <= 100 else None


def _from_epoch(number: float) -> datetime | None:
    # Below 1973 a number is a count or an order, not a time; from 1e11 on it must be milliseconds.
    seconds = number / 1000 if number >= 1e11 else number
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds >= 1e8 else None
    except (ValueError, OverflowError, OSError):
        return None


@lru_cache(maxsize=4096)
def _parse_words(text: str, day_first: bool) -> datetime | None:
    if re.fullmatch(r"[0-9]{9,13}(\.[0-9]+)?", text):
        return _from_epoch(float(text))
    if not re.search("[0-9]", text):
        return None
    try:
        found: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        found = _ask(text, None, order="DMY" if day_first else "MDY")
    return _to_utc(found) if found else None


def _to_utc(found: datetime) -> datetime | None:
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        return None


def _ask(text: str, base: datetime | None, *, prefer: str = "past", order: str = "MDY") -> datetime | None:
    import dateparser

    settings: dict[str, Any] = {"PREFER_DATES_FROM": prefer, "PREFER_DAY_OF_MONTH": "first", "DATE_ORDER": order}
    if base is None:
        settings["PARSERS"] = ["absolute-time"]
        settings["STRICT_PARSING"] = True
    else:
        settings["RELATIVE_BASE"] = base.replace(tzinfo=None)
    try:
        found: datetime | None = dateparser.parse(text, languages=["en"], settings=settings)
    except (ValueError, OverflowError):
        return None
    return found


def find_date(text: str, base: datetime | None) -> tuple[datetime | None, str]:
    """The first date that words of `text` name, said at `base`, and a note such as 'yesterday = 2023-05-07'.

    (None, '') when there is none, or no base to count from. The date is the first day of what is meant, at midnight.
    """
    if base is None:
        return None, ""
    lower = text.lower()
    if not any(hint in lower for hint in HINTS) and not (
        any(hint in lower for hint in MONTH_HINTS) and NEAR_MONTHS.search(lower)
    ):
        return None, ""
    # A few letters change their length with their case; the words are then quoted in lower case.
    quoted = text if len(text) == len(lower) else lower
    for match in PHRASE.finditer(lower):
        if answer := _resolve(re.sub(r"\s+", " ", match.group()), base.date().isoformat()):
            return answer[0], f"{quoted[match.start() : match.end()]} = {answer[1]}"
    return None, ""


@lru_cache(maxsize=8192)
def _resolve(phrase: str, day: str) -> tuple[datetime, str] | None:
    """The first day that a phrase said on `day` means, and how to write it: as far as the phrase is exact."""
    base = datetime.fromisoformat(day)
    if "weekend" in phrase:
        found = _weekend(phrase, base)
        if found is None:
            return None
        return found.replace(tzinfo=UTC), f"weekend of {found:%Y-%m-%d}"
    if match := re.fullmatch(f"(last|this|next) ({MONTH})", phrase):
        asked = _month(match[1], match[2], base)
    elif re.search(MONTH, phrase) and re.search("[0-9]", phrase) and not re.search(YEAR, phrase):
        asked = _nearest(_plain(phrase), base)
    else:
        asked = _ask(_plain(phrase), base, prefer=_direction(phrase))
    if asked is None:
        return None
    start = asked.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    if re.fullmatch("(last|this|next) week", phrase):
        start -= timedelta(days=start.weekday())
        return start, f"week of {start:%Y-%m-%d}"
    if re.search(r"\byears?\b", phrase):
        return start.replace(month=1, day=1), f"{start:%Y}"
    if re.search(r"\bmonths?\b", phrase) or re.fullmatch(f"(last|this|next) {MONTH}|{MONTH} {YEAR}", phrase):
        return start.replace(day=1), f"{start:%Y-%m}"
    return start, f"{start:%Y-%m-%d}"


def _nearest(phrase: str, base: datetime) -> datetime | None:
    """A day of a month without a year: the one that is least far away, before or after."""
    days = [found for prefer in ("past", "future") if (found := _ask(phrase, base, prefer=prefer))]
    return min(days, key=lambda day: abs(day - base)) if days else None


def _plain(phrase: str) -> str:
    """A phrase in the words that dateparser knows."""
    phrase = re.sub("(a )?couple of", "2", phrase).replace("this past", "last")
    phrase = re.sub("(this )?coming", "next", phrase)
    return f"in {phrase.removesuffix(' from now')}" if phrase.endswith(" from now") else phrase


def _direction(phrase: str) -> str:
    return "future" if phrase.startswith(("next", "this ", "in ", "coming")) and "past" not in phrase else "past"


def _month(which: str, month: str, base: datetime) -> datetime | None:
    if which == "this":
        return _ask(f"{month} {base.year}", base)
    return _ask(month, base, prefer="past" if which == "last" else "future")


def _weekend(phrase: str, base: datetime) -> datetime | None:
    """The Saturday: of the weekend before this week, of this week, of the week after, or of a week so long ago."""
    if phrase.endswith("ago"):
        then = _ask(_plain(phrase).replace("weekend", "week"), base)
        return then + timedelta(days=5 - then.weekday()) if then else None
    saturday = base + timedelta(days=5 - base.weekday())
    if phrase.startswith(("last", "this past")):
        return saturday - timedelta(days=7)
    return saturday + timedelta(days=7 if phrase.startswith("next") else 0)
