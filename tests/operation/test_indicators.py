"""Indicators from records of use: counts, heat, which half-life a log has, what is used together."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from memos_cli.infrastructure.uses import Access
from memos_cli.operation import indicators
from memos_cli.operation.indicators import HALF_LIVES, Event

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def access(days: float, *found: str, given: tuple[str, ...] = ()) -> Access:
    return Access(NOW - timedelta(days=days), found, tuple(range(1, len(found) + 1)), given, (), 0, 0.0, "")


def test_what_a_model_was_given_counts_once_there_is_such_a_thing() -> None:
    records = [access(2, "a", "b"), access(1, "b", "c", given=("c",))]
    assert indicators.events(records[:1], now=NOW) == ([Event(2.0, ("a", "b"))], "found")
    assert indicators.events(records, now=NOW) == ([Event(1.0, ("c",))], "given")
    assert indicators.events([], now=NOW) == ([], "found")


def test_uses_heat_and_the_last_use() -> None:
    found = indicators.fold([Event(20, ("a",)), Event(10, ("a", "b", "a")), Event(0, ("a",))], half_life_days=10)
    assert found["a"].uses == 3
    assert found["a"].heat == pytest.approx(0.25 + 0.5 + 1)
    assert found["a"].idle_days == 0
    assert (found["b"].uses, found["b"].heat, found["b"].idle_days) == (1, pytest.approx(0.5), 10)
    assert indicators.NEVER.idle_days == math.inf


def test_a_use_in_the_future_is_one_of_now() -> None:
    told, _ = indicators.events([access(-3, "a")], now=NOW)
    assert told == [Event(0.0, ("a",))]


def generated(pick: object, *, days: int = 200, daily: int = 10) -> list[Event]:
    return [
        Event(float(days) - step / daily, (str(pick(step / daily)),))  # type: ignore[operator]
        for step in range(days * daily)
    ]


def test_the_half_life_is_that_of_the_log() -> None:
    chance = random.Random(3)
    steady = generated(lambda day: int(chance.paretovariate(1.0)) % 50)
    fleeting = generated(lambda day: f"{int(day) // 2}-{chance.randrange(4)}")
    assert indicators.half_life_of(steady) == max(HALF_LIVES)
    assert indicators.half_life_of(fleeting) in HALF_LIVES[:2]


def test_a_short_log_has_the_usual_half_life() -> None:
    assert indicators.half_life_of([Event(1.0, ("a",))] * 5) == indicators.USUAL_HALF_LIFE_DAYS
    assert indicators.half_life_of([]) == indicators.USUAL_HALF_LIFE_DAYS


def test_a_log_of_many_years_has_no_number_that_is_too_large() -> None:
    told = [Event(40_000.0 - step, (str(step % 3),)) for step in range(0, 40_000, 10)]
    assert indicators.half_life_of(told) in HALF_LIVES


def test_what_is_used_together() -> None:
    told = [Event(1, ("b", "a", "b")), Event(1, ("a", "b", "c")), Event(1, ("d",))]
    assert indicators.together(told) == {("a", "b"): 2, ("a", "c"): 1, ("b", "c"): 1}
    assert indicators.together([Event(1, tuple("abcdefghijkl"))], most=2) == {("a", "b"): 1}
