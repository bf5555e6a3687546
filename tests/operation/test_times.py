"""Which days a prompt means."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.operation.times import ADDED, KNOWN, TOLD, TRUE, read_when

TODAY = date(2024, 3, 15)
EVER, NEVER = date.min, date.max


def days(text: str) -> list[tuple[date, date]]:
    when = read_when(f"What happened {text}", now=TODAY)
    assert when is not None, text
    return when.days([2022, 2023])


def one(*first: int) -> list[tuple[date, date]]:
    return [(date(*first), date(*first))]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("on 7 May 2023", one(2023, 5, 7)),
        ("on the 7th of May, 2023?", one(2023, 5, 7)),
        ("on May 7th", [*one(2022, 5, 7), *one(2023, 5, 7)]),
        ("in Feb 2024", [(date(2024, 2, 1), date(2024, 2, 29))]),
        ("2023-05", [(date(2023, 5, 1), date(2023, 5, 31))]),
        ("in 2023", [(date(2023, 1, 1), date(2023, 12, 31))]),
        ("yesterday", one(2024, 3, 14)),
        ("the day before yesterday", one(2024, 3, 13)),
        ("last month", [(date(2024, 2, 1), date(2024, 2, 29))]),
        ("last week", [(date(2024, 3, 4), date(2024, 3, 10))]),
        ("two weeks ago", [(date(2024, 2, 26), date(2024, 3, 3))]),
        ("a couple of years ago", [(date(2022, 1, 1), date(2022, 12, 31))]),
        ("last friday", one(2024, 3, 8)),
        ("last February", [(date(2024, 2, 1), date(2024, 2, 29))]),
        ("in last March", [(date(2023, 3, 1), date(2023, 3, 31))]),
        ("last May", [(date(2023, 5, 1), date(2023, 5, 31))]),
        ("on Monday", one(2024, 3, 11)),
        ("in the last three days", [(date(2024, 3, 12), TODAY)]),
        ("over the past year", [(date(2023, 3, 15), TODAY)]),
        ("in Q4 2023", [(date(2023, 10, 1), date(2023, 12, 31))]),
    ],
)
def test_dates(text: str, spans: list[tuple[date, date]]) -> None:
    assert days(text) == spans


@pytest.mark.parametrize(
    ("text", "relation", "spans"),
    [
        ("since May 2023", "since", [(date(2023, 5, 1), NEVER)]),
        ("after 7 May 2023", "after", [(date(2023, 5, 8), NEVER)]),
        ("before 2022", "before", [(EVER, date(2021, 12, 31))]),
        ("by the end of June 2023", "until", [(EVER, date(2023, 6, 30))]),
        ("until last year", "until", [(EVER, date(2023, 12, 31))]),
        ("between May and July 2023", "between", [(date(2023, 5, 1), date(2023, 7, 31))]),
        ("from 3 March 2023 to 9 April 2023", "between", [(date(2023, 3, 3), date(2023, 4, 9))]),
        ("between 2020 and 2022", "between", [(date(2020, 1, 1), date(2022, 12, 31))]),
        ("after June", "after", [(date(y, 7, 1), date(y, 12, 31)) for y in (2022, 2023)]),
        ("after December", "after", [(date(y, 12, 1), date(y, 12, 31)) for y in (2022, 2023)]),
        ("the week before 16 November 2023", "before", [(date(2023, 11, 9), date(2023, 11, 16))]),
        ("the Sunday before 16 November 2023", "before", [(date(2023, 11, 9), date(2023, 11, 16))]),
        ("two months after May 2023", "after", [(date(2023, 5, 1), date(2023, 7, 31))]),
        ("from May 2023 on", "since", [(date(2023, 5, 1), NEVER)]),
        ("from May 2023", "at", [(date(2023, 5, 1), date(2023, 5, 31))]),
        ("from last week", "at", [(date(2024, 3, 4), date(2024, 3, 10))]),
        ("from July 2023 to May 2023", "between", [(date(2023, 7, 1), date(2023, 7, 31))]),
    ],
)
def test_on_which_side_of_a_date(text: str, relation: str, spans: list[tuple[date, date]]) -> None:
    when = read_when(f"What happened {text}", now=TODAY)
    assert when is not None
    assert (when.relation, when.days([2022, 2023])) == (relation, spans)
    assert when.words == text.removeprefix("the ").removesuffix(" on")


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("as of March 2023, who leads?", KNOWN),
        ("which price was valid in 2022?", TRUE),
        ("memories added last week", ADDED),
        ("what was put down and saved to memory yesterday?", ADDED),
        ("what did Ann add to the soup yesterday?", TOLD),
        ("in 2022 I saved to buy a house", TOLD),
    ],
)
def test_what_the_days_are_about(text: str, about: str) -> None:
    when = read_when(text, now=TODAY)
    assert when is not None
    assert when.about == about


@pytest.mark.parametrize(
    "text",
    [
        "May I ask?",
        "you may 2 times",
        "2023-31-02",
        "room 2023",
        "march on",
        "call 555-1234",
        "the last straw",
        "Q9 2024",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert read_when(text, now=TODAY) is None


def test_the_moment_of_a_date_is_its_end_or_now() -> None:
    now = datetime(2024, 3, 15, 12, tzinfo=UTC)
    moments = [read_when(f"as of {text}", now=TODAY) for text in ("2023", "March 2024", "May", "2030")]
    ends = [when.moment(now) for when in moments if when]
    assert [str(end)[:10] for end in ends] == ["2023-12-31", "2024-03-15", "2023-05-31", "2024-03-15"]
    assert all(end <= now for end in ends)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("0123456789 -/abcMayweeks ago last since between and", max_size=40))
def test_no_text_raises_and_days_are_in_order(text: str) -> None:
    when = read_when(text, now=TODAY)
    if when:
        assert all(first <= last for first, last in when.days([1999, 2024]))


@pytest.mark.parametrize("count", ["999 years", "998 months", "7 days"])
def test_far_back_is_no_error(count: str) -> None:
    read_when(f"{count} ago", now=date(5, 1, 1))


def test_the_parser_of_dates_is_imported_for_what_is_relative_only() -> None:
    code = (
        "import sys; from datetime import date; from memos_cli.operation.times import read_when;"
        "read_when('who leads since May 2023? as of 2022', now=date(2024, 3, 15));"
        "assert 'dateparser' not in sys.modules; read_when('last week', now=date(2024, 3, 15));"
        "assert 'dateparser' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
