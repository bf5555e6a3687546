"""The access log as it is printed: kinds, filters, checkpoints on the command line, and logs that were changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memos_cli.infrastructure.trail import path_of
from memos_cli.interface import api
from tests.conftest import Memos
from tests.interface.test_frame import close
from tests.runtime.decoders import save_parrot


@pytest.fixture
def cube(work: Path, memos: Memos) -> Path:
    (work / "a.md").write_text("- The passport is in the drawer.\n- The train leaves at nine.\n")
    assert memos("ingest", "a.cube", "a.md", "--embedder", "none").code == 0
    return work / "a.cube"


def kinds(memos: Memos, *options: str) -> list[tuple[str, str]]:
    done = memos("audit", "a.cube", "--log", "--json", *options)
    assert done.code == 0, done.err
    return [(line["verb"], line["kind"]) for line in map(json.loads, done.lines)]


def test_each_line_says_what_was_done(cube: Path, memos: Memos) -> None:
    (first, _) = memos("list", "a.cube", "-q").lines
    memos("edit", "a.cube", first, "--type", "fact")
    memos("edit", "a.cube", first, "--type", "fact", "--dry-run")
    memos("init", "b.cube", "--from", "a.cube")
    save_parrot(Path("parrot"), "drawer")
    assert memos("query", "a.cube", "where is the passport?", "--answer", "--model", "parrot").code == 0
    assert kinds(memos) == [
        ("init", "change"), ("ingest", "change"), ("list", "read"), ("edit", "change"), ("edit", "read"),
        ("fork", "export"), ("query", "injection"),
    ]  # fmt: skip
    (line,) = (json.loads(text) for text in memos("audit", "a.cube", "--log", "--json", "--kind", "injection").lines)
    assert first in line["facts"]["injected"]
    close(cube)
    assert memos("list", "a.cube").code == 5
    assert json.loads(path_of(cube).read_text().splitlines()[-1])["kind"] == "denial"


@pytest.mark.long
def test_lines_are_chosen_by_time_person_and_kind(cube: Path, memos: Memos) -> None:
    line = next(api.access_log("a.cube"))
    assert kinds(memos, "--kind", "export") == []
    assert len(kinds(memos, "--since", "1d", "--actor", line.actor["user"])) > 2
    assert len(kinds(memos, "--actor", line.actor["key"][:14])) == len(kinds(memos, "--actor", line.actor["key"])) - 1
    assert kinds(memos, "--actor", "nobody") == []
    assert kinds(memos, "--since", "2999-01-01") == []
    assert memos("audit", "a.cube", "--log", "--since", "soon").code == 2
    assert memos("audit", "a.cube", "--log", "--kind", "gossip").code == 2
    assert memos("audit", "a.cube", "--since", "1d").code == 2
    assert memos("audit", "a.cube", "--log", "--deep").code == 2


def test_a_log_that_was_changed_is_printed_and_then_refused(cube: Path, memos: Memos) -> None:
    memos("list", "a.cube")
    path = path_of(cube)
    path.write_text(path.read_text().replace('"verb":"ingest"', '"verb":"\x1b[31mlist"'))
    done = memos("audit", "a.cube", "--log")
    assert done.code == 4
    assert "\x1b" not in done.out
    assert len(done.lines) >= 2
    assert memos("audit", "a.cube").code == 4


def test_a_checkpoint_on_the_command_line(cube: Path, memos: Memos) -> None:
    assert memos("audit", "a.cube", "--checkpoint", "a.cube/log/x.json").code == 2
    assert memos("audit", "a.cube", "--checkpoint", "c.json").code == 0
    assert json.loads(memos("audit", "a.cube", "--checkpoint", "-").out)["format"] == "memos-checkpoint-1"
    assert memos("audit", "a.cube", "--against", "c.json").code == 0
    assert memos("audit", "a.cube", "--against", "none.json").code == 3
    Path("odd.json").write_text("{}")
    assert memos("audit", "a.cube", "--against", "odd.json").code == 4
    lines = path_of(cube).read_text().splitlines(keepends=True)
    path_of(cube).write_text("".join(lines[:1]))
    done = memos("audit", "a.cube", "--against", "c.json", "--json")
    assert done.code == 4
    assert "log-truncated" in {finding["code"] for finding in done.json["findings"]}
