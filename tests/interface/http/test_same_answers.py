"""What is asked over HTTP is answered as at the terminal: the table of `shared_questions`, put to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Memos
from tests.interface.shared_questions import ANSWERED, QUESTIONS, WRONG, Question, same, told

TEXT = "# Team\n\n- Only a release manager may roll back a release.\n- The passport of Ana is in the drawer.\n"
MORE = "- Eve keeps the spare passport.\n"
TOWN = "- The home town of Ana is Lindau.\n"


def put(one: Any, question: Question) -> Any:
    """The question as a request."""
    given = dict(question.arguments)
    cube = given.pop("cube", None)
    if question.tool in ("recall", "answer"):
        given["text"] = given.pop("query", None) or given.pop("question", None)
        verb = {"recall": "query"}.get(question.tool, question.tool)
        return one.post(f"/v1/cubes/{cube}/{verb}", given)
    if question.tool in ("remember", "forget"):
        return one.post(f"/v1/cubes/{cube}/{'memories' if question.tool == 'remember' else 'forget'}", given)
    path = "/v1/cubes" if cube is None else f"/v1/cubes/{cube}/{'audit' if question.tool == 'audit' else 'memories'}"
    return one.get(path, params={name: str(value).lower() if value is True else value for name, value in given.items()})


@pytest.fixture
def both(home: Path, work: Path, memos: Memos, site: Any) -> Any:
    """The cubes of the table, made anew beside those of the site; the program, and a client's requests."""
    with site(at_most="restricted") as one:
        for name in ("team", "diary"):
            (home / "cubes" / f"{name}.cube").rename(work / f"{name}.cube")
        Path("notes.md").write_text(TEXT + TOWN)
        Path("more.md").write_text(MORE)
        assert memos("ingest", "team", "notes.md").code == 0
        assert memos("ingest", "more", "more.md").code == 0
        yield memos, one


# What changes a cube is asked of one side alone, or the other finds it changed.
CHANGING = {"remember", "remember again", "would forget", "forget", "forgotten"}
WOULD_FORGET = Question("would forget", ("forget", "team", "--subject", "Ana", "--dry-run"), "forget",
                        {"cube": "team", "subject": "Ana", "dry_run": True})  # fmt: skip
SAME = (*(one for one in QUESTIONS if one.name not in CHANGING), WOULD_FORGET)


def test_http_answers_as_the_terminal_does(both: Any) -> None:
    memos, one = both
    for question in SAME:
        done = memos(*question.words, "--json", stdin=question.stdin)
        got = put(one, question)
        assert got.status_code == 200, (question.name, got.text)
        assert same(got.json()) == same(told(done.out, question)), question.name


def test_what_is_forgotten_over_http_is_forgotten_at_the_terminal(both: Any) -> None:
    memos, one = both
    done = one.post("/v1/cubes/team/forget", {"subject": "Ana"}).json()
    assert len(done["ids"]) == 2
    assert "Ana" not in memos("query", "team", "passport of Ana").out


@pytest.mark.long
def test_what_is_put_in_twice_is_once_wherever_it_comes_from(both: Any) -> None:
    memos, one = both
    question = next(one for one in QUESTIONS if one.name == "remember")
    first = put(one, question).json()
    assert first["added"] == 2
    again = told(memos(*question.words, "--json", stdin=question.stdin).out, question)
    assert (again["added"], again["kept"]) == (0, 2)
    assert same(again["sources"][0]["uri"]) == first["sources"][0]["uri"]


def test_what_is_wrong_is_wrong_for_both(both: Any) -> None:
    memos, one = both
    for question, code in WRONG:
        done, got = memos(*question.words), put(one, question)
        assert (done.code, got.json()["error"]["code"]) == (code, code), question.name
        assert got.json()["error"]["message"] == done.err.splitlines()[0].removeprefix("memos: ")


@pytest.mark.slow
@pytest.mark.parametrize("question", ANSWERED, ids=lambda one: one.name)
def test_models_answer_alike(question: Question, both: Any) -> None:
    memos, one = both
    done, got = memos(*question.words, "--json"), put(one, question)
    assert same(got.json()) == same(told(done.out, question))
