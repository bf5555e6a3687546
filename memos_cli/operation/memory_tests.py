"""Memory tests: questions with the evidence or the answer that a cube must give, and the share that it must reach.

A file of TOML, documented in docs/reference/memory-tests.md. Pure: what was found and answered comes in as values, and
what comes out says how many questions passed in each form, which did not, and whether that is below the baseline.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from memos_cli.cube.toml import read_toml
from memos_cli.errors import Usage

PLAINTEXT, ANSWER, ACTIVATION, PARAMETER = "plaintext", "answer", "activation", "parameter"
FORMS = (PLAINTEXT, ANSWER, ACTIVATION, PARAMETER)
# What a cube may have or not, and so is tested only when that is asked for.
_DERIVED = (ACTIVATION, PARAMETER)
K = 5
# Shares are compared with so much slack, for a baseline is written with so many digits.
DIGITS = 4
_TOP = {"k": int, "model": str, "forms": list, "drop": (int, float), "baseline": dict, "test": list}
_TEST = {"name": str, "question": str, "evidence": list, "answer": (str, list, bool), "where": str, "k": int}
_EVIDENCE = ("id", "source", "text")


class Found(Protocol):
    """A memory that a query found, as evidence is looked for in it."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one of the memories found must be: its id, or the start of it; its source, with * and ?; words it says."""

    id: str = ""
    source: str = ""
    text: str = ""

    def is_in(self, hits: Sequence[Found]) -> bool:
        """Whether one of these memories is all that is asked for."""
        return any(self._is(hit) for hit in hits)

    def _is(self, hit: Found) -> bool:
        return (
            hit.id.startswith(self.id)
            and (not self.source or _is_source(hit.source, self.source))
            and plain(self.text) in plain(hit.text)
        )


@dataclass(frozen=True, slots=True)
class Question:
    """One test. `answers` are texts of which one must be in the answer; None where any will do, () where there must
    be none."""

    name: str
    text: str
    evidence: tuple[Evidence, ...]
    answers: tuple[str, ...] | None
    where: str
    k: int

    @property
    def label(self) -> str:
        """What it is called in a report."""
        return self.name or self.text


@dataclass(frozen=True, slots=True)
class Suite:
    """A file of tests: in which forms they run, with which model, and what each form must reach."""

    questions: tuple[Question, ...]
    forms: tuple[str, ...]
    model: str
    drop: float
    baseline: Mapping[str, float]

    def of(self, form: str) -> tuple[Question, ...]:
        """The questions that test a form."""
        if form == PLAINTEXT:
            return tuple(question for question in self.questions if question.evidence)
        return tuple(question for question in self.questions if question.answers is not None)


@dataclass(frozen=True, slots=True)
class Scored:
    """How a form did: the share of evidence found among the first k, or of questions answered as they must be.

    `baseline` is what it must reach, and `passed` whether it did.
    """

    form: str
    questions: int
    share: float
    baseline: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Missed:
    """A question that a form did not pass: what was expected, and what was found instead."""

    form: str
    name: str
    question: str
    expected: str
    found: str


def load(path: Path) -> Suite:
    """The tests in a file, with the baseline beside it if there is one. Raises NotFound, Damaged, Usage."""
    suite = parse(read_toml(path), where=str(path))
    beside = baseline_path(path)
    if beside.exists():
        told = _baseline(read_toml(beside).get("baseline", {}), f"{beside}: baseline")
        return Suite(suite.questions, suite.forms, suite.model, suite.drop, {**suite.baseline, **told})
    return suite


def baseline_path(path: Path) -> Path:
    """Where a baseline is written: beside the tests, whose own text is a person's."""
    return path.with_name(f"{path.stem}.baseline.toml")


def parse(table: dict[str, Any], *, where: str) -> Suite:
    """The tests in a parsed file."""
    _check(table, _TOP, where)
    tests = table.get("test", [])
    if not tests or not all(isinstance(test, dict) for test in tests):
        raise Usage(f"{where}: expected tests, each a [[test]] with a question, found none", hint=_HINT)
    k = _positive(table.get("k", K), f"{where}: k")
    questions = tuple(_question(test, k, f"{where}: test {number}") for number, test in enumerate(tests, 1))
    drop = float(table.get("drop", 0.0))
    if not 0 <= drop <= 1:
        raise Usage(f"{where}: drop: expected a share from 0 to 1, found {drop:g}")
    baseline = _baseline(table.get("baseline", {}), f"{where}: baseline")
    return Suite(questions, _forms(table, questions, baseline, where), str(table.get("model", "nano")), drop, baseline)


def score(form: str, suite: Suite, shares: Sequence[float]) -> Scored:
    """What a form reached, and what it must: its baseline less the drop that is allowed, or all without one."""
    share = round(sum(shares) / len(shares), DIGITS)
    baseline = suite.baseline.get(form, 1.0)
    return Scored(form, len(shares), share, baseline, share >= round(baseline - suite.drop, DIGITS))


