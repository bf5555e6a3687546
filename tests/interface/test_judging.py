"""`memos tidy --judge`: a model at a server, one on this machine, and a function; what goes where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memos_cli.interface import api
from memos_cli.operation.judging import Note
from tests.conftest import Memos
from tests.runtime.decoders import save_reciting
from tests.runtime.server import Handler, Server, serving

ONE, OTHER = "Owner is Ana.", "Owner is Ana"


def same(handler: Handler) -> None:
    handler.say("SAME")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(same) as started:
        yield started


@pytest.fixture
def cube(work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("MEMOS_API_KEY", "OPENAI_API_KEY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    (work / "a.md").write_text(f"# Billing\n\n- {ONE}\n\n# Search\n\n- {OTHER}\n")
    assert memos("ingest", "me.cube", "a.md", "--embedder", "none").code == 0
    return "me.cube"


def test_a_server_decides_what_rules_leave_open(cube: str, memos: Memos, server: Server) -> None:
    assert api.tidy(cube).merges == ()
    flags = ["--judge", "m", "--judge-url", server.url]
    done = memos("tidy", cube, *flags)
    assert done.code == 0, done.err
    assert "a judge says so" in done.out
    assert "1 pairs were judged by m" in done.err or "1 pair was judged by m" in done.err
    assert memos("tidy", cube, *flags, "--apply").code == 0
    assert len(list(api.memories(cube))) == 1
    path, _, body = server.requests[0]
    assert path.endswith("/chat/completions")
    assert "under Billing" in body["messages"][0]["content"]


def test_what_leaves_this_machine_needs_a_yes_and_leave(cube: str, memos: Memos) -> None:
    away = ["--judge", "m", "--judge-url", "https://memos.invalid/v1"]
    done = memos("tidy", cube, *away)
    assert (done.code, "--yes" in done.err) == (2, True)
    assert memos("tidy", cube, *away, "--yes").code == 7
    memos("edit", cube, "--sensitivity", "restricted")
    done = memos("tidy", cube, *away, "--yes")
    assert (done.code, "may not go there" in done.err) == (0, True)
    memos("edit", cube, "--share-scope", "owner !" + api.show(cube).owner)
    assert memos("tidy", cube, *away, "--yes").code == 5


def test_a_judge_that_fails_changes_nothing(cube: str, memos: Memos) -> None:
    with serving(lambda handler: handler.fail(400, "no such model")) as broken:
        done = memos("tidy", cube, "--judge", "m", "--judge-url", broken.url, "--apply")
    assert done.code == 7
    assert api.show(cube).number == 2
    assert memos("tidy", cube, "--judge-url", "http://localhost:1/v1").code == 2
    assert memos("tidy", cube, "--judge", " ").code == 2


@pytest.mark.long
def test_a_model_on_this_machine_is_heard(cube: str, work: Path, memos: Memos) -> None:
    save_reciting(work / "yes", ["SAME"], after="\nVerdict:")
    done = memos("tidy", cube, "--judge", "./yes", "--apply")
    assert done.code == 0, done.err
    assert len(list(api.memories(cube))) == 1


def test_a_function_is_a_judge(cube: str) -> None:
    heard: list[tuple[str, str]] = []

    def judge(one: Note, other: Note) -> str:
        heard.append((one.section, other.section))
        return "different"

    assert api.tidy(cube, judge=judge, apply=True).applied is False
    assert heard == [("Billing", "Search")]
