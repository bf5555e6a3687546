"""`memos tidy`: the plan, carrying it out in one version, deciding conflicts, and who may."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import NotAllowed, Usage
from memos_cli.interface import api
from tests.conftest import Begin, Memos, ok
from tests.interface.people import People

OLD = "# Old\n\n- The phone number of Ana is 555 0101.\n- The passport of Ana is in the drawer.\n- We met Ana.\n"
NEW = "# New\n\n- The phone number of Ana is 555 0199.\n- The passport of Ana is in the drawer.\n"


def old_and_new(memos: Memos) -> None:
    for name, text in (("old.md", OLD), ("new.md", NEW)):
        Path(name).write_text(text)
        ok(memos("ingest", "me.cube", name, "--embedder", "none"))


@pytest.fixture
def cube(begin: Begin) -> str:
    """A cube of two files that say one thing twice, and of another two values."""
    begin(old_and_new)
    return "me.cube"


def by_text(cube: str = "me.cube") -> dict[str, Any]:
    return {f"{one.source} {one.text}": one for one in api.memories(cube, everything=True)}


def test_a_plan_changes_nothing(cube: str, memos: Memos) -> None:
    before = os.readlink("me.cube/current")
    done = memos("tidy", cube)
    assert done.code == 0
    assert os.readlink("me.cube/current") == before
    assert [line.split("\t")[:2] for line in done.lines] == [
        ["1 same", "stays"], ["1 same", "archive"], ["2 conflict", "undecided"], ["2 conflict", "undecided"],
    ]  # fmt: skip
    assert "--apply" in done.err
    told = api.tidy(cube)
    (joined,), (opposed,) = told.merges, told.conflicts
    assert [each.memory.place for each in joined.same] == ["new.md:4"]
    assert (opposed.says, opposed.stays, told.applied) == (("555 0101", "555 0199"), "", False)


def test_without_a_policy_conflicts_stay_as_they_are(cube: str) -> None:
    told = api.tidy(cube, apply=True)
    assert (told.applied, told.number, len(told.archived)) == (True, 4, 1)
    live = [one.text for one in api.memories(cube)]
    assert sorted(live) == [
        "The passport of Ana is in the drawer.", "The phone number of Ana is 555 0101.",
        "The phone number of Ana is 555 0199.", "We met Ana.",
    ]  # fmt: skip


def test_all_of_it_is_one_version_and_a_second_run_makes_none(cube: str, memos: Memos) -> None:
    done = memos("tidy", cube, "--resolve", "newest", "--apply", "-m", "spring")
    assert done.code == 0, done.err
    entry = api.log(cube)[0]
    assert (entry.number, entry.operation, entry.reason) == (4, "merge", "spring")
    assert entry.summary == {"merged": 1, "resolved": 1}
    again = api.tidy(cube, resolve="newest", apply=True)
    assert (again.applied, again.number, again.merges, again.conflicts) == (False, 4, (), ())
    lost = by_text()["old.md The phone number of Ana is 555 0101."]
    assert (lost.state, lost.superseded_as) == ("archived", "conflict")
    assert memos("audit", cube, "--deep").code == 0


def test_what_lost_does_not_come_back_with_its_source(cube: str, work: Path, memos: Memos) -> None:
    api.tidy(cube, resolve="newest", apply=True)
    (work / "old.md").write_text(OLD + "- A new line.\n")
    memos("ingest", cube, "old.md")
    assert by_text()["old.md The phone number of Ana is 555 0101."].state == "archived"
    (work / "new.md").write_text("# New\n\n- Nothing of it.\n")
    memos("ingest", cube, "new.md")
    found = by_text()
    assert found["old.md The phone number of Ana is 555 0101."].state == "archived"
    assert found["old.md The passport of Ana is in the drawer."].state == "merged"


@pytest.mark.long
def test_each_memory_tells_what_became_of_it(cube: str, memos: Memos) -> None:
    api.tidy(cube, resolve="newest", apply=True)
    found = by_text()
    winner = found["new.md The phone number of Ana is 555 0199."]
    loser = found["old.md The phone number of Ana is 555 0101."]
    shown = memos("show", cube, winner.id)
    assert f"stands for\t{loser.id} conflict old.md:3 {loser.text}" in shown.lines
    assert [one.id for one in api.memory_log(cube, winner.id)][-1] == loser.id
    rows = {one.id: one for one in api.diff(cube, 3).rows}
    assert "superseded_by" in rows[loser.id].columns


@pytest.mark.long
def test_as_of_a_past_time_both_were_known(cube: str) -> None:
    assert api.tidy(cube, resolve="newest", apply=True).applied
    ended = by_text()["old.md The phone number of Ana is 555 0101."].valid_to
    before = f"{ended - timedelta(milliseconds=1):%Y-%m-%dT%H:%M:%S.%f}"
    texts = {hit.text for hit in api.query(cube, "phone number of Ana", as_of=before).hits}
    assert {"The phone number of Ana is 555 0101.", "The phone number of Ana is 555 0199."} <= texts
    now = {hit.text for hit in api.query(cube, "phone number of Ana").hits}
    assert "The phone number of Ana is 555 0101." not in now


@pytest.mark.many(1)
@pytest.mark.parametrize("which", ["duplicate", "conflict"])
def test_one_of_them_is_taken_back_by_hand(cube: str, which: str, memos: Memos) -> None:
    api.tidy(cube, resolve="newest", apply=True)
    gone = next(one for one in by_text().values() if one.superseded_as == which)
    done = memos("edit", cube, gone.id, "--restore")
    assert done.code == 0, done.err
    back = api.show_memory(cube, gone.id)
    assert (back.state, back.superseded_by, back.superseded_as) == ("activated", "", "")
    assert memos("audit", cube, "--deep").code == 0


def test_whoever_is_asked_decides(cube: str) -> None:
    heard: list[Any] = []

    def first(pair: Any) -> str:
        heard.append(pair)
        return str(pair.one.id)

    told = api.tidy(cube, resolve="ask", ask=first, apply=True)
    assert [one.why for one in told.conflicts] == ["you chose it"]
    assert by_text()["new.md The phone number of Ana is 555 0199."].state == "archived"
    assert len(heard) == 1
    api.rollback(cube, 3)
    assert api.tidy(cube, resolve="ask", ask=lambda pair: "", apply=True).conflicts[0].stays == ""


def test_nobody_is_asked_without_a_terminal(cube: str, memos: Memos) -> None:
    before = os.readlink("me.cube/current")
    done = memos("tidy", cube, "--resolve", "ask", "--apply")
    assert (done.code, "terminal" in done.err) == (2, True)
    assert os.readlink("me.cube/current") == before
    assert memos("tidy", cube, "--resolve", "ask").code == 2
    assert memos("tidy", cube, "--resolve", "loudest").code == 2
    with pytest.raises(Usage):
        api.tidy(cube, resolve="ask", apply=True)


def test_a_filter_says_what_is_compared(cube: str) -> None:
    told = api.tidy(cube, where="source=old.md")
    assert (told.compared, told.merges, told.conflicts) == (3, (), ())


def test_frozen_and_held_memories_are_not_touched(cube: str, memos: Memos) -> None:
    found = by_text()
    memos("edit", cube, found["old.md The phone number of Ana is 555 0101."].id, "--freeze")
    memos("edit", cube, found["new.md The passport of Ana is in the drawer."].id, "--hold")
    told = api.tidy(cube, resolve="newest", apply=True)
    assert (told.archived, told.merges) == ((), ())
    assert "frozen" in told.conflicts[0].why
    assert [one.why for one in told.left] == ["one is under legal hold"]


@pytest.mark.long
def test_labels_and_scopes_keep_apart(cube: str, memos: Memos) -> None:
    found = by_text()
    memos("edit", cube, found["old.md The passport of Ana is in the drawer."].id, "--sensitivity", "restricted")
    memos("edit", cube, found["old.md The phone number of Ana is 555 0101."].id, "--read-scope", "owner")
    told = api.tidy(cube, resolve="newest", apply=True)
    assert (told.archived, told.merges, told.conflicts[0].stays) == ((), (), "")


def test_who_may_only_read_gets_a_plan_of_what_they_see(
    cube: str, home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = People(home, memos, monkeypatch)("reader")
    memos("edit", cube, "--read-scope", f"owner {reader.key}")
    memos("edit", cube, by_text()["old.md The phone number of Ana is 555 0101."].id, "--read-scope", "owner")
    done = reader.run("tidy", cube)
    assert done.code == 0, done.err
    assert "cannot be carried out" in done.err
    assert "555" not in done.out
    assert len(done.lines) == 2
    assert reader.run("tidy", cube, "--apply").code == 5


@pytest.mark.long
def test_a_frozen_cube_says_why_a_plan_stays_one(cube: str, memos: Memos) -> None:
    memos("edit", cube, "--freeze")
    done = memos("tidy", cube)
    assert (done.code, "frozen forbids every change" in done.err) == (0, True), done.err
    assert memos("tidy", cube, "--apply").code == 5


def test_what_is_not_theirs_to_write_is_left(
    cube: str, home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = People(home, memos, monkeypatch)("writer")
    memos("edit", cube, "--read-scope", f"owner {writer.key}", "--write-scope", f"owner {writer.key}")
    memos("edit", cube, by_text()["old.md The passport of Ana is in the drawer."].id, "--write-scope", "owner")
    done = writer.run("tidy", cube, "--apply", "--resolve", "newest")
    assert done.code == 0, done.err
    assert "not yours to change" in done.err
    assert by_text()["old.md The passport of Ana is in the drawer."].state == "activated"
    assert by_text()["old.md The phone number of Ana is 555 0101."].state == "archived"


def test_words_that_may_not_go_into_a_file_are_not_in_the_plan(cube: str, memos: Memos) -> None:
    memos("edit", cube, "--sensitivity", "restricted")
    told = api.tidy(cube, to="file")
    assert {told.merges[0].stays.text, told.conflicts[0].one.text} == {""}
    assert told.conflicts[0].says == ("", "")
    memos("edit", cube, "--share-scope", "owner !" + api.show(cube).owner)
    with pytest.raises(NotAllowed):
        api.tidy(cube, to="file")


def test_hostile_words_do_not_drive_a_terminal(work: Path, memos: Memos) -> None:
    for name in ("a.md", "b.md"):
        (work / name).write_text("- The code of Ana\x1b[2J is 4711\u202e.\n- We met Ana.\n")
        memos("ingest", "odd.cube", name, "--embedder", "none")
    done = memos("tidy", "odd.cube", "--all")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert memos("tidy", "odd.cube", "--where", "nonsense=1").code == 2
    assert memos("tidy", "none.cube").code == 3
