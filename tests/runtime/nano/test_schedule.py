"""What is trained when, in numbers."""

from __future__ import annotations

import pytest

from memos_cli.runtime.nano.train.schedule import RUNS, stage


@pytest.mark.parametrize("name", RUNS)
def test_the_rate_comes_down_to_the_end_of_each_fall(name: str) -> None:
    run = RUNS[name]
    for end in run.falls:
        assert stage(run, end - 1, step=10_000).rate == pytest.approx(0.03 * run.rate, rel=0.01)
        assert name == "smoke" or stage(run, end - 1, step=10_000).guide == 0.0
    assert run.tokens == max(run.falls)


def test_behind_a_fall_the_rate_is_up_again_and_guidance_begins_anew() -> None:
    run = RUNS["cpu"]
    first, _ = run.falls
    assert stage(run, first, step=10_000).rate > 20 * stage(run, first - 1, step=10_000).rate
    assert stage(run, first, step=10_000).guide > 0.0


def test_facts_grow_from_few_to_many() -> None:
    run = RUNS["cpu"]
    most = [stage(run, seen, step=10_000).most_facts for seen in range(0, run.tokens, 500_000)]
    assert most == sorted(most)
    assert (most[0], most[-1]) == (3, 32)
