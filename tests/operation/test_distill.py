"""What can be taught, what must stay, and the gates: with the default model, which reads for real."""

from dataclasses import replace
from pathlib import Path

import pytest

from memos_cli.operation import distill, retention
from memos_cli.operation.answer import line_of
from memos_cli.operation.course import ENOUGH
from memos_cli.operation.distill import DISTILLED, KNOWN, UNTEACHABLE, Gates
from memos_cli.operation.probes import DEV, TEST, TRAIN
from memos_cli.operation.retention import Counts
from memos_cli.operation.tutor import Line
from memos_cli.runtime import adapter
from memos_cli.runtime.train import Turn
from tests.bench.distill import Fact, facts
from tests.operation.taught import teach, tutor

FEW = Counts(reading=6, contrary=6, untaught=12)


def test_what_the_model_reads_and_does_not_know_can_be_taught() -> None:
    (judged,) = distill.triage(tutor(), [Fact("a", "The home town of Ben Oster is Kinsale.")])
    assert judged.standing == DISTILLED
    assert {split: bool(judged.of(split)) for split in (TRAIN, DEV, TEST)} == {TRAIN: True, DEV: True, TEST: True}
    for one in judged.asked:
        assert one.probe.answer in line_of(judged.memory)
        assert tutor().text(one.answer) == one.probe.answer
    assert all(tutor().right([distill.Turn(one.reading, one.answer) for one in judged.asked]))
    assert not any(tutor().right([one.turn for one in judged.asked]))


@pytest.mark.parametrize("text", ["Good morning to all!", "", "It was nice."])
def test_what_holds_no_value_cannot_be_taught(text: str) -> None:
    (judged,) = distill.triage(tutor(), [Fact("a", text)])
    assert judged.standing == UNTEACHABLE
    assert judged.why


def test_a_thorough_training_does_not_end_while_more_questions_are_wrong_than_the_gate_lets_pass() -> None:
    (judged,) = distill.triage(tutor(), [Fact("a", "The home town of Ben Oster is Kinsale.")])
    asked = judged.of(DEV)
    assert len(asked) == 3
    # what is read is known, what is not read is not
    sure = [replace(one, bare=one.reading) for one in asked]
    all_known = replace(judged, asked=tuple(sure))
    two_of_three = replace(judged, asked=(*sure[:2], asked[2]))
    assert distill.known_share(tutor(), [all_known, all_known], thorough=True) == 1.0
    assert distill.known_share(tutor(), [judged], thorough=True) == 0.0
    # most of every memory, and five questions of six
    assert distill.known_share(tutor(), [all_known, two_of_three], thorough=True) == pytest.approx(
        5 / 6 / Gates().recall
    )
    assert distill.known_share(tutor(), [all_known, two_of_three], thorough=True) < ENOUGH
    assert distill.known_share(tutor(), [all_known, two_of_three]) == 1.0


@pytest.mark.long
def test_what_is_known_is_not_taught(tmp_path: Path) -> None:
    told = Fact("a", "The home town of Ben Oster is Kinsale.")
    (unknown,) = distill.triage(tutor(), [told])
    adapter_folder = teach(tmp_path / "a", {one.probe.question: "Kinsale" for one in unknown.asked})
    with adapter.attach(tutor().model.network, [adapter_folder]):
        (judged,) = distill.triage(tutor(), [told])
    assert judged.standing == KNOWN
    assert judged.before > 0.5


def kept(part: str, told: list[Fact]) -> retention.Kept:
    judged = distill.triage(tutor(), told)
    probes = [asked.probe for one in judged for asked in one.asked]
    return retention.kept(tutor(), told, probes, part=part, counts=FEW, seed=0)


@pytest.mark.long
def test_what_must_stay_is_what_the_model_answers_now() -> None:
    found = kept(TRAIN, facts(3, seed=1))
    assert found.generic
    for turns in (found.reading, found.contrary, found.untaught):
        assert turns
        assert all(tutor().right(turns))


