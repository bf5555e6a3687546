"""What a text names, written one way: numbers, dates, times, amounts and words, so that two wordings compare.

`3 pm` is `15:00`, `12 March` is `March 12th`, `two` is `2`. A written date is a few tokens, so that one without a year
agrees with one that has it. Pure; reads English.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from memos_cli.operation.times import MONTHS

ARTICLES = frozenset({"a", "an", "the"})
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_UNITS = {
    "€": "eur", "euro": "eur", "euros": "eur", "$": "usd", "dollar": "usd", "dollars": "usd", "£": "gbp",
    "pounds": "gbp", "percent": "%", "kilometres": "km", "kilometers": "km", "kilograms": "kg", "kilogram": "kg",
    "grams": "g", "metres": "m", "meters": "m", "hours": "h", "hour": "h", "hrs": "h", "minutes": "min",
    "minute": "min", "mins": "min",
}  # fmt: skip
_MONTH = "|".join(sorted((name for name in MONTHS if name.isalpha()), key=len, reverse=True))
_TOKEN = re.compile(
    r"(?P<iso>\b(?P<iy>\d{4})-(?P<im>\d{2})-(?P<id>\d{2})\b)"
    r"|(?P<clock>\b(?P<ch>\d{1,2})(?::|\.(?=\d\d ?[ap]m))(?P<cm>\d{2})(?: ?(?P<cp>[ap])\.?m\b\.?)?)"
    r"|(?P<hour>\b(?P<hh>\d{1,2}) ?(?P<hp>[ap])\.?m\b\.?)"
    rf"|(?P<dm>\b(?P<dd>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<dn>(?i:{_MONTH}))\b)"
    rf"|(?P<md>\b(?P<mn>(?i:{_MONTH})) (?P<mday>\d{{1,2}})(?:st|nd|rd|th)?\b(?!:))"
    r"|(?P<dotted>\b\d+(?:\.\d+){2,}\b)"
    r"|(?P<number>\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*)"
    r"|(?P<sign>[€$£%])"
)
_TYPED = re.compile(r"[tdywn]:|m:\d")
_DATE, _TIME = frozenset("dmyw"), "t"
_YEAR = re.compile(r"(?:19|20)\d\d")
# What a value holds for, behind the value itself: two that hold for different things do not contradict one another.
_TAIL = re.compile(r"(?<=\S) (?=(?:on|in|during|for|when|if|while|except|with|per)\b)", re.IGNORECASE)
_AT = re.compile(r"^(?:on|at|in) ", re.IGNORECASE)
_ABOUT = re.compile(r"\b(?:about|around|approximately|roughly|nearly|almost|circa|ca\.?)\b|~", re.IGNORECASE)
_CLOSE = 0.1


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number, date or time: its `key`, written one way, and where it stands in the text."""

    key: str
    start: int
    end: int
    named: bool = False

    @property
    def typed(self) -> bool:
        """Whether it is a number, a date or a time."""
        return bool(_TYPED.match(self.key))


@dataclass(frozen=True, slots=True)
class Value:
    """What a value says (`core`), what it holds for (`tail`), and whether it is only about so."""

    core: tuple[str, ...]
    tail: tuple[str, ...] = ()
    rough: bool = False


def tokens(text: str) -> list[Token]:
    """The words, numbers, dates and times of a text in their order; a date may be several."""
    return [token for match in _TOKEN.finditer(text) for token in _read(match)]


def keys(text: str) -> tuple[str, ...]:
    """The same as keys, without articles."""
    return tuple(token.key for token in tokens(text) if token.key not in ARTICLES)


def folded(word: str) -> str:
    """A word without case and accents."""
    if word.isascii():
        return word.lower()
    apart = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).replace("’", "'")


def _read(match: re.Match[str]) -> list[Token]:
    if match["word"]:
        return [_word(match)]
    start, end = match.span()

    def made(*found: str) -> list[Token]:
        return [Token(key, start, end) for key in found]

    if match["iso"]:
        return made(f"d:{int(match['id'])}", f"m:{int(match['im'])}", f"y:{match['iy']}")
    if match["clock"]:
        return made(_clock(int(match["ch"]), match["cm"], match["cp"]))
    if match["hour"]:
        return made(_clock(int(match["hh"]), "00", match["hp"]))
    if match["dm"]:
        return made(f"d:{int(match['dd'])}", f"m:{MONTHS[match['dn'].casefold()]}")
    if match["md"]:
        return made(f"d:{int(match['mday'])}", f"m:{MONTHS[match['mn'].casefold()]}")
    if match["dotted"]:
        return made(f"n:{match['dotted']}")
    if match["number"]:
        plain = match["number"].replace(",", "")
        return made(f"y:{plain}" if _YEAR.fullmatch(plain) else f"n:{float(plain):g}" if "." in plain else f"n:{plain}")
    return made(_UNITS.get(match["sign"], match["sign"]))


def _clock(hour: int, minute: str, half: str | None) -> str:
    if half:
        hour = hour % 12 + (12 if half.casefold() == "p" else 0)
    return f"t:{hour:02}:{minute}"


def _word(match: re.Match[str]) -> Token:
    key, named = _key_of(match["word"])
    return Token(key, *match.span(), named=named)


@lru_cache(maxsize=1 << 15)
def _key_of(raw: str) -> tuple[str, bool]:
    """The key of a word as it stands in a text, and whether it may be a name."""
    word, named = folded(raw), raw[0].isupper()
    if word in _WEEKDAYS:
        return f"w:{_WEEKDAYS.index(word)}", False
    if (named and word in MONTHS and word not in ("may", "mar")) or raw in ("May", "Mar"):
        return f"m:{MONTHS[word]}", False
    if word in _NUMBERS:
        return f"n:{_NUMBERS.index(word)}", False
    return _UNITS.get(word, word), named


def value_of(text: str) -> Value:
    """A value as it stands in a sentence."""
    core, *tail = _TAIL.split(_AT.sub("", text.strip()), maxsplit=1)
    said = tuple(key for key in keys(core) if key not in ("about", "around", "approximately", "roughly", "nearly"))
    return Value(said, keys(tail[0]) if tail else (), bool(_ABOUT.search(core)))


def is_typed(key: str) -> bool:
    """Whether a key is of a number, date or time."""
    return bool(_TYPED.match(key))


def is_moment(key: str) -> bool:
    """Whether a key is of a date or a time of day."""
    return is_typed(key) and key[0] in _DATE | {_TIME}


def differ(one: Value, other: Value) -> bool:
    """Whether both cannot be: neither says the same as the other, nor less, nor something of another case."""
    if one.tail != other.tail or not one.core or not other.core:
        return False
    a, b = set(one.core), set(other.core)
    if a <= b or b <= a:
        return False
    return not ((one.rough or other.rough) and _is_near(one.core, other.core))


def _is_near(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether they differ in numbers alone, and by little."""
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        if a != b:
            if not (a.startswith("n:") and b.startswith("n:") and a.count(".") < 2 and b.count(".") < 2):
                return False
            x, y = float(a[2:]), float(b[2:])
            if abs(x - y) > _CLOSE * max(x, y):
                return False
    return True
