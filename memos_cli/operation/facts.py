"""What a memory says, as far as its shape tells: whom or what it is about, what is told of it, and the value.

Rows, pairs and records say it by their marks; a sentence by one of a few shapes (`The home town of Ana is Lindau`,
`Ana's home town is Lindau`, `Ana lives in Lindau`). What has no such shape has no facts here, only values: numbers,
dates, names and what stands in quotes. Pure; knows no model.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LONGEST_VALUE_WORDS = 8
LONGEST_NAME_WORDS = 6
# Of a table's row the column that names what the rest is told of.
_NAMING = frozenset({"name", "title", "id", "person", "who", "what", "project", "product", "item", "subject", "key"})
_OF = re.compile(r"^(?:the |an? )?(?P<r>[\w' -]{2,50}?) of (?P<s>[^,;:.]{1,60}?)(?: is|:) (?P<v>.+)$", re.IGNORECASE)
_OWN = re.compile(r"^(?P<s>[^,;:.]{1,60}?)['’]s (?P<r>[\w -]{2,40}?)(?: is|:) (?P<v>.+)$")
_UNDER = re.compile(r"^(?P<s>[^:>]{1,80}?)(?: > |: |, )(?P<r>[^:>]{1,40}?): (?P<v>.+)$")
_VALUE = re.compile(
    r"[\"“](?P<quoted>[^\"“”]{2,60})[\"”]"
    r"|(?P<number>[$€£]?\d[\d.,:/-]*\d|\d)(?P<unit>\s?(?:%|am|pm|km|kg|ms|GB|MB|[Jj]an\w*|[Ff]eb\w*|[Mm]ar\w*|[Aa]pr\w*"
    r"|[Mm]ay|[Jj]un\w*|[Jj]ul\w*|[Aa]ug\w*|[Ss]ep\w*|[Oo]ct\w*|[Nn]ov\w*|[Dd]ec\w*)\b)?"
    r"|(?P<name>[A-ZÀ-Þ][\w'’-]*(?: [A-ZÀ-Þ][\w'’-]*)*)"
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a memory says. `asks` are questions that its verb has of its own."""

    subject: str
    relation: str
    value: str
    asks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A value of a memory and the words of its sentence before it."""

    before: str
    value: str


@cache
def wordings() -> dict[str, Any]:
    """How facts are asked for, by kind and split, and the pool of what nobody taught."""
    return tomllib.loads((Path(__file__).parent / "wordings.toml").read_text(encoding="utf-8"))


def facts_of(line: str, *, kind: str = "", section: str = "") -> list[Fact]:
    """The facts of a memory as a prompt shows it; a row has several, a sentence one for each noun of its verb."""
    found = list(_of_row(line, section)) if kind in ("row", "record") else []
    if not found:
        found = [fact for part in _SENTENCE.split(line) for fact in _of_sentence(part.strip().rstrip(".!"))]
    return [fact for fact in found if _is_short(fact)]


def _of_row(line: str, section: str) -> Iterator[Fact]:
    """`name: Ana; home town: Lindau`: what its naming column names has all the others."""
    cells = [
        cell.partition(": ") for cell in line.removeprefix(f"{section}: ").removeprefix(f"{section} > ").split("; ")
    ]
    told = [(key.strip(), value.strip()) for key, mark, value in cells if mark and value.strip()]
    named = next((value for key, value in told if key.lower() in _NAMING), told[0][1] if len(told) > 1 else "")
    for key, value in told:
        if named and value != named:
            yield Fact(named, key, value)


def _of_sentence(text: str) -> Iterator[Fact]:
    for shape in (_UNDER, _OWN, _OF):
        if found := shape.match(text):
            yield Fact(found["s"].strip(), _plain_noun(found["r"]), found["v"].strip())
            return
    for verb, entry in wordings()["verbs"].items():
        subject, mark, value = text.partition(f" {verb} ")
        if mark and subject and value:
            asks = tuple(entry["ask"])
            for number, noun in enumerate(entry["nouns"]):
                # its own questions are asked once, not for each noun
                yield Fact(subject, noun, value, asks if number == 0 else ())
            return


def _plain_noun(text: str) -> str:
    return text.strip().removeprefix("the ").removeprefix("The ")


def _is_short(fact: Fact) -> bool:
    sizes = (len(fact.subject.split()), len(fact.relation.split()), len(fact.value.split()))
    most = (LONGEST_NAME_WORDS, LONGEST_NAME_WORDS, LONGEST_VALUE_WORDS)
    return all(0 < size <= limit for size, limit in zip(sizes, most, strict=True))


def gaps_of(line: str) -> list[Gap]:
    """The values of a memory with what stands before each in its sentence; none where nothing does."""
    found = []
    for sentence in _SENTENCE.split(line):
        for match in _VALUE.finditer(sentence):
            before = sentence[: match.start()].strip()
            value = match["quoted"] or match.group().strip()
            if before and len(before.split()) > 1 and value:
                found.append(Gap(before, value))
    return found
