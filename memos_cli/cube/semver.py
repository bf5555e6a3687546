"""Semantic versions and ranges of them, as packages of memory use them.

A range is `*`, or conditions with commas between: `^1.4` (from 1.4.0 to before 2.0.0), `~1.4` (to before 1.5.0),
`>=1.2`, `>1.2`, `<=2.0`, `<2.0`, `=1.4.2`. A bare `1.4` means `^1.4`. Below 1.0.0 the second number is the one that
breaks, as everywhere: `^0.3` ends before 0.4.0. A pre-release is in a range only when a condition names one of the same
three numbers, or it is asked for by itself. Knows nothing of where versions are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering

from memos_cli.errors import Usage

_NUMBER = r"(0|[1-9]\d{0,17})"
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?")
_CONDITION = re.compile(rf"(\^|~|>=|<=|>|<|=|)\s*{_NUMBER}(?:\.{_NUMBER})?(?:\.{_NUMBER})?(?:-([0-9A-Za-z.-]+))?")
_LIMIT_CHARACTERS = 128


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version, in the order of Semantic Versioning 2.0: a pre-release comes before its release."""

    numbers: tuple[int, int, int]
    pre: tuple[str, ...] = ()

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) + (f"-{'.'.join(self.pre)}" if self.pre else "")

    def _key(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
        parts = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in self.pre)
        return self.numbers, not self.pre, parts


def parse(text: str) -> Version | None:
    """The version that `text` is, or None."""
    found = _VERSION.fullmatch(text) if len(text) <= _LIMIT_CHARACTERS else None
    if found is None:
        return None
    return Version((int(found[1]), int(found[2]), int(found[3])), tuple(found[4].split(".")) if found[4] else ())


def newest_first(texts: Iterable[str]) -> list[str]:
    """Those of `texts` that are versions, the newest first."""
    known = {text: version for text in texts if (version := parse(text)) is not None}
    return sorted(known, key=lambda text: known[text], reverse=True)


@dataclass(frozen=True, slots=True)
class _Condition:
    """From `low` (None: from the beginning) to `high` (None: without end)."""

    low: Version | None
    high: Version | None
    with_low: bool = True
    with_high: bool = False

    def holds(self, version: Version) -> bool:
        above = self.low is None or version > self.low or (self.with_low and version == self.low)
        below = self.high is None or version < self.high or (self.with_high and version == self.high)
        return above and below


@dataclass(frozen=True, slots=True)
class Range:
    """Which versions will do."""

    text: str
    conditions: tuple[_Condition, ...]

    def holds(self, version: Version) -> bool:
        """Whether `version` is in it."""
        return (not version.pre or self._names(version)) and self.spans(version)

    def spans(self, version: Version) -> bool:
        """Whether `version` is in it, pre-releases like all others."""
        return all(condition.holds(version) for condition in self.conditions)

    def _names(self, version: Version) -> bool:
        """Whether a pre-release of the very same three numbers is named in a condition."""
        ends = [end for condition in self.conditions for end in (condition.low, condition.high) if end is not None]
        return any(end.pre and end.numbers == version.numbers for end in ends)

    def __str__(self) -> str:
        return self.text


def parse_range(text: str) -> Range:
    """The range that `text` is. Raises Usage, naming the condition that is none."""
    tidy = ", ".join(part.strip() for part in text.split(","))
    if len(text) > _LIMIT_CHARACTERS:
        raise Usage(f"a range has at most {_LIMIT_CHARACTERS} characters, found {len(text):,}")
    if tidy in ("", "*"):
        return Range("*", ())
    return Range(tidy, tuple(_condition(part.strip()) for part in tidy.split(",")))


def _condition(text: str) -> _Condition:
    found = _CONDITION.fullmatch(text)
    if found is None or (found[5] and found[4] is None):
        raise Usage(f"expected a range such as '^1.4' or '>=1.2, <2', found {text[:80]!r}")
    sign = found[1] or "^"
    given = [int(part) for part in found.groups()[1:4] if part is not None]
    low = Version((*given, *[0] * (3 - len(given))), tuple(found[5].split(".")) if found[5] else ())  # type: ignore[arg-type]
    if sign in ("=", "<=", ">") and len(given) < 3:
        # a version that is not told whole stands for all that begin with it
        after = _next(given, len(given) - 1)
        return {"=": _Condition(low, after), "<=": _Condition(None, after), ">": _Condition(after, None)}[sign]
    return {
        "^": _Condition(low, _next(given, _breaking(given))),
        "~": _Condition(low, _next(given, min(1, len(given) - 1))),
        "=": _Condition(low, low, with_high=True),
        ">=": _Condition(low, None),
        ">": _Condition(low, None, with_low=False),
        "<=": _Condition(None, low, with_high=True),
        "<": _Condition(None, low),
    }[sign]


def _breaking(given: list[int]) -> int:
    """Which number must not change: the first that is not 0, or the last that was told."""
    return next((place for place, number in enumerate(given) if number), len(given) - 1)


def _next(given: list[int], place: int) -> Version:
    """The first version in which the number at `place` is one more; its first pre-release, for those break too."""
    numbers = [*given[:place], given[place] + 1, 0, 0][:3]
    return Version((numbers[0], numbers[1], numbers[2]), ("0",))
