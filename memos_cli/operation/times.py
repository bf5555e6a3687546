"""When a prompt speaks of: the words that say it, the days they mean, and what those days are about.

Patterns find where a time is named; which days are meant is worked out by Python's own calendar for plain dates and by
dateparser for all that is relative (`last week`, `three months ago`, `Q3 2024`). dateparser is imported for such a
prompt only. English. Pure: knows nothing of tables.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice
from typing import Any

AT, SINCE, AFTER, BEFORE, UNTIL, BETWEEN = "at", "since", "after", "before", "until", "between"
# What the days are about: what memories tell of, what the cube knew then, what was true then, or when they were kept.
TOLD, KNOWN, TRUE, ADDED = "told", "known", "true", "added"

MONTHS = {name.casefold(): i for i, name in enumerate(calendar.month_name) if name}
MONTHS |= {name.casefold(): i for i, name in enumerate(calendar.month_abbr) if name}
_MONTH_NAMES = "|".join(sorted(filter(str.isalpha, MONTHS), key=len, reverse=True))
_MONTH = rf"(?P<month>{_MONTH_NAMES})\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d{2})"
_BEFORE_MONTH = "in|of|since|during|early|mid|late|by|until|till|before|after|around|between|from|and|to"
_DAY_NAMES = "|".join(name.casefold() for name in calendar.day_name)
_COUNT = r"\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|a couple of|a few"
_UNIT = r"(?:day|week|month|year|hour)s?"
_RELATIONS = {
    "since": SINCE, "starting": SINCE, "from": BETWEEN, "after": AFTER, "following": AFTER, "before": BEFORE,
    "prior to": BEFORE, "earlier than": BEFORE, "until": UNTIL, "till": UNTIL, "up to": UNTIL, "by": UNTIL,
    "between": BETWEEN, "as of": AT, "as at": AT,
}  # fmt: skip
_RELATED = rf"\b({'|'.join(_RELATIONS)})\s+(?:(?:the\s+)?(?:start|end|beginning)\s+of\s+)?(?:the\s+)?$"
# `the week before 16 November` is near it, not any time before.
_UNITS = frozenset({"day", "week", "month", "year"})
_NEAR = (
    rf"\b(?:(?P<count>{_COUNT})\s+)?(?P<unit>day|week|weekend|month|year|{_DAY_NAMES})s?\s+"
    r"(?P<side>before|after|prior to)\s+(?:the\s+)?$"
)
_ONWARDS = r"^\s*(?:on|onwards?)\b"
_KNOWN = r"\bas\s+(?:of|at)\s+(?:the\s+)?$"
_TRUE = r"\b(?:valid|true|in\s+force|in\s+effect)(?:\s+(?:on|in|at))?\s+(?:the\s+)?$"
_ADDED = (
    r"\b(?:(?:added|ingested|stored|saved|imported|written)\s+(?:in|to|into)\s+(?:your\s+|the\s+|this\s+|my\s+)?"
    r"(?:memory|cube)|(?:new|recent)\s+memories|memories\s+(?:\w+\s+){0,6}?(?:that\s+)?(?:were\s+|was\s+|you\s+)?"
    r"(?:added|kept|stored|saved|made|learned|learnt|ingested|imported|new|from\s+the\s+(?:last|past)))\b"
)
_RANGED = r"\b(?:between|from)\s+(?:the\s+)?"
_JOIN = r"(?:(?:and|to|until|till|through)(?:\s+the)?)?"
_JOINED = r"^\s*(?:and|to|until|till|through|[-–])\s+(?:the\s+)?"
# Words before a year or month that belong to the pattern, not to what is named.
_LEAD = rf"^(?:{_BEFORE_MONTH}|year)[\s-]+"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """A pattern, made when it is first needed: most prompts name no time."""
    return re.compile(text, re.IGNORECASE)


# So many words that may begin a range are looked at: a prompt that is full of them means none.
MOST_RANGES = 8
# Without one of these a text names no time, and the patterns, which take longer to make than to use, are not made.
_HINT = re.compile(
    r"\d|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|day|week|month|year|ago\b|hour|morning", re.IGNORECASE
)


@cache
def _dates() -> tuple[re.Pattern[str], ...]:
    """What finds a date that is written out."""
    return tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"\b{_YEAR}-(?P<month_number>\d{{1,2}})(?:-{_DAY})?\b",
            rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s*{_YEAR})?",
            rf"\b{_MONTH}\s+{_DAY}\b(?!:)(?:,?\s*{_YEAR})?",
            rf"\b{_MONTH},?\s+(?:of\s+)?{_YEAR}",
            rf"\b(?:{_BEFORE_MONTH})[\s-]+{_MONTH}",
            rf"\b(?:in|during|of|since|year|before|after|until|till|by|from|between|and|to)\s+{_YEAR}\b",
        )
    )


@cache
def _relative() -> re.Pattern[str]:
    """What finds a time that is counted from now."""
    return re.compile(
        rf"\b(?:(?:over|in|during|within|for)\s+)?the\s+(?:last|past)\s+(?P<lasting>(?:(?:{_COUNT})\s+)?{_UNIT})\b"
        rf"|\b(?P<said>(?:{_COUNT})\s+{_UNIT}\s+ago|the day before yesterday|yesterday|today|this morning"
        rf"|(?:last|this|past|previous)\s+(?:week|month|year|{_DAY_NAMES}|{_MONTH_NAMES})\b|(?<=on )(?:{_DAY_NAMES})"
        rf"|(?<=since )(?:{_DAY_NAMES})|Q[1-4]\s+(?:19|20)\d{{2}})\b",
        re.IGNORECASE,
    )


@dataclass(frozen=True, slots=True)
class When:
    """A time that a prompt names: a year, month or day, or what was worked out as `spans` of days.

    `year` is None when it was left out. `words` are those of the prompt, `relation` says on which side of them is
    meant (until `end` or as far as `reach`, where that is told), `about` what the days are about.
    """

    year: int | None
    month: int | None = None
    day: int | None = None
    spans: tuple[tuple[date, date], ...] = ()
    words: str = ""
    relation: str = AT
    about: str = TOLD
    end: When | None = None
    reach: tuple[int, str] | None = None

    def days(self, years: Iterable[int]) -> list[tuple[date, date]]:
        """First and last day meant; for a date without a year, in each of `years`."""
        return [span for named in self._named(years) for span in self._related(named, years)]

    def _named(self, years: Iterable[int]) -> list[tuple[date, date]]:
        if self.spans:
            return list(self.spans)
        found = [_span(year, self.month, self.day) for year in ([self.year] if self.year else sorted(set(years)))]
        return [span for span in found if span]

    def _related(self, named: tuple[date, date], years: Iterable[int]) -> Iterator[tuple[date, date]]:
        first, last = named
        year = named[0] if self.year is None and not self.spans else None
        # without a year, `since May` ends with the year: it is a May of each of them
        over, began = (date(year.year, 12, 31), date(year.year, 1, 1)) if year else (date.max, date.min)
        if self.reach is not None:
            yield _reaching(named, self.relation, *self.reach)
        elif self.end is not None:
            ends = [end for _, end in self.end._named([first.year] if year else years) if end >= first]
            yield (first, min(ends)) if ends else named
        elif self.relation == SINCE:
            yield first, over
        elif self.relation == AFTER:
            yield (last + timedelta(1), over) if last < over else named
        elif self.relation == BEFORE:
            yield (began, first - timedelta(1)) if first > began else named
        elif self.relation == UNTIL:
            yield began, last
        else:
            yield named

    def moment(self, now: datetime) -> datetime:
        """The end of the time that is meant, or now when that comes first; of a date without a year the last one."""
        years = [now.year - back for back in range(3)]
        past = [span for span in self._named(years) if span[0] <= now.date()] or [(now.date(), now.date())]
        return min(datetime.combine(max(past)[1], time.max, UTC), now)


def read_when(text: str, *, now: date) -> When | None:
    """The first time that the text names, or None; what is relative is counted from `now`."""
    if not _HINT.search(text):
        return None
    found = _ranged(text) or _first_date(text) or _first_relative(text, now)
    return _with_relation(text, *found) if found else None


def _ranged(text: str) -> tuple[When, int, int] | None:
    """The first date of `between May and July 2023`, where the second alone would look like the whole."""
    for match in islice(_pattern(_RANGED).finditer(text), MOST_RANGES):
        for pattern in _dates():
            # a month or year alone is told by the word before it
            found = pattern.match(text, match.end()) or pattern.match(text, match.start())
            if found and (when := _when(found)) and _until(text, found.end()):
                return when, match.end(), found.end()
    return None


def _first_date(text: str, at: int = 0) -> tuple[When, int, int] | None:
    for pattern in _dates():
        for match in pattern.finditer(text, at):
            if when := _when(match):
                lead = _pattern(_LEAD).match(match.group())
                return when, match.start() + (lead.end() if lead else 0), match.end()
    return None


def _first_relative(text: str, now: date) -> tuple[When, int, int] | None:
    for match in _relative().finditer(text):
        words = match.group()
        span = _lasting(match["lasting"], now) if match["lasting"] else _asked(match["said"], now)
        if span:
            return When(None, spans=(span,), words=words), match.start(), match.end()
    return None


def _with_relation(text: str, when: When, start: int, end: int) -> When:
    before = text[:start]
    related = _pattern(_RELATED).search(before)
    word = re.sub(r"\s+", " ", related[1].casefold()) if related else ""
    about = KNOWN if _pattern(_KNOWN).search(before) else TRUE if _pattern(_TRUE).search(before) else TOLD
    about = ADDED if about == TOLD and _pattern(_ADDED).search(text) else about
    until = _until(text, end) if word in ("between", "from") else None
    words = text[related.start() if related else start : until[1] if until else end].strip()
    if until is not None:
        year = until[0].year if when.year is None else when.year
        return replace(when, year=year, words=words, relation=BETWEEN, about=about, end=until[0])
    relation = SINCE if word == "from" and _pattern(_ONWARDS).match(text[end:]) else _RELATIONS.get(word, AT)
    if near := _pattern(_NEAR).search(before):
        reach = (
            _count(near["count"]),
            "weeks" if near["unit"].casefold() not in _UNITS else f"{near['unit']}s".lower(),
        )
        side = BEFORE if near["side"].casefold() != "after" else AFTER
        return replace(when, words=text[near.start() : end].strip(), relation=side, about=about, reach=reach)
    return replace(when, words=words, relation=AT if relation == BETWEEN else relation, about=about)


def _until(text: str, at: int) -> tuple[When, int] | None:
    """The date that stands right after `and` or `to`, and where it ends."""
    joined = _pattern(_JOINED).match(text[at:])
    found = _first_date(text, at) if joined else None
    if not joined or not found or not _pattern(_JOIN).fullmatch(text[at : found[1]].strip(" -–")):
        return None
    return found[0], found[2]


def _when(match: re.Match[str]) -> When | None:
    groups = match.groupdict()
    name = groups.get("month")
    if name and name.casefold() in ("may", "mar", "dec", "sun") and not name[0].isupper():
        return None  # "you may 2 times": a verb
    month = MONTHS[name.casefold()] if name else int(groups.get("month_number") or 0) or None
    year, day = (int(value) if (value := groups.get(part)) else None for part in ("year", "day"))
    return When(year, month, day, words=match.group()) if _span(year or 2024, month, day) else None


def _span(year: int, month: int | None, day: int | None) -> tuple[date, date] | None:
    try:
        if month is None:
            return date(year, 1, 1), date(year, 12, 31)
        if day is not None:
            return date(year, month, day), date(year, month, day)
        return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
    except (ValueError, calendar.IllegalMonthError):
        return None


def _count(said: str | None) -> int:
    """How many: of words what they say, by dateparser's own reading of `two days ago`."""
    if said is None or said.isdigit():
        return int(said or 1)
    base = date(2000, 6, 15)
    found = _parsed(f"{said} days ago", base)
    return (base - found[0]).days if found else 1


