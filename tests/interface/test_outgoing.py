"""What leaves a cube: JSONL that comes back as it was, markdown, and who may take it out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, NotAllowed
from memos_cli.interface import api, frame
from tests.conftest import Begin, Memos, ok
from tests.interface import official
from tests.interface.samples import json_lines, source

NOTES = "# Garden\n\n## Plants\n\n- The roses need water.\n- The ivy is old.\n\nA paragraph.\n\nAnother one.\n"


def of_all_kinds(memos: Memos) -> None:
    Path("a.md").write_text(NOTES)
    chat = [
        {"speaker": name, "text": text, "session": "s"} for name, text in (("Ana", "Hello!"), ("Ben", "Yesterday!"))
    ]
    Path("talk.jsonl").write_text(json_lines(*chat))
    memos("ingest", "a.cube", "a.md", "--embedder", "none", "--tag", "home", "--type", "fact")
    memos("ingest", "a.cube", "talk.jsonl", "--sensitivity", "public", "--ttl", "900", "--owner", "Ana")
    first = memos("list", "a.cube", "--where", "kind=bullet", "-q").lines[0]
    memos("edit", "a.cube", first, "--text", "The roses need much water.")
    official.cube(Path("theirs"), official.tree(), said=official.config("tree_text"))
    ok(memos("ingest", "a.cube", "theirs"))


@pytest.fixture
def cube(begin: Begin, work: Path) -> Path:
    """Memories of several kinds, labels and sources, one of them superseded."""
    begin(of_all_kinds)
    return work / "a.cube"


def rows(memos: Memos, cube: str, *more: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in memos("list", cube, "--json", *more).lines]
    return sorted(found, key=lambda row: str(row["id"]))


@pytest.mark.parametrize("everything", [[], ["--all"]], ids=["live", "all"])
def test_jsonl_comes_back_as_it_was(cube: Path, memos: Memos, work: Path, everything: list[str]) -> None:
    assert memos("export", "a.cube", "-o", "out.jsonl", *everything).code == 0
    done = memos("ingest", "b.cube", "out.jsonl", "--embedder", "none", "--json").json
    before, after = rows(memos, "a.cube", *everything), rows(memos, "b.cube", *everything)
    assert done["added"] == len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        differ = {name for name in old if old[name] != new[name]}
        # what had the label of its cube has it by itself now, and a wording that did not go along is not named
        assert differ <= {"sensitivity", *([] if everything else ["supersedes"])}
        assert new["sensitivity"] == (old["sensitivity"] or "internal")
        assert new["supersedes"] in ("", old["supersedes"])
    memos("export", "b.cube", "-o", "again.jsonl", *everything)
    first, second = (Path(name).read_text() for name in ("out.jsonl", "again.jsonl"))
    assert first == second
    # found by the words around them as before
    assert memos("query", "b.cube", "hello", "-q").out == memos("query", "a.cube", "hello", "-q").out


@pytest.mark.long
def test_what_is_there_stays_and_the_source_is_known_again(cube: Path, memos: Memos, work: Path) -> None:
    memos("export", "a.cube", "-o", "out.jsonl")
    done = memos("ingest", "a.cube", "out.jsonl", "--json").json
    assert (done["added"], done["superseded"]) == (0, 0)
    memos("ingest", "b.cube", "out.jsonl", "--embedder", "none")
    (work / "a.md").write_text(NOTES + "\nA third one.\n")
    done = memos("ingest", "b.cube", "a.md", "--json").json
    assert (done["added"], done["kept"]) == (1, 4), "memories of the file were known by their words"


LINE = {"memos": 1, "id": "0" * 20, "text": "The ivy is old.", "source": "a.md", "state": "activated"}
WRONG: dict[str, dict[str, Any]] = {
    "id": {"id": "../../etc"}, "state": {"state": "forgotten"}, "scope": {"read_scope": "everybody"},
    "label": {"sensitivity": "secret"}, "time": {"created_at": "yesterday"}, "tags": {"tags": "home"},
    "priority": {"priority": 10**9}, "version": {"memos": 2}, "text": {"text": 7}, "extra": {"extra": []},
    "hold": {"legal_hold": "yes"}, "key": {"content_key": "x"}, "source": {"source": ""}, "line": {"line_start": -1},
}  # fmt: skip


@pytest.mark.parametrize("harm", WRONG)
def test_a_line_that_is_wrong_is_refused(tmp_path: Path, harm: str) -> None:
    found = source(tmp_path, "bad.jsonl", json_lines(LINE, {**LINE, **WRONG[harm]}))
    assert found.format == "memos-jsonl"
    with pytest.raises(Damaged, match="bad.jsonl: line 2: expected"):
        list(found.pieces())


def test_a_bad_file_leaves_nothing_behind_and_odd_fields_are_told(work: Path, memos: Memos) -> None:
    (work / "bad.jsonl").write_text(json_lines(LINE, {**LINE, **WRONG["id"]}))
    assert memos("ingest", "bad.cube", "bad.jsonl", "--embedder", "none").code == 4
    assert not Path("bad.cube").exists()
    (work / "more.jsonl").write_text(json_lines({**LINE, "colour": 1}))
    done = memos("ingest", "more.cube", "more.jsonl", "--embedder", "none", "--json").json
    assert [(loss["field"], loss["count"]) for loss in done["losses"]] == [("colour", 1)]


def test_markdown_is_for_people_and_says_what_it_leaves_out(cube: Path, memos: Memos) -> None:
    done = memos("export", "a.cube", "--to", "markdown")
    assert "# a.md\n\n## Garden > Plants\n\n" in done.out
    assert "- The ivy is old.\n" in done.out
    assert "\nA paragraph.\n\nAnother one.\n" in done.out
    assert "- **Ana**: Hello!\n" in done.out
    lost = {line.split("\t")[3]: line.split("\t")[1] for line in done.err.splitlines() if "lost" in line}
    assert lost["tags"] == "4"
    assert {"owner", "expires_at", "extra"} <= lost.keys()


def test_an_export_is_dry_whole_and_asks_before_it_replaces(cube: Path, memos: Memos, work: Path) -> None:
    dry = memos("export", "a.cube", "-o", "out.jsonl", "--dry-run", "--json").json
    assert not Path("out.jsonl").exists()
    done = memos("export", "a.cube", "-o", "out.jsonl", "--json").json
    assert dry == {**done, "dry_run": True}
    assert Path("out.jsonl").stat().st_size == done["bytes"]
    assert Path("out.jsonl").stat().st_mode & 0o77 == 0
    assert memos("export", "a.cube").out == Path("out.jsonl").read_text()
    assert memos("export", "a.cube", "-o", "out.jsonl").code == 2
    assert memos("export", "a.cube", "-o", "out.jsonl", "--yes").code == 0
    (work / "full").mkdir()
    (work / "full" / "x").write_text("mine")
    assert memos("export", "a.cube", "--to", "memos", "-o", "full").code == 2
    assert memos("export", "a.cube", "--to", "memos", "-o", "-").code == 2
    assert memos("export", "a.cube", "--to", "word").code == 2
    assert memos("export", "a.cube", "-o", "no/such/place.jsonl").code == 2
    assert memos("export", "a.cube", "--ids", "ffff").code == 3
    assert memos("export", "a.cube", "--where", "type=none").code == 3
    assert memos("export", "a.cube", "--json").code == 2
    assert not list(work.glob(".*.tmp"))


def test_some_of_it(cube: Path, memos: Memos) -> None:
    chosen = memos("list", "a.cube", "--where", "kind=turn", "-q").lines
    assert memos("export", "a.cube", "--where", "kind=turn", "-o", "a.jsonl", "-q").lines == chosen
    assert memos("export", "a.cube", "--ids", ",".join(chosen), "-o", "b.jsonl", "-q").lines == chosen
    assert Path("a.jsonl").read_text() == Path("b.jsonl").read_text()


def test_what_may_not_go_to_a_file_stays(cube: Path, memos: Memos) -> None:
    first, second = memos("list", "a.cube", "--where", "kind=turn", "-q").lines
    memos("edit", "a.cube", first, "--sensitivity", "restricted")
    done = memos("export", "a.cube", "--where", "kind=turn", "-o", "out.jsonl", "--json")
    assert done.json["ids"] == [second]
    assert ("label or scope", 1) in [(loss["field"], loss["count"]) for loss in done.json["losses"]]
    assert "Hello" not in Path("out.jsonl").read_text()
    assert memos("export", "a.cube", "--ids", first).code == 5


def test_a_label_of_the_cube_goes_along_with_each_memory(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text(NOTES)
    memos("init", "p.cube", "--embedder", "none", "--sensitivity", "public")
    memos("ingest", "p.cube", "a.md")
    memos("export", "p.cube", "-o", "out.jsonl")
    memos("ingest", "b.cube", "out.jsonl", "--embedder", "none")
    assert {row["sensitivity"] for row in rows(memos, "b.cube")} == {"public"}


def test_who_may_not_share_takes_nothing_out(cube: Path, home: Path) -> None:
    with frame.changing(frame.desk(home), str(cube), "edit") as change:
        theirs = replace(change.cube.governance, owner="ed25519:" + "f" * 32, read_scope="anyone", share_scope="owner")
        change.commit({}, cube=replace(change.cube, governance=theirs))
    with pytest.raises(NotAllowed):
        api.export_memories(cube, cube.parent / "out.jsonl", home=home)
    assert not (cube.parent / "out.jsonl").exists()


@pytest.mark.long
def test_words_that_are_forgotten_for_good_leave_the_talk_they_were_taken_from(work: Path, memos: Memos) -> None:
    talk = [official.turn("user", "I am allergic to walnuts and cashews"), official.turn("assistant", "Noted.")]
    items = [
        {"id": official.ONE, "memory": "I am allergic to walnuts and cashews", "metadata": {"status": "activated"}},
        {"id": official.TWO, "memory": "The user was polite.", "metadata": {"status": "activated", "sources": talk}},
    ]  # fmt: skip
    official.cube(work / "theirs", items)
    memos("ingest", "a.cube", "theirs", "--embedder", "none")
    row = next(row for row in rows(memos, "a.cube") if row["ref"] == official.ONE)
    done = memos("forget", "a.cube", "--ids", row["id"], "--purge", "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["proof"]["sound"], done.json["proof"]
    (left,) = rows(memos, "a.cube")
    assert [one["content"] for one in left["extra"]["memos"]["metadata"]["sources"]] == ["[forgotten]", "Noted."]
    assert memos("forget", "a.cube", "--subject", "Noted", "--dry-run", "-q").lines == [left["id"]]
