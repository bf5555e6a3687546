"""Changes besides ingest: copies, labels, embedders, what is kept under hold, and what a list leaves out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import metadata
from memos_cli.cube.metadata import Memcube
from memos_cli.infrastructure import vault
from memos_cli.interface import frame
from tests.conftest import Begin, Memos, ok


def two_thoughts(memos: Memos) -> None:
    Path("a.md").write_text("- One thought.\n- Another thought.\n")
    ok(memos("ingest", "a.cube", "a.md", "--embedder", "none"))


@pytest.fixture
def cube(begin: Begin, work: Path) -> Path:
    """Two memories, without vectors."""
    begin(two_thoughts)
    return work / "a.cube"


def govern(cube: Path, **settings: Any) -> None:
    """A version with other governance, as a later command will make it."""
    with vault.draft(cube, stamp=vault.Stamp("edit", {"key": "x", "user": "x"}, "2026-01-01T00:00:00Z")) as draft:
        meta: Memcube = metadata.load(draft.path)
        meta = replace(meta, governance=replace(meta.governance, **settings))
        vault.write_bytes(draft.path / metadata.FILE, metadata.dumps(meta))
        draft.commit()


def test_a_list_leaves_out_what_has_outlived_its_time(
    cube: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = memos("list", "a.cube", "-q").lines
    assert memos("edit", "a.cube", first, "--ttl", "1").code == 0
    later = datetime(2999, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(frame, "now", lambda: later)
    assert memos("list", "a.cube", "-q").lines == [second]
    assert memos("list", "a.cube", "-q", "--all").lines == [second, first]  # an edited row comes last


def test_a_copy_takes_the_label_or_a_stricter_one(cube: Path, memos: Memos) -> None:
    govern(cube, sensitivity="confidential")
    assert memos("init", "same.cube", "--from", "a.cube").code == 0
    assert memos("show", "same.cube", "--json").json["sensitivity"] == "confidential"
    assert memos("init", "more.cube", "--from", "a.cube", "--sensitivity", "restricted").code == 0
    assert memos("show", "more.cube", "--json").json["sensitivity"] == "restricted"
    done = memos("init", "less.cube", "--from", "a.cube", "--sensitivity", "public")
    assert (done.code, "confidential" in done.err) == (5, True)
    assert not Path("less.cube").exists()


def test_a_copy_says_that_it_keeps_its_vectors(cube: Path, memos: Memos) -> None:
    done = memos("init", "b.cube", "--from", "a.cube", "--embedder", "minilm")
    assert (done.code, "memos reindex b.cube --embedder minilm" in done.err) == (0, True)


def test_reindex_keeps_the_embedder_of_the_cube(cube: Path, memos: Memos) -> None:
    assert memos("reindex", "a.cube").code == 0
    assert memos("show", "a.cube", "--json").json["embedder"] is None


@pytest.mark.long
def test_a_cube_under_hold_loses_no_version_by_the_way(cube: Path, memos: Memos) -> None:
    govern(cube, legal_hold=True)
    for number in range(12):
        assert memos("edit", "a.cube", memos("list", "a.cube", "-q").lines[0], "--topic", f"t{number}").code == 0
    assert memos("show", "a.cube", "--json").json["versions"] == 15


def test_the_rules_of_today_decide_about_old_versions(cube: Path, memos: Memos) -> None:
    govern(cube, owner="ed25519:" + "0" * 32, read_scope="owner")
    for words in (["list", "a.cube"], ["show", "a.cube"], ["diff", "a.cube", "1", "2"]):
        done = memos(*words, *([] if words[0] == "diff" else ["--version", "2"]))
        assert done.code == 5, (words, done.out)


def test_one_cube_by_two_names_is_asked_once(cube: Path, memos: Memos) -> None:
    Path("link.cube").symlink_to("a.cube")
    for other in ("./a.cube", "a.cube/", "link.cube"):
        assert memos("query", "a.cube", "thought", "--with", other).code == 2


def test_the_trail_tells_a_rehearsal_from_a_change(cube: Path, memos: Memos) -> None:
    first = memos("list", "a.cube", "-q").lines[0]
    memos("forget", "a.cube", "--ids", first, "--dry-run")
    memos("forget", "a.cube", "--ids", first)
    lines = [json.loads(line) for line in (cube / "log" / "access.jsonl").read_text().splitlines()]
    assert [line["facts"].get("dry_run", False) for line in lines if line["verb"] == "forget"] == [True, False]


@pytest.mark.parametrize("words", [["bad/name"], ["absent", "--delete"]])
def test_a_tag_is_checked_in_a_rehearsal_too(cube: Path, memos: Memos, words: list[str]) -> None:
    assert memos("tag", "a.cube", *words, "--dry-run").code == memos("tag", "a.cube", *words).code > 0


@pytest.mark.long
def test_earlier_wordings_of_what_is_hidden_are_named(cube: Path, memos: Memos) -> None:
    ids = [memos("list", "a.cube", "-q").lines[0]]
    for words in ("A second wording.", "A third wording."):
        ids += memos("edit", "a.cube", ids[-1], "--text", words, "-q").lines
    done = memos("forget", "a.cube", "--ids", ids[2], "--dry-run")
    assert "2 earlier wordings are still found as of a past time" in done.err
    assert f"memos forget a.cube --ids {ids[1]},{ids[0]}" in done.err
    assert "earlier" not in memos("forget", "a.cube", "--ids", ",".join(ids)).err
