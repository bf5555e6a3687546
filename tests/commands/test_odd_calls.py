"""Calls that nobody means to make: closed streams, bytes that are no text, numbers and names without end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memos_cli import __main__, cli
from tests.commands.test_bad_input import cube, tell
from tests.conftest import Memos

__all__ = ["cube"]
NO_TEXT = "a\udcffb"


def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which `memos` is the program."""
    script = f'memos() {{ "{sys.executable}" -m memos_cli "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, errors="replace"
    )


@pytest.mark.many(2)
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("memos list a.cube <&-", 0),
        ("memos ingest a.cube a.md <&-", 0),
        ("memos gc a.cube <&-", 2),
        ("memos query a.cube <&-", 2),
        ("memos list a.cube >&-", 0),
        ("memos list nothing >&- 2>&-", 3),
        ("memos --help | true; exit ${PIPESTATUS[0]}", 0),
        ("memos list a.cube | true; exit ${PIPESTATUS[0]}", 0),
        ("printf '\\xff thought' | memos query a.cube -", 0),
        ("printf '\\xff' | memos edit a.cube 0000 --text -", 2),
    ],
)
def test_closed_and_odd_streams_end_in_words(cube: Path, line: str, code: int) -> None:
    done = run(line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.many(4)
@pytest.mark.parametrize(
    "words",
    [
        ["ingest", "a.cube", "b.md", "--topic", NO_TEXT],
        ["ingest", "a.cube", "b.md", "-m", NO_TEXT],
        ["ingest", "a.cube", "b.md", "-m", "x" * 5000],
        ["ingest", "a.cube", "b.md", "--ttl", "9999999"],
        ["ingest", "a.cube", "b.md", "--ttl", "999999999999"],
        ["ingest", "a.cube", "b.md", "--tag", NO_TEXT],
        ["edit", "a.cube", "0000", "--text", NO_TEXT],
        ["query", "a.cube", NO_TEXT],
        ["init", "i.cube", "--description", NO_TEXT],
        ["init", "i.cube", "--description", "\x01" * 100_000],
        ["init", "i.cube", "--licence", "x" * 5000],
    ],
)
def test_words_that_cannot_be_kept_are_refused(cube: Path, memos: Memos, words: list[str]) -> None:
    before = os.readlink("a.cube/current")
    tell(memos(*words), 2)
    assert os.readlink("a.cube/current") == before
    assert not Path("i.cube").exists()


def test_a_file_whose_name_is_no_text_is_refused(cube: Path, work: Path, memos: Memos) -> None:
    (work / NO_TEXT).write_text("- A thought.\n")
    tell(memos("ingest", "a.cube", NO_TEXT), 4, "UTF-8")


@pytest.mark.parametrize(
    "words", [["ingest", "x/{long}.cube", "b.md"], ["list", "x/{long}.cube"], ["init", "{long}.cube"]]
)
def test_a_name_without_end_is_refused_in_words(cube: Path, memos: Memos, words: list[str]) -> None:
    done = memos(*(word.format(long="a" * 5000) for word in words))
    assert done.code in (1, 2, 3, 4)
    assert done.err.startswith("memos: ")
    assert len(done.err) < 12_000


def test_without_a_home_it_is_said_what_to_set(work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MEMOS_HOME")
    monkeypatch.setattr(Path, "home", nobody)
    tell(memos("list"), 2, "MEMOS_HOME")


def test_a_home_that_is_a_file_is_named(work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "file").write_text("")
    monkeypatch.setenv("MEMOS_HOME", str(work / "file"))
    tell(memos("list"), 1, "Not a directory", "export MEMOS_HOME=")


def test_a_home_whose_cache_cannot_be_written_embeds_all_the_same(work: Path, home: Path, memos: Memos) -> None:
    (home / "cache").unlink()
    (home / "cache").write_text("")
    (work / "a.md").write_text("- One thought.\n")
    done = memos("ingest", "a.cube", "a.md", "--json")
    assert (done.code, done.json["embedder"][:6]) == (0, "all-Mi"), done.err


def test_an_interrupt_before_the_command_has_its_code_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", press)
    monkeypatch.setattr(sys, "argv", ["memos", "list"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