def _reaching(named: tuple[date, date], side: str, count: int, unit: str) -> tuple[date, date]:
    """From so long before a time up to it, or from it to so long after."""
    from dateutil.relativedelta import relativedelta

    first, last = named
    try:
        step = relativedelta(**{unit: count})
        return (first - step, last) if side == BEFORE else (first, last + step)
    except (OverflowError, ValueError):
        return named


def _lasting(length: str, now: date) -> tuple[date, date] | None:
    """`the last three days`, up to today."""
    counted = length if re.match(rf"(?:{_COUNT})\s", length, re.I) else f"1 {length}"
    found = _parsed(f"{counted} ago", now, prefer="current")
    return (min(found[0], now), now) if found else None


def _asked(phrase: str, now: date) -> tuple[date, date] | None:
    """The days that a phrase means: as many as its own unit has."""
    found = _parsed(phrase, now)
    return _unit(*found) if found else None


def _unit(day: date, unit: str) -> tuple[date, date] | None:
    if unit == "week":
        monday = day - timedelta(day.weekday())
        return monday, monday + timedelta(6)
    if unit == "quarter":
        begins, ends = _span(day.year, day.month, None), _span(day.year, day.month + 2, None)
        return (begins[0], ends[1]) if begins and ends else None
    return _span(day.year, None if unit == "year" else day.month, day.day if unit == "day" else None)


