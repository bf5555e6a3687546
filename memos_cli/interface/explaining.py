"""How a query is told in full: the prompt as it was understood, and each candidate with why it ranks where it does."""

from __future__ import annotations

from datetime import date

from memos_cli.interface.found import Candidate, Days, Named, PromptRead, TimeNamed
from memos_cli.interface.rows import place_of
from memos_cli.operation import why
from memos_cli.operation.hits import Hit
from memos_cli.operation.reading import Heard
from memos_cli.operation.recall import Recalled

# Candidates that are told beside what is shown, and the letters of each that are.
TOLD, LONGEST = 20, 200


def prompt_read(found: Recalled) -> PromptRead:
    """The structured call that recall worked with."""
    heard = found.heard
    return PromptRead(
        intent=heard.intent, entities=tuple(Named(one.text, one.kind) for one in heard.entities),
        time=_time_named(heard, found.time), topic=heard.topic, forms=heard.forms, words=heard.words,
        read_by=heard.read_by,
    )  # fmt: skip


def _time_named(heard: Heard, effect: str) -> TimeNamed | None:
    when = heard.when
    if when is None:
        return None
    dated = when.year is not None or bool(when.spans)
    # a date without a year is one of every year that the cubes know of
    days = tuple(Days(_day(first), _day(last)) for first, last in (when.days([]) if dated else ()))
    return TimeNamed(when.words, when.relation, when.about, days, effect)


def _day(day: date) -> str | None:
    """A day as text; None for one that only says that there is no bound."""
    return None if day in (date.min, date.max) else day.isoformat()


def candidates(found: Recalled, *, shown: int, most: int = TOLD) -> tuple[Candidate, ...]:
    """The best candidates, those that are shown first, each with its reasons."""
    told = found.hits[: max(shown, most)]
    last = told[min(shown, len(told)) - 1] if told else None
    return tuple(_candidate(rank, hit, found.heard, last, shown=shown) for rank, hit in enumerate(told, 1))


def _candidate(rank: int, hit: Hit, heard: Heard, last: Hit | None, *, shown: int) -> Candidate:
    given = rank <= shown
    told = why.reasons(hit, heard)
    return Candidate(
        rank=rank, shown=given, score=hit.score, id=hit.id, cube=hit.cube, place=place_of(hit.row),
        text=" ".join(hit.row["text"].split())[:LONGEST], signals=dict(hit.signals),
        why=told if given or last is None else f"{why.behind(hit, last)}: {told}",
    )  # fmt: skip
