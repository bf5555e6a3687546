"""The gate over figures of a measurement, and the questions that they are measured with."""

from __future__ import annotations

import math

import pytest

from memos_cli.errors import Usage
from memos_cli.operation.gate import LEAST_KL, Limits, figures, passing, questions, refusal
from memos_cli.runtime.fidelity import Divergence, Fidelity

GOOD = {"kl": 0.05, "noise_kl": 1e-7, "top1": 0.95, "exact": 0.95, "recovered": 0.9}
LIMITS = Limits()


def divergence(kl: float, *, top1: float = 1.0, first: tuple[int | None, ...] = (None,)) -> Divergence:
    return Divergence(kl, 2 * kl, 3 * kl, top1, 1.0, first)


def test_figures_are_those_of_the_measurement_and_of_a_way_by_its_name() -> None:
    found = Fidelity(divergence(0.2, top1=0.75, first=(None, 3)), divergence(1e-8), divergence(0.8), 2, 20)
    told = figures(found)
    assert told["kl"] == 0.2
    assert (told["kl_p95"], told["kl_max"], told["top1"], told["probes"]) == (0.4, 0.6, 0.75, 2.0)
    assert told["recovered"] == pytest.approx(0.75)
    assert told["first"] == 3.0
    assert figures(Fidelity(divergence(0), divergence(0), divergence(0), 1, 1))["first"] == -1.0
    assert figures(found, way="link") == {f"link.{name}": value for name, value in told.items()}
    assert all(float(f"{value:.6g}") == value for value in told.values())


@pytest.mark.parametrize("wrong", [("top1", -0.1), ("top1", 1.01), ("recovered", 1.01), ("top1", math.nan)])
def test_limits_are_shares(wrong: tuple[str, float]) -> None:
    with pytest.raises(Usage, match="shares"):
        Limits(**dict([wrong])).check()
    Limits(top1=0, recovered=-3).check()
    Limits(top1=1, recovered=1).check()


def test_a_good_memory_passes_and_each_figure_can_refuse_it() -> None:
    assert refusal(GOOD, LIMITS) == ""
    assert "0.89 of its tokens" in refusal({**GOOD, "top1": 0.89}, LIMITS)
    assert "0.85 of its answers" in refusal({**GOOD, "exact": 0.85}, LIMITS)
    assert "keeps 0.79" in refusal({**GOOD, "recovered": 0.79}, LIMITS)
    assert refusal({**GOOD, "recovered": 0.79}, Limits(recovered=0.7)) == ""
    assert "the gate is 1" in refusal(GOOD, Limits(recovered=1))


def test_rounding_is_no_loss_whatever_share_of_a_small_ceiling_it_is() -> None:
    rounding = {"kl": LEAST_KL / 2, "noise_kl": 0.0, "top1": 1.0, "exact": 1.0, "recovered": -4.0}
    assert refusal(rounding, LIMITS) == ""
    assert refusal({**rounding, "kl": 0.04, "noise_kl": 0.005}, LIMITS) == ""
    assert "keeps -4.00" in refusal({**rounding, "kl": 0.06, "noise_kl": 0.005}, LIMITS)
    # but not where it changes which tokens are likeliest
    assert "0.50 of its tokens" in refusal({**rounding, "top1": 0.5}, LIMITS)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_what_was_not_measured_is_refused(missing: str) -> None:
    told = {name: value for name, value in GOOD.items() if name != missing}
    assert refusal(told, LIMITS) == "its fidelity was not measured"
    assert refusal(GOOD, LIMITS, way="blend") == "its fidelity was not measured in blend"


def test_the_cheapest_way_that_all_pass() -> None:
    both = {f"{way}.{name}": value for way in ("concat", "link") for name, value in GOOD.items()}
    ways = ("concat", "link", "blend")
    assert passing([both, both], ways, LIMITS) == "concat"
    assert passing([both, {**both, "concat.top1": 0.1}], ways, LIMITS) == "link"
    assert passing([both, GOOD], ways, LIMITS) is None


def test_questions_leave_out_what_the_memory_says() -> None:
    assert questions("Boiler code: 4711") == ["Boiler code: what?"]
    assert questions("Ana moved to Lindau in May.", count=1) == ["Ana moved to Lindau in what?"]
    assert questions("the bins go out", heading="House") == ["What about House?"]
    assert len(questions("Ana moved to Lindau in May.", count=3)) == 3
    for text in ("x", "4711", "漢字", "🐙", "?", "   a   "):
        asked = questions(text, count=3)
        assert asked
        assert all(one.strip() and one == " ".join(one.split()) for one in asked)
