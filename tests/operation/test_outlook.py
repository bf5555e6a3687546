"""What a log says of what will be used: which lengths of time it is foretold by, and that a short log says little."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from memos_cli.operation import outlook, traces
from memos_cli.operation.indicators import HALF_LIVES, Event
from memos_cli.operation.outlook import USUAL, Learner, outlook_of


def generated(pick: Callable[[float], str], *, days: int = 100, daily: int = 10) -> list[Event]:
    return [Event(days - step / daily, (pick(step / daily),)) for step in range(days * daily)]


def test_each_log_is_foretold_by_what_it_is_made_of() -> None:
    chance = random.Random(3)
    steady = outlook_of(generated(lambda _: str(int(chance.paretovariate(1.0)) % 50)))
    fleeting = outlook_of(generated(lambda day: f"{int(day) // 2}-{chance.randrange(4)}"))
    even = outlook_of(generated(lambda _: str(chance.randrange(30))))
    long = HALF_LIVES.index(30.0)
    assert sum(steady.shares[long:]) > 0.7
    assert sum(fleeting.shares[:2]) > 0.5
    assert sum(fleeting.shares[long:]) < 0.1
    assert even.even > 0.6
    for one in (steady, fleeting, even):
        assert sum(one.shares) + one.even == pytest.approx(1)


def test_a_short_log_says_little() -> None:
    for told in ([], [Event(1.0, ("a",))], [Event(1.0, ("a", "b"))] * 2):
        found = outlook_of(told)
        assert (found.even, *found.shares) == pytest.approx(USUAL, abs=0.25)
    assert outlook_of([]).usual_a_day == 0
    # one use in an hour is not twenty-four a day
    assert outlook_of([Event(0.04, ("a",))]).usual_a_day == pytest.approx(1 / outlook.LEAST_LOG_DAYS / 2)


def test_what_is_usual_is_what_all_have_on_the_mean() -> None:
    told = generated(lambda day: str(int(day * 10) % 9))
    assert outlook_of(told).usual_a_day * 10 == pytest.approx(10, rel=0.01)


def test_heat_fades_and_what_was_never_used_has_none() -> None:
    learner = Learner()
    learner.see(("a", "b", "a"), 0.0)
    learner.see(("a",), 3.0)
    assert learner.heat_of("a", 3.0)[HALF_LIVES.index(3.0)] == pytest.approx(1.5)
    assert learner.heat_of("b", 6.0)[HALF_LIVES.index(3.0)] == pytest.approx(0.25)
    assert learner.heat_of("c", 6.0) == (0.0,) * len(HALF_LIVES)


def test_learning_goes_on_from_what_was_learned() -> None:
    told = traces.generate(traces.BURSTS, [f"m{number}" for number in range(20)], requests=600)
    learner = Learner()
    for event in told:
        learner.see(event.ids, told[0].age_days - event.age_days)
    for _ in range(10):
        found = learner.outlook(60.0, rounds=6)
    assert found.shares == pytest.approx(learner.outlook(60.0, rounds=0).shares)
    assert found.shares == pytest.approx(outlook_of(told).shares, abs=0.02)


def test_a_log_of_many_years_is_looked_at_too() -> None:
    told = [Event(40_000.0 - step, (str(step % 3),)) for step in range(0, 40_000, 10)]
    found = outlook_of(told)
    assert sum(found.shares) + found.even == pytest.approx(1)
