"""Memory tests as a file says them: what is read, what counts as found and answered, and what falls short."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, NotFound, Usage
from memos_cli.operation import memory_tests
from memos_cli.operation.memory_tests import Evidence, Suite


@dataclass(frozen=True)
class Hit:
    id: str = "0a1b2c"
    source: str = "docs/release-process.md"
    text: str = "Whoever is on call may roll back a release."


def suite(text: str) -> Suite:
    return memory_tests.parse(tomllib.loads(text), where="t.toml")


FILE = """
k = 3
model = "nano"
drop = 0.05

[[test]]
name = "rollback"
question = "who may roll back a release?"
evidence = ["on call", {source = "release-process.md"}]
answer = ["whoever is on call", "the on-call engineer"]

[[test]]
question = "what is the moon made of?"
answer = false
k = 7
where = "type=fact"

[baseline]
plaintext = 0.9
"""


def test_a_file_is_read() -> None:
    found = suite(FILE)
    assert found.forms == ("plaintext", "answer")
    assert (found.model, found.drop, found.baseline) == ("nano", 0.05, {"plaintext": 0.9})
    first, second = found.questions
    assert (first.label, first.k, second.label, second.k, second.where) == (
        "rollback", 3, "what is the moon made of?", 7, "type=fact",
    )  # fmt: skip
    assert first.evidence == (Evidence(text="on call"), Evidence(source="release-process.md"))
    assert second.answers == ()
    assert [one.label for one in found.of("plaintext")] == ["rollback"]
    assert len(found.of("answer")) == len(found.of("activation")) == 2


def test_activation_runs_when_it_is_asked_for_or_has_a_baseline() -> None:
    test = '[[test]]\nquestion = "q"\nanswer = "a"\n'
    assert suite(test).forms == ("answer",)
    assert suite(f'forms = ["activation"]\n{test}').forms == ("activation",)
    assert suite(f"{test}[baseline]\nactivation = 1").forms == ("answer", "activation")
    assert suite(f"{test}[baseline]\nparameter = 0.5").forms == ("answer", "parameter")


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(text="On-Call, may ROLL back"), True),
        (Evidence(text="oncall"), False),
        (Evidence(source="release-process.md"), True),
        (Evidence(source="docs/*.md"), True),
        (Evidence(source="process.md"), False),
        (Evidence(id="0a1b"), True),
        (Evidence(id="1b"), False),
        (Evidence(id="0a1b", source="other.md"), False),
    ],
)
def test_evidence_is_looked_for(evidence: Evidence, expected: bool) -> None:
    assert evidence.is_in([Hit(id="zz", text="else", source="x.txt"), Hit()]) is expected
    assert not evidence.is_in([])


def test_recall_is_the_share_of_evidence_among_the_first_k() -> None:
    (question,) = suite('k = 2\n[[test]]\nquestion = "q"\nevidence = ["one", "two"]').questions
    hits = [Hit(text="one"), Hit(text="three"), Hit(text="two")]
    assert memory_tests.recall(question, hits) == 0.5
    assert memory_tests.recall(question, hits[1:]) == 0.5
    assert memory_tests.recall(question, []) == 0


@pytest.mark.parametrize(
    ("expected", "answer", "passes"),
    [
        ('"4711"', "The code is 4711.", True),
        ('"4711"', "47112", False),
        ('"4711"', None, False),
        ('["a", "Ana Lind"]', "ana lind", True),
        ("false", None, True),
        ("false", "green cheese", False),
    ],
)
def test_an_answer_is_compared_by_its_words(expected: str, answer: str | None, passes: bool) -> None:
    (question,) = suite(f'[[test]]\nquestion = "q"\nanswer = {expected}').questions
    assert memory_tests.is_answered(question, answer) is passes


@pytest.mark.parametrize(
    ("baseline", "drop", "shares", "passed"),
    [
        ("", 0, [1, 1], True), ("", 0, [1, 0.5], False), ("plaintext = 0.75", 0, [1, 0.5], True),
        ("plaintext = 0.76", 0, [1, 0.5], False), ("plaintext = 0.8", 0.05, [1, 0.5], True),
        ("plaintext = 0.6667", 0, [1, 1, 0], True), ("plaintext = 0", 0, [0], True),
    ],
)  # fmt: skip
def test_a_form_passes_when_it_reaches_its_baseline(
    baseline: str, drop: float, shares: list[float], passed: bool
) -> None:
    found = suite(f'drop = {drop}\n[[test]]\nquestion = "q"\nevidence = ["e"]\n[baseline]\n{baseline}')
    score = memory_tests.score("plaintext", found, shares)
    assert (score.passed, score.questions) == (passed, len(shares))


def test_a_baseline_beside_the_file_wins(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(FILE)
    (tmp_path / "t.baseline.toml").write_text("[baseline]\nplaintext = 0.5\nanswer = 1\n")
    assert memory_tests.load(tmp_path / "t.toml").baseline == {"plaintext": 0.5, "answer": 1.0}


TEST = {"question": "q", "evidence": ["e"]}


@pytest.mark.parametrize(
    "table",
    [
        {}, {"test": []}, {"test": {}}, {"test": ["q"]}, {"tests": [TEST]},
        {"test": [{"question": "q"}]}, {"test": [{"question": " ", "answer": "a"}]}, {"test": [{"evidence": ["e"]}]},
        {"test": [{**TEST, "k": 0}]}, {"test": [{**TEST, "k": True}]}, {"test": [{**TEST, "k": 2000}]},
        {"test": [{**TEST, "answer": 3}]}, {"test": [{**TEST, "answer": []}]}, {"test": [{**TEST, "answer": "..."}]},
        {"test": [{**TEST, "answer": [1]}]}, {"test": [{**TEST, "expect": "x"}]},
        {"test": [{**TEST, "evidence": [{}]}]},
        {"test": [{**TEST, "evidence": [""]}]}, {"test": [{**TEST, "evidence": [3]}]},
        {"test": [{**TEST, "evidence": [{"page": "1"}]}]}, {"test": [{**TEST, "evidence": [{"id": 1}]}]},
        {"test": [TEST], "forms": ["lora"]}, {"test": [TEST], "forms": ["answer"]}, {"test": [TEST], "drop": 2},
        {"test": [TEST], "drop": "x"}, {"test": [TEST], "baseline": {"plaintext": 2}}, {"test": [TEST], "k": "x"},
        {"test": [TEST], "baseline": {"plaintext": True}}, {"test": [TEST], "baseline": {"lora": 0.5}},
        {"test": [TEST], "model": 5},
    ],
)  # fmt: skip
def test_what_is_off_is_refused_by_name(table: dict[str, Any]) -> None:
    with pytest.raises(Usage, match=r"t\.toml"):
        memory_tests.parse(table, where="t.toml")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        memory_tests.load(tmp_path / "none.toml")
    (tmp_path / "t.toml").write_text("[[test")
    with pytest.raises(Damaged):
        memory_tests.load(tmp_path / "t.toml")
    (tmp_path / "t.toml").write_text(FILE)
    (tmp_path / "t.baseline.toml").write_text("baseline = 3\n")
    with pytest.raises(Usage, match=r"t\.baseline\.toml"):
        memory_tests.load(tmp_path / "t.toml")