def recall(question: Question, hits: Sequence[Found]) -> float:
    """The share of a question's evidence that is among its first k memories."""
    return sum(one.is_in(hits[: question.k]) for one in question.evidence) / len(question.evidence)


def is_answered(question: Question, answer: str | None) -> bool:
    """Whether an answer is one that the question must have; () asks that there be none."""
    if not question.answers:
        return answer is None
    return answer is not None and any(f" {plain(each)} " in f" {plain(answer)} " for each in question.answers)


def expected_of(question: Question, form: str) -> str:
    """In words, what a form must find or answer."""
    if form == PLAINTEXT:
        return "; ".join(
            " and ".join(f"{name} {getattr(one, name)!r}" for name in _EVIDENCE if getattr(one, name))
            for one in question.evidence
        )
    return " or ".join(map(repr, question.answers)) if question.answers else "no answer"


def plain(text: str) -> str:
    """Words alone, in small letters."""
    return " ".join(re.findall(r"\w+", text.casefold()))


_HINT = "docs/reference/memory-tests.md"


def _check(table: dict[str, Any], kinds: Mapping[str, Any], where: str) -> None:
    for name, value in table.items():
        if name not in kinds:
            raise Usage(f"{where}: expected {', '.join(kinds)}, found {name!r:.80}", hint=_HINT)
        wanted = kinds[name] if isinstance(kinds[name], tuple) else (kinds[name],)
        # bool is an int to Python, not to a reader of the file
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise Usage(f"{where}: {name}: expected {names}, found {value!r:.80}", hint=_HINT)


def _question(test: dict[str, Any], k: int, where: str) -> Question:
    _check(test, _TEST, where)
    text = str(test.get("question", "")).strip()
    evidence = tuple(_evidence(one, where) for one in test.get("evidence", []))
    if not text or not (evidence or "answer" in test):
        raise Usage(f"{where}: expected a question with evidence or an answer", hint=_HINT)
    return Question(
        name=str(test.get("name", "")), text=text, evidence=evidence, answers=_answers(test, where),
        where=str(test.get("where", "")), k=_positive(test.get("k", k), f"{where}: k"),
    )  # fmt: skip


def _evidence(one: Any, where: str) -> Evidence:
    if isinstance(one, str):
        one = {"text": one}
    if not isinstance(one, dict) or not one:
        raise Usage(f"{where}: evidence: expected a text, or some of {', '.join(_EVIDENCE)}", hint=_HINT)
    _check(one, dict.fromkeys(_EVIDENCE, str), f"{where}: evidence")
    if not all(one.values()) or ("text" in one and not plain(one["text"])):
        raise Usage(f"{where}: evidence: expected words, found none", hint=_HINT)
    return Evidence(**one)


def _answers(test: dict[str, Any], where: str) -> tuple[str, ...] | None:
    told = test.get("answer")
    if told is None or told is False:
        return () if told is False else None
    answers = tuple(told) if isinstance(told, list) else (told,)
    if not answers or not all(isinstance(each, str) and plain(each) for each in answers):
        raise Usage(f"{where}: answer: expected a text, texts of which one will do, or false for none", hint=_HINT)
    return answers


def _forms(
    table: dict[str, Any], questions: Sequence[Question], baseline: Mapping[str, float], where: str
) -> tuple[str, ...]:
    able = dict.fromkeys(FORMS, any(question.answers is not None for question in questions))
    able[PLAINTEXT] = any(question.evidence for question in questions)
    asked = table.get("forms")
    if asked is None:
        return tuple(form for form in FORMS if able[form] and (form not in _DERIVED or form in baseline))
    for form in asked:
        if form not in FORMS:
            raise Usage(f"{where}: forms: expected some of {', '.join(FORMS)}, found {form!r:.80}", hint=_HINT)
        if not able[form]:
            what = "evidence" if form == PLAINTEXT else "an answer"
            raise Usage(f"{where}: forms: {form} is tested by questions with {what}, found none", hint=_HINT)
    return tuple(dict.fromkeys(asked))


def _baseline(told: Any, where: str) -> dict[str, float]:
    if not isinstance(told, dict):
        raise Usage(f"{where}: expected a table, found {told!r:.80}", hint=_HINT)
    for form, share in told.items():
        is_share = isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1
        if form not in FORMS or not is_share:
            raise Usage(f"{where}: expected shares from 0 to 1 of {', '.join(FORMS)}, found {form} {share!r:.40}")
    return {form: float(share) for form, share in told.items()}


def _positive(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
        raise Usage(f"{where}: expected a number from 1 to 1000, found {value!r:.80}", hint=_HINT)
    return value


def _is_source(source: str, wanted: str) -> bool:
    """Whether a source is the one that is meant: the same, one of a pattern, or one whose path ends so."""
    return fnmatch.fnmatchcase(source, wanted) or source.endswith(f"/{wanted}")
