"""What is printed where: tables for people, whole values for pipes, and nothing that drives a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.console import Output, cell, confirm, safe, to_json
from memos_cli.errors import Usage

DRIVING = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u2066", "\u200f", "\ufeff"]


@settings(deadline=None)
@given(st.text())
def test_nothing_that_drives_a_terminal_passes(text: str) -> None:
    for shown in (safe(text), cell(text), to_json({"text": text})):
        assert not set(shown) & (set(DRIVING) - {"\t", "\n"})
    assert "\n" not in cell(text)
    assert "\t" not in cell(text)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_keeps_every_character(text: str) -> None:
    assert json.loads(to_json({"text": text})) == {"text": text}


def test_the_four_modes(capsys: pytest.CaptureFixture[str]) -> None:
    items, columns = [{"id": "a", "n": 1}], {"id": lambda i: i["id"], "n": lambda i: i["n"]}
    expected = {"plain": "a\t1\n", "json": '{"id":"a","n":1}\n', "quiet": "a\n"}
    for mode, out in expected.items():
        Output(json=mode == "json", quiet=mode == "quiet").rows(items, columns, ids=lambda i: i["id"])
        assert capsys.readouterr().out == out
    table = Output()
    table.terminal = True
    table.rows([{"id": "a", "n": "[bold]two\nlines"}], columns, ids=lambda i: i["id"])
    assert "[bold]two lines" in capsys.readouterr().out
    table.rows([], columns, ids=lambda i: i["id"])
    assert capsys.readouterr().err == "memos: nothing to list\n"


def test_talk_goes_to_stderr_and_is_silent_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Output().say("hello \x1b[31m")
    Output(quiet=True).say("hello")
    assert capsys.readouterr() == ("", "memos: hello \\x1b[31m\n")


def test_nobody_to_ask_is_a_usage_error_that_names_the_flag() -> None:
    confirm("sure?", yes=True)
    with pytest.raises(Usage) as caught:
        confirm("sure?", yes=False)
    assert "--yes" in str(caught.value.hint)
