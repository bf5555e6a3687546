"""What is asked over the protocol is answered as at the terminal: the table of `shared_questions`, put to both.

Each has a copy of the same home, so that what is remembered and forgotten is so in both.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memos_cli.infrastructure import clients
from tests.conftest import Memos, Start
from tests.interface.mcp.conftest import NOTES
from tests.interface.mcp.talking import environment, inside, over_http, over_pipes, serving, tool, words
from tests.interface.shared_questions import ANSWERED, QUESTIONS, WRONG, Question, same, told

STEPS = [tool(one.tool, **one.arguments) for one in QUESTIONS]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Two named cubes with vectors."""

    def build(memos: Memos) -> None:
        Path("notes.md").write_text(NOTES)
        Path("more.md").write_text("- Eve keeps the spare passport.\n")
        assert memos("ingest", "team", "notes.md").code == 0
        assert memos("ingest", "more", "more.md").code == 0

    return Start.make(tmp_path_factory.mktemp("shared"), cache, build)


@pytest.fixture(scope="module")
def homes(start: Start, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a home that is like the first in all."""

    def make(name: str) -> Path:
        place = tmp_path_factory.mktemp(name)
        (place / "home").mkdir()
        (place / "work").mkdir()
        (place / "home" / "cache").symlink_to(cache)
        start.copy(place / "home", place / "work")
        return place / "home"

    return make


@pytest.fixture(scope="module")
def at_the_terminal(homes: Any) -> dict[str, Any]:
    """What the program answers, run in this process."""
    from tests.conftest import runner

    home = homes("terminal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMOS_HOME", str(home))
        patch.chdir(home.parent / "work")
        memos = runner()
        return {one.name: told(memos(*one.words, "--json", stdin=one.stdin).out, one) for one in QUESTIONS}


@pytest.fixture(scope="module")
def over_the_protocol(homes: Any) -> dict[str, Any]:
    """What the tools answer, over pipes."""
    results = over_pipes(homes("pipes"), *STEPS, words=("--write", "--accept"))
    return {one.name: result.structured_content for one, result in zip(QUESTIONS, results, strict=True)}


@pytest.mark.parametrize("name", [one.name for one in QUESTIONS])
def test_pipes_answer_as_the_terminal_does(
    name: str, at_the_terminal: dict[str, Any], over_the_protocol: dict[str, Any]
) -> None:
    assert same(over_the_protocol[name]) == same(at_the_terminal[name])


@pytest.mark.long
def test_http_answers_as_pipes_do(homes: Any, over_the_protocol: dict[str, Any]) -> None:
    home = homes("http")
    _, key = clients.add(home, clients.bounded("asker", may=("read", "write"), cubes=["*"]))
    with serving(home, "--accept") as url:
        results = over_http(url, key, *STEPS)
    for one, result in zip(QUESTIONS, results, strict=True):
        assert same(result.structured_content) == same(over_the_protocol[one.name]), one.name


@pytest.mark.many(3)
@pytest.mark.parametrize(("question", "code"), WRONG, ids=[one.name for one, _ in WRONG])
def test_what_is_wrong_is_wrong_for_both(
    question: Question, code: int, start: Start, home: Path, work: Path, memos: Memos
) -> None:
    start.copy(home, work)
    (refused,) = inside(home, clients.local(may=("read", "write")), tool(question.tool, **question.arguments))
    done = memos(*question.words, stdin=question.stdin)
    assert (done.code, refused.is_error) == (code, True)
    assert refused.meta["memos/error"]["exit_code"] == code
    # hints name flags at the terminal; the message is the same
    assert words(refused).splitlines()[0] == done.err.splitlines()[0].removeprefix("memos: ")


@pytest.mark.slow
def test_models_and_processes_answer_alike(homes: Any) -> None:
    results = inside(homes("answers"), clients.local(), *(tool(one.tool, **one.arguments) for one in ANSWERED))
    home = homes("asked")
    for one, result in zip(ANSWERED, results, strict=True):
        command = [sys.executable, "-m", "memos_cli", *one.words, "--json"]
        done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=True)
        assert same(result.structured_content) == same(told(done.stdout, one)), one.name
