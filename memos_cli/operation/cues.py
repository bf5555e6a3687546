"""What a question says besides its words: who it is about, and when.

`read_cues(text, participants=..., now=...)` finds the participants it names and the date it names. A dialogue is
written in the first person, so for search the name becomes "I" (and a second one "you"), and word search goes
without it: a name that is on half of the turns finds nothing. Dates are found with one regular expression and the
calendar's own names; anything unclear is left alone. Pure: knows nothing of tables.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

MONTHS = {name.casefold(): i for i, name in enumerate(calendar.month_name) if name}
MONTHS |= {name.casefold(): i for i, name in enumerate(calendar.month_abbr) if name}
_MONTH = r"(?P<month>" + "|".join(sorted(filter(str.isalpha, MONTHS), key=len, reverse=True)) + r")\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d{2})"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_YEAR}-(?P<month_number>\d{{1,2}})(?:-{_DAY})?\b",
        rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s*{_YEAR})?",
        rf"\b{_MONTH}\s+{_DAY}\b(?!:)(?:,?\s*{_YEAR})?",
        rf"\b{_MONTH},?\s+(?:of\s+)?{_YEAR}",
        rf"\b(?:in|of|since|during|last|this|early|mid|late|by|until|before|after|around)[\s-]+{_MONTH}",
        rf"\b(?:in|during|of|since|year)\s+{_YEAR}\b",
    )
)
_COUNTS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "couple": 2}
_AGO = re.compile(
    rf"\b(?:(?P<count>\d{{1,3}}|{'|'.join(_COUNTS)})\s+(?:of\s+)?(?P<unit>day|week|month|year)s?\s+ago"
    r"|(?P<last>last|this|past)\s+(?P<span>week|month|year)|(?P<word>yesterday|today))\b",
    re.IGNORECASE,
)
# Words that carry no content in a question. The index drops its own list, but after stemming, so "does" and "why" stay.
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about after all also am an and any are as at be because been before being both but by can could did do does "
        "doing during each for from further get got had has have having he her here hers herself him himself his how "
        "i if in into is it its itself just let me more most my myself no nor not now of off on once only or other our "
        "ours ourselves out own same she should so some such than that the their theirs them themselves then there "
        "these they this those through to too until up us very was we were what when where which while who whom whose "
        "why will with would you your yours yourself yourselves s t d m ll re ve",
    )
)
_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


@dataclass(frozen=True, slots=True)
class When:
    """A date that a question names: a year, month or day; `year` is None when it was left out."""

    year: int | None
    month: int | None = None
    day: int | None = None
    spans: tuple[tuple[date, date], ...] = ()

    def days(self, years: Iterable[int]) -> list[tuple[date, date]]:
        """First and last day meant; for a date without a year, in each of `years`."""
        if self.spans:
            return list(self.spans)
        found = [_span(year, self.month, self.day) for year in ([self.year] if self.year else sorted(set(years)))]
        return [span for span in found if span]


@dataclass(frozen=True, slots=True)
class Cues:
    """The question for word search, for meaning, the one speaker it is about ("" for none) and the date it names."""

    words: str
    meaning: str
    speaker: str = ""
    when: When | None = None


def read_cues(text: str, *, participants: Mapping[str, bool], now: date) -> Cues:
    """The cues of a question. `participants` maps a speaker's name to whether it is too common to search for."""
    named = [name for name in participants if _call_names(name) and _names(text, name, participants)]
    common = [name for name in named if participants[name]]
    words = content_words(_without(text, common))
    speaker = named[0] if len(named) == 1 else ""
    return Cues(words or text, _in_first_person(text, common), speaker, read_when(text, now=now))


def content_words(text: str) -> str:
    """The text without function words, or as it is when nothing else is in it."""
    kept = [word for word in re.findall(r"[^\W_]+", text) if word.casefold() not in FUNCTION_WORDS]
    return " ".join(kept) or text


def _call_names(name: str) -> list[str]:
    """The ways a participant is called: the whole name, and its first part when that is a word of three letters."""
    first = re.split(r"[\s_]+", name.strip())[0]
    return [name] if first == name or len(first) < 3 else [name, first]


def _pattern(name: str) -> re.Pattern[str]:
    names = "|".join(re.escape(called) for called in _call_names(name))
    return re.compile(rf"(?<!\w)(?:{names})(?P<own>['’]s|s['’])?(?!\w)", re.IGNORECASE)


def _names(text: str, name: str, participants: Mapping[str, bool]) -> bool:
    """Whether the text names the participant, in full or by a short form (Mel for Melanie) that fits nobody else."""
    if _pattern(name).search(text):
        return True
    for short in re.findall(r"(?<=[\s(,])[A-Z][a-z]{2,}", text):  # not the first word: Will, May, Mark
        fits = [other for other in participants if other.casefold().startswith(short.casefold())]
        if fits == [name]:
            return True
    return False


def _without(text: str, names: Iterable[str]) -> str:
    for name in names:
        text = _pattern(name).sub(" ", text)
    return " ".join(text.split())


def _in_first_person(text: str, names: Iterable[str]) -> str:
    """The question as the speaker would put it: the participant named first is I, another one is you."""
    order = sorted(names, key=lambda name: found.start() if (found := _pattern(name).search(text)) else len(text))
    for i, name in enumerate(order):
        subject, owner = ("I", "my") if i == 0 else ("you", "your")
        text = _pattern(name).sub(lambda match, s=subject, o=owner: o if match["own"] else s, text)  # type: ignore[misc]
    return " ".join(text.split())


def read_when(text: str, *, now: date) -> When | None:
    """The first date that the text names, or None; what is relative is taken from `now`."""
    for pattern in _DATES:
        for match in pattern.finditer(text):
            when = _when(match)
            if when:
                return when
    relative = _AGO.search(text)
    return When(None, spans=(_ago(relative, now),)) if relative else None


def _when(match: re.Match[str]) -> When | None:
    groups = match.groupdict()
    name = groups.get("month")
    if name and name.casefold() in ("may", "mar", "dec", "sun") and not name[0].isupper():
        return None  # "you may 2 times": a verb
    month = MONTHS[name.casefold()] if name else int(groups.get("month_number") or 0) or None
    year, day = (int(value) if (value := groups.get(part)) else None for part in ("year", "day"))
    return When(year, month, day) if _span(year or 2024, month, day) else None


def _span(year: int, month: int | None, day: int | None) -> tuple[date, date] | None:
    try:
        if month is None:
            return date(year, 1, 1), date(year, 12, 31)
        if day is not None:
            return date(year, month, day), date(year, month, day)
        return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
    except (ValueError, calendar.IllegalMonthError):
        return None


def _ago(match: re.Match[str], now: date) -> tuple[date, date]:
    if match["word"]:
        day = now - timedelta(days=match["word"].casefold() == "yesterday")
        return day, day
    if match["span"]:
        length = _DAYS[match["span"].casefold()]
        back = length if match["last"].casefold() != "this" else 0
        return now - timedelta(days=back + now.weekday() if length == 7 else back), now
    unit = _DAYS[match["unit"].casefold()]
    written = match["count"].casefold()
    count = int(written) if written.isdigit() else _COUNTS[written]
    try:
        middle = now - timedelta(days=count * unit)
        return middle - timedelta(days=unit // 3), middle + timedelta(days=unit // 3)
    except OverflowError:
        return now, now