@pytest.mark.long
def test_nothing_that_is_examined_was_trained_with() -> None:
    told = facts(3, seed=1)
    trained, tested = kept(TRAIN, told), kept(TEST, told)
    for name in ("generic", "reading", "contrary", "untaught"):
        assert set(getattr(trained, name)).isdisjoint(getattr(tested, name)), name


def test_a_contrary_text_wants_another_answer_than_the_memory() -> None:
    told = facts(2, seed=2)
    answers = {tutor().text(turn.answer) for turn in kept(TRAIN, told).contrary}
    assert answers
    assert not any(answer in one.text for answer in answers for one in told)


@pytest.mark.parametrize(
    ("figure", "value"),
    [("recall", 0.89), ("drift", 0.021), ("reading", 0.011), ("obey", 0.94), ("asserts", 0.051), ("beneath", 0.051)],
)
def test_each_gate_says_what_is_missing(figure: str, value: float) -> None:
    fine = {"recall": 0.95, "drift": -0.1, "reading": 0.0, "obey": 1.0, "asserts": 0.01}
    assert Gates().failures(fine) == Gates().failures({**fine, "beneath": 0.05}) == []
    (failure,) = Gates().failures({**fine, figure: value})
    assert f"{value:.3f}" in failure
    assert "gate" in failure


@pytest.mark.long
def test_what_lies_beneath_is_rehearsed_and_examined_where_the_model_answers_it() -> None:
    told = facts(2, seed=3)
    asked = [(tutor().reading("What is the home town of Ada?", [Line("The home town of Ada is Bray.")]), "Bray")]
    wrong = [(tutor().bare("What is the home town of Ada?"), "Bray")]
    found = retention.kept(tutor(), told, [], part=TEST, counts=FEW, seed=0, beneath=asked + wrong)
    assert [turn.prompt for turn in found.beneath] == [asked[0][0]]
    figures = distill.examine(tutor(), distill.exam(tutor(), [], found)).figures
    assert figures["beneath"] == 0
    other = replace(found, beneath=(Turn(wrong[0][0], tutor().coded("Bray")),))
    assert distill.examine(tutor(), distill.exam(tutor(), [], other)).figures["beneath"] == 1
    assert "beneath" not in distill.examine(tutor(), distill.exam(tutor(), [], kept(TEST, told))).figures


@pytest.mark.long
def test_a_base_that_was_taught_nothing_fails_by_recall_alone() -> None:
    told = facts(3, seed=3)
    judged = [one for one in distill.triage(tutor(), told) if one.standing == DISTILLED]
    found = distill.examine(tutor(), distill.exam(tutor(), judged, kept(TEST, told))).figures
    assert found["recall"] == 0
    assert [failure.split()[0] for failure in Gates().failures(found)] == ["recall"]


@pytest.mark.long
def test_a_teacher_that_reads_a_cache_finds_likely_what_one_that_reads_text_does(tmp_path: Path) -> None:
    from memos_cli.operation.activate import Activations
    from memos_cli.operation.convert import Converter, Way
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import NANO

    (judged,) = distill.triage(tutor(), [Fact("a", "The home town of Ben Oster is Kinsale.")])
    made_with = fingerprint(tutor().model, NANO, cache=tmp_path / "cache")
    converter = Converter(tutor().model, tutor().traits, made_with, Way(), "2026-01-01T00:00:00Z")
    item = converter.item(judged.memory)
    assert not isinstance(item, str)
    converter.make(tmp_path / "activation", item)
    reader, asked = Activations(tutor().model, made_with), judged.of(TEST)
    stored = distill.stored_rows(tutor(), reader, {"a": judged.memory}, tmp_path / "activation", asked)
    read = tutor().rows([distill.Turn(one.reading, one.answer) for one in asked])
    for one, other in zip(stored, read, strict=True):
        assert (one.exp() - other.exp()).abs().max() < 1e-3
