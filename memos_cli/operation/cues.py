"""What a question says besides its words: who it is about, and when.

`read_cues(text, participants=..., now=...)` finds the participants it names and the date it names. A dialogue is
written in the first person, so for search the name becomes "I" (and a second one "you"), and word search goes
without it: a name that is on half of the turns finds nothing. When it speaks of is read by `times.py`. Pure: knows
nothing of tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from memos_cli.operation.times import When

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


@dataclass(frozen=True, slots=True)
class Cues:
    """The question for word search, for meaning, the one speaker it is about ("" for none) and the date it names."""

    words: str
    meaning: str
    speaker: str = ""
    when: When | None = None


def read_cues(text: str, *, participants: Mapping[str, bool], when: When | None = None) -> Cues:
    """The cues of a question. `participants` maps a speaker's name to whether it is too common to search for.

    `when` is the time that it names.
    """
    named = [name for name in participants if _call_names(name) and _names(text, name, participants)]
    common = [name for name in named if participants[name]]
    words = content_words(_without(text, common))
    speaker = named[0] if len(named) == 1 else ""
    return Cues(words or text, _in_first_person(text, common), speaker, when)


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
