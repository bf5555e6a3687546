"""Settings as a user writes them: their words, their order, and what a folder may not decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Begin, Memos, ok


def seven(memos: Memos) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    Path("a.md").write_text("".join(f"- Thought {word}.\n" for word in words))
    ok(memos("ingest", "a.cube", "a.md"))


@pytest.fixture
def cube(begin: Begin) -> str:
    begin(seven)
    return "a.cube"


@pytest.mark.parametrize("word", ["limit", "k"])
def test_an_option_is_named_as_on_the_command_line(cube: str, work: Path, memos: Memos, word: str) -> None:
    (work / "memos.toml").write_text(f"[query]\n{word} = 2\n")
    assert len(memos("query", cube, "thought").lines) == 2
    assert len(memos("query", cube, "thought", "-k", "3").lines) == 3


@pytest.mark.parametrize("setting", ["yes = true", "extract = 'm'", "extract-url = 'http://localhost:9/v1'"])
def test_a_folder_does_not_decide_what_a_person_must(
    cube: str, home: Path, work: Path, memos: Memos, setting: str
) -> None:
    (work / "memos.toml").write_text(f"[ingest]\n{setting}\n")
    done = memos("ingest", cube, "a.md")
    assert done.code == 2
    assert "for a person to decide" in done.err
    (work / "memos.toml").rename(home / "config.toml")
    assert memos("list", cube).code == 0


@pytest.mark.parametrize("setting", ["report = 'here.html'", "checkpoint = 'here'", "update-baseline = true"])
def test_a_folder_does_not_decide_where_an_audit_writes(cube: str, work: Path, memos: Memos, setting: str) -> None:
    (work / "memos.toml").write_text(f"[audit]\n{setting}\n")
    done = memos("audit", cube)
    assert (done.code, "for a person to decide" in done.err) == (2, True)
    (work / "memos.toml").write_text("[audit]\npolicy = 'rules.toml'\n")
    (work / "rules.toml").write_text("[limit]\nmemories = 1\n[forbid]\nwords = ['thought']\n")
    assert memos("audit", cube).code == 9


def test_a_default_embedder_is_for_new_cubes(
    cube: str, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMOS_EMBEDDER", "none")
    (work / "b.md").write_text("- More.\n")
    done = memos("ingest", cube, "b.md", "--json")
    assert done.code == 0, done.err
    assert done.json["embedder"].startswith("all-MiniLM")
    assert memos("ingest", "new.cube", "b.md", "--json").json["embedder"] is None
    assert "switched off" in memos("query", cube, "more", "--json").json["missing"][0]
    monkeypatch.setenv("MEMOS_EMBEDDER", "minilm")
    assert memos("query", "new.cube", "more").code == 0
    assert memos("ingest", "new.cube", "a.md", "--embedder", "minilm").code == 6


def test_a_budget_takes_as_many_as_fit(cube: str, memos: Memos) -> None:
    assert memos("query", cube, "thought", "--budget", "2000", "--json").json["context"].count("Thought") == 7
    assert (
        memos("query", cube, "thought", "--budget", "2000", "-k", "2", "--json").json["context"].count("Thought") == 2
    )


def test_neighbours_are_in_a_pipe_too(work: Path, memos: Memos) -> None:
    (work / "talk.txt").write_text("Ann: One.\nBob: The second thing.\nAnn: Three.\nBob: Four.\n")
    memos("ingest", "t.cube", "talk.txt", "--embedder", "none")
    (line,) = memos("query", "t.cube", "second thing", "-k", "1", "--context", "1").lines
    assert line.split("\t")[-2:] == ["One.", "Three."]


def test_a_day_without_a_year_is_the_nearest(work: Path, memos: Memos) -> None:
    (work / "c.jsonl").write_text(
        '{"speaker": "Ann", "text": "We marry on the 27th of April.", "time": "2025-01-10T10:00:00Z"}\n'
        '{"speaker": "Ann", "text": "We met on December 20.", "time": "2025-01-10T10:01:00Z"}\n'
    )
    memos("ingest", "d.cube", "c.jsonl", "--embedder", "none")
    out = memos("list", "d.cube", "--json").out
    assert "2025-04-27" in out
    assert "2024-12-20" in out


@pytest.mark.parametrize("setting", ["canaries = 3", "for = 'somebody'"])
def test_a_folder_puts_no_made_up_memories_into_a_package(setting: str, work: Path, memos: Memos) -> None:
    (work / "memos.toml").write_text(f"[pack]\n{setting}\n")
    done = memos("pack", "a.cube")
    assert (done.code, "for a person to decide" in done.err) == (2, True)
