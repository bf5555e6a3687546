"""The part of the verb `audit` that runs memory tests: each question asked as anybody would ask it, in each form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from memos_cli.errors import CheckFailed, WrongModel
from memos_cli.infrastructure import vault
from memos_cli.interface import frame
from memos_cli.interface.reader import Call
from memos_cli.operation import memory_tests
from memos_cli.operation.memory_tests import PLAINTEXT, Missed, Question, Scored, Suite

_ANSWERED_WITH = {"answer": "plaintext", "activation": "activation", "parameter": "parameter"}
_LONGEST = 160


class Tested(NamedTuple):
    """What memory tests gave: a score for each form, and what was missed."""

    scores: tuple[Scored, ...]
    missed: tuple[Missed, ...]


def run(
    cube: str | Path,
    suite: Suite,
    *,
    model: str | None = None,
    embedder: str | None = None,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Tested:
    """Asks all questions of a suite, those with evidence first; each is in the access log, as any query is.

    `model` is who answers, by default the suite's own. Raises what `query` and `answer` do.
    """
    scores, missed = [], []
    for form in suite.forms:
        questions = suite.of(form)
        if form == PLAINTEXT:
            told = list(_recalled(cube, questions, embedder=embedder, home=home, notify=notify))
        else:
            who = model or suite.model
            told = list(_answered(cube, questions, form, who, embedder=embedder, home=home, notify=notify))
        scores.append(memory_tests.score(form, suite, [share for share, _ in told]))
        missed += [
            Missed(form, one.label, one.text, memory_tests.expected_of(one, form), found)
            for one, (share, found) in zip(questions, told, strict=True)
            if share < 1
        ]
    return Tested(tuple(scores), tuple(missed))


def _recalled(
    cube: str | Path, questions: Sequence[Question], *, embedder: str | None, home: Path | None,
    notify: frame.Notify | None,
) -> Iterator[tuple[float, str]]:  # fmt: skip
    """Of each question the share of evidence that was found, and what came first."""
    from memos_cli.interface.querying import query_many

    calls = [Call(text=one.text, k=one.k, where=one.where or None) for one in questions]
    for one, found in zip(
        questions, query_many([cube], calls, embedder=embedder, home=home, notify=notify), strict=True
    ):
        first = found.hits[0].text if found.hits else "nothing"
        yield memory_tests.recall(one, found.hits), first[:_LONGEST]


def _answered(
    cube: str | Path, questions: Sequence[Question], form: str, model: str, *, embedder: str | None,
    home: Path | None, notify: frame.Notify | None,
) -> Iterator[tuple[float, str]]:  # fmt: skip
    """Of each question whether it was answered as it must be, and the answer."""
    from memos_cli.interface.answering import answer_many

    left = list(questions)
    while left:
        calls = [Call(text=one.text, where=one.where or None) for one in left]
        stream = answer_many(
            [cube], calls, model=model, form=_ANSWERED_WITH[form], embedder=embedder, home=home, notify=notify
        )
        try:
            while left:
                told = next(stream)
                one = left.pop(0)
                found = told.answer if told.answer is not None else f"no answer ({told.reason})"
                yield float(memory_tests.is_answered(one, told.answer)), found[:_LONGEST]
        except (CheckFailed, WrongModel) as error:
            # a form that cannot serve has not answered; the next question may find other memories
            left.pop(0)
            yield 0.0, error.message[:_LONGEST]


def form_of(form: str) -> str:
    """What `memos query --answer --form` calls the memory that a form of tests is answered with."""
    return _ANSWERED_WITH[form]


def write_baseline(path: Path, scores: Sequence[Scored]) -> Path:
    """Keeps what was reached as what must be reached from now on, beside the tests; returns where."""
    import tomli_w

    place = memory_tests.baseline_path(path)
    table = {"baseline": {score.form: score.share for score in scores}}
    note = f"# What `memos audit --tests {path.name} --update-baseline` found; commit it with the tests.\n"
    vault.write_bytes(place, (note + tomli_w.dumps(table)).encode())
    return place
