"""The scheduler and its policies: what is wanted, for whom the room is, and that nothing comes and goes."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from memos_cli.errors import Usage
from memos_cli.operation import indicators, policies
from memos_cli.operation.indicators import Event
from memos_cli.operation.outlook import Outlook
from memos_cli.operation.policies import POLICIES, Policy, Price, Setting, Standing
from memos_cli.operation.schedule import Budget, Candidate, Choice, choose

PRICE = Price(bytes=1000, write_seconds=1.0, plain_seconds=0.3, read_seconds=0.1)
SETTING = Setting(half_life_days=30, horizon_days=30, rent=0)


def standing(**more: Any) -> Standing:
    known = {"uses": 0, "heat": 0.0, "warmth": 0.0, "idle_days": math.inf, "similarity": 0.0, "held": False}
    return Standing(**{**known, "price": PRICE, **more})


def candidate(identity: str, *, priority: int = 0, fixed: str = "", stay_days: float = 9.0, **more: Any) -> Candidate:
    return Candidate("a.cube", identity, standing(**more), priority, fixed, stay_days)


def verdicts(choices: list[Choice]) -> dict[str, str]:
    return {one.candidate.id: one.verdict for one in choices}


def used(heat: float, **more: Any) -> dict[str, Any]:
    return {"uses": math.ceil(heat), "heat": heat, "warmth": heat, "idle_days": 0.5, "similarity": 0.9, **more}


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_takes_what_is_used_much_and_leaves_what_is_not(name: str) -> None:
    found = choose([candidate("hot", **used(40)), candidate("never")], POLICIES[name], SETTING)
    assert verdicts(found) == {"hot": "promote", "never": "leave"}
    found = choose([candidate("hot", held=True, **used(40)), candidate("never", held=True)], POLICIES[name], SETTING)
    assert verdicts(found) == {"hot": "keep", "never": "demote"}


@pytest.mark.parametrize("name", POLICIES)
def test_a_score_shows_how_it_was_reached(name: str) -> None:
    score = POLICIES[name](standing(**used(3)), SETTING)
    assert len(score.terms) >= 2
    assert all(term.name for term in score.terms)


def test_the_cost_policy_is_the_sum_of_its_terms() -> None:
    setting = Setting(half_life_days=30, log_days=30, horizon_days=30, rent=2.0)
    large = replace(PRICE, bytes=10**9)
    for held in (False, True):
        score = policies.cost(standing(held=held, price=large, **used(100)), setting)
        terms = {term.name: term.value for term in score.terms}
        assert terms["uses to come"] == pytest.approx(100)
        assert terms["saved in all"] == pytest.approx(20)
        assert terms["less the rent of its place"] == pytest.approx(60)
        assert score.value == pytest.approx(20 - 60 + (0.5 if held else -1.1))


def test_uses_to_come_are_those_a_day_as_far_as_the_log_tells() -> None:
    # one use a day, for so many days, under each half-life: as many are to come in 30 days, if interest stays as it is
    for half_life in (30.0, 365.0, 1e6):
        for days in (30, 120):
            heat = sum(0.5 ** (age / half_life) for age in range(days))
            setting = Setting(half_life_days=half_life, log_days=float(days))
            known = 30 * (1 - 0.5 ** (30 / half_life)) / (30 / half_life * math.log(2))
            assert policies.uses_to_come(standing(heat=heat), setting) == pytest.approx(known, rel=0.03)
    # a log of an hour is not taken to go on like that for a month
    assert policies.uses_to_come(standing(heat=5.0), Setting(half_life_days=1e6, log_days=0.04)) == pytest.approx(
        15, rel=0.01
    )


def test_uses_to_come_are_foretold_in_several_ways_at_once() -> None:
    heats = (4.0, 0.0, 0.0, 0.0, 0.0, 8.0)
    shares = (0.5, 0.0, 0.0, 0.0, 0.0, 0.25)
    setting = Setting(log_days=30, outlook=Outlook(shares, even=0.25, usual_a_day=0.1))
    found = policies.guesses(standing(uses=9, heats=heats), setting)
    assert [one.share for one in found] == [*shares, 0.25]
    day, year, any_other = found[0].uses, found[5].uses, found[6].uses
    # half of what is used follows from a heat of a day: of 4, 2 uses, and what follows from those
    assert 2 < day < 2 / (1 - 0.75)
    # of 8 uses in the 30 days of the log a quarter goes on for 30 days more, growing less a little
    assert 2 * 0.97 < year < 2 / (1 - 0.75)
    assert 0.25 * 0.1 * 30 < any_other < 0.25 * 0.1 * 30 / (1 - 0.75)
    assert policies.uses_to_come(standing(uses=9, heats=heats), setting) == pytest.approx(day + year + any_other)
    # of a memory that was used long ago the chance is left, and nothing is foretold of one that never was
    assert policies.uses_to_come(standing(uses=1), setting) == pytest.approx(any_other)
    assert policies.uses_to_come(standing(), setting) == 0
    # without interest there is no chain
    bare = replace(setting, outlook=Outlook((0.0,) * 6, even=1.0, usual_a_day=0.1))
    assert policies.uses_to_come(standing(uses=9, heats=heats), bare) == pytest.approx(3)


def test_what_is_read_as_fast_is_never_made() -> None:
    slow = replace(PRICE, read_seconds=0.3)
    assert policies.cost(standing(price=slow, **used(1e6)), SETTING).value < 0


def test_priority_comes_before_value_when_there_is_too_little_room() -> None:
    every = [
        candidate("low and hot", **used(90)), candidate("low", **used(50)), candidate("high", priority=5, **used(20)),
    ]  # fmt: skip
    for name in ("cost", "lfu", "decay"):
        found = verdicts(choose(every, POLICIES[name], SETTING, budget=Budget(bytes=2000)))
        assert found == {"high": "promote", "low and hot": "promote", "low": "leave"}, name


def test_what_is_least_goes_first_when_the_room_shrinks() -> None:
    every = [candidate(f"m{heat}", held=True, **used(heat)) for heat in (30, 60, 90)]
    found = verdicts(choose(every, policies.cost, SETTING, budget=Budget(bytes=2000)))
    assert found == {"m90": "keep", "m60": "keep", "m30": "demote"}
    assert set(verdicts(choose(every, policies.cost, SETTING, budget=Budget(bytes=0))).values()) == {"demote"}


def test_what_is_for_other_models_takes_room_too() -> None:
    found = choose([candidate("a", **used(90))], policies.cost, SETTING, budget=Budget(bytes=2000, taken_bytes=1500))
    assert verdicts(found) == {"a": "leave"}


def test_seconds_are_a_budget_of_what_is_made() -> None:
    every = [candidate("kept", held=True, **used(30)), candidate("b", **used(90)), candidate("c", **used(60))]
    found = verdicts(choose(every, policies.cost, SETTING, budget=Budget(seconds=1.5)))
    assert found == {"kept": "keep", "b": "promote", "c": "leave"}


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_fixed_never_moves(name: str) -> None:
    every = [candidate("hot", fixed="it is frozen", **used(90)), candidate("cold", held=True, fixed="it is frozen")]
    found = choose(every, POLICIES[name], SETTING, budget=Budget(bytes=0))
    assert verdicts(found) == {"hot": "leave", "cold": "keep"}
    assert {one.why for one in found} == {"it is frozen"}


def test_what_has_just_come_stays_unless_there_is_no_room() -> None:
    fresh = candidate("fresh", held=True, stay_days=0.2)
    assert verdicts(choose([fresh], policies.cost, SETTING)) == {"fresh": "keep"}
    assert verdicts(choose([fresh], policies.cost, SETTING, budget=Budget(bytes=10))) == {"fresh": "demote"}


def moves_over(policy: Policy, events: list[Event], *, days: int, budget: Budget) -> int:
    """How often anything moves when a plan is made and carried out every day."""
    held: dict[str, int] = {}
    moved = 0
    for day in range(days):
        until = [Event(day - one.age_days, one.ids) for one in events if one.age_days <= day]
        hot = indicators.fold(until, half_life_days=30.0)
        warm = indicators.fold(until, half_life_days=7.0)
        every = [
            candidate(
                one, stay_days=day - held.get(one, day), uses=said.uses, heat=said.heat, warmth=warm[one].heat,
                idle_days=said.idle_days, similarity=0.5, held=one in held,
            )
            for one, said in hot.items()
        ]  # fmt: skip
        for choice in choose(every, policy, SETTING, budget=budget):
            if choice.verdict == "promote":
                held[choice.candidate.id] = day
                moved += 1
            elif choice.verdict == "demote":
                del held[choice.candidate.id]
                moved += 1
    return moved


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_comes_and_goes_when_use_alternates(name: str) -> None:
    # two memories, used in turn, a few days each, with room for one of them
    told = [Event(float(day), ("a" if day // 3 % 2 else "b",)) for day in range(120)]
    assert moves_over(POLICIES[name], told, days=120, budget=Budget(bytes=1500)) <= 4


def test_without_a_margin_it_would_come_and_go() -> None:
    told = [Event(float(day), ("a" if day // 3 % 2 else "b",)) for day in range(120)]
    bare: Policy = lambda one, setting: policies.decay(one, replace(setting, stickiness=0.0))  # noqa: E731
    assert moves_over(bare, told, days=120, budget=Budget(bytes=1500)) > 10


def test_a_policy_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = EntryPoint("mine", f"{__name__}:everything", policies.ENTRY_POINT)
    broken = EntryPoint("broken", f"{__name__}:nothing_of_that_kind", policies.ENTRY_POINT)
    number = EntryPoint("number", f"{__name__}:NUMBER", policies.ENTRY_POINT)
    monkeypatch.setattr(policies, "entry_points", lambda group: EntryPoints([mine, broken, number]))
    assert verdicts(choose([candidate("a")], policies.policy_of("mine"), SETTING)) == {"a": "promote"}
    for name, match in (("none", "lru.*mine"), ("broken", "cannot be loaded"), ("number", "expected a function")):
        with pytest.raises(Usage, match=match):
            policies.policy_of(name)


NUMBER = 7


def everything(one: Standing, setting: Setting) -> policies.Score:
    """A policy that wants all there is."""
    return policies.Score(1.0, 1.0, (policies.Term("wanted", 1.0, ""),))