def _parsed(phrase: str, now: date, *, prefer: str = "first") -> tuple[date, str] | None:
    """The day that dateparser finds, and the unit that the phrase is in."""
    plain = re.sub(r"\s+", " ", phrase.casefold())
    plain = re.sub(r"^a couple of", "2", re.sub(r"^a few", "3", re.sub(r"^(?:past|previous)\b", "last", plain)))
    if match := re.fullmatch(rf"last ({_MONTH_NAMES})", plain):
        # the one that is over: said in May, it is that of the year before
        plain = f"{match[1]} {now.year - (MONTHS[match[1]] >= now.month)}"
    elif match := re.fullmatch(rf"this ({_MONTH_NAMES})", plain):
        plain = f"{match[1]} {now.year}"
    try:
        found = _parser(now, prefer).get_date_data(plain)
    except (ValueError, OverflowError):
        return None
    return (found.date_obj.date(), found.period) if found.date_obj else None


def _parser(now: date, prefer: str) -> Any:
    from dateparser.date import DateDataParser

    settings = {
        "RELATIVE_BASE": datetime.combine(now, time(12)), "PREFER_DATES_FROM": "past", "PREFER_DAY_OF_MONTH": prefer,
        "PREFER_MONTH_OF_YEAR": prefer, "RETURN_AS_TIMEZONE_AWARE": False,
    }  # fmt: skip
    return DateDataParser(languages=["en"], settings=settings)
