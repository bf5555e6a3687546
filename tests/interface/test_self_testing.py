"""schedule --self-test: what is missed is repaired, kept when held-out wordings gain, and can be taken back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation, links, probes
from memos_cli.errors import CheckFailed, NotAllowed, Usage
from memos_cli.interface import api, frame
from memos_cli.interface.frame import PLAINTEXT
from memos_cli.operation.asked_as import wordings_of
from memos_cli.operation.repairs import PART_WORDS
from tests.conftest import Begin, Memos, ok

# `lives in` is asked for as a home town, of which another speaks
NOTES = """\
- Ana lives in Lindau.
- the home town of ana and of her aunt was far away from anything that the two of them had ever seen or heard of before
- the boiler hums
- bins stand by the road
- roses want water
- the cat sleeps on the piano
"""


def people(memos: Memos) -> None:
    Path("n.md").write_text(f"# People\n\n{NOTES}")
    ok(memos("ingest", "n.cube", "n.md", "--embedder", "none"))


@pytest.fixture
def notes(begin: Begin) -> str:
    begin(people)
    return "n.cube"


def ana(cube: str) -> Any:
    (found,) = [one for one in api.memories(cube) if "Lindau" in one.text]
    return found


def test_without_apply_nothing_is_changed(notes: str, memos: Memos) -> None:
    before = os.readlink(f"{notes}/current")
    told = api.self_test(notes, k=1)
    (form,) = told.forms
    assert (form.form, form.after) == ("plaintext", None)
    assert 0 < form.failing <= form.memories
    assert {one.after for one in told.repairs} == {None}
    assert not any(one.kept for one in told.repairs)
    assert os.readlink(f"{notes}/current") == before


def test_a_repair_that_helps_is_kept_in_one_version_and_taken_back(notes: str, memos: Memos) -> None:
    told = api.self_test(notes, k=1, apply=True)
    assert told.number == told.tested + 1
    kept = {one.id: one for one in told.repairs if one.kept}
    assert ana(notes).id in kept
    one = kept[ana(notes).id]
    assert (one.repair, one.form) == ("wording", "plaintext")
    assert one.after is not None
    assert one.after > one.before
    assert told.forms[0].after is not None
    assert told.forms[0].after >= told.forms[0].before
    assert ana(notes).text == "Ana lives in Lindau."
    assert ana(notes).extra["asked_as"]
    stored = probes.read(Path(notes) / "current" / PLAINTEXT, memory_ids=[one.id])
    assert {each.split for each in stored} == {"train", "dev", "test"}
    assert memos("audit", notes, "--deep").code == 0

    assert memos("rollback", notes, str(told.tested)).code == 0
    assert ana(notes).extra == {}
    assert not probes.read(Path(notes) / "current" / PLAINTEXT)


@pytest.mark.long
def test_wordings_outlive_an_edit_beside_them_and_end_with_the_memory(notes: str, memos: Memos) -> None:
    api.self_test(notes, k=1, apply=True)
    (other,) = [one.id for one in api.memories(notes) if "boiler" in one.text]
    assert memos("edit", notes, other, "--text", "The boiler sings.").code == 0
    with frame.reading(frame.desk(None), notes, "show") as seen:
        (row,) = seen.memories.take([ana(notes).id], columns=["near", "extra"]).to_pylist()
    assert all(wording in row["near"] for wording in wordings_of(row["extra"]))
    assert memos("forget", notes, "--ids", ana(notes).id, "--purge", "--yes").code == 0
    assert not [one for one in probes.read(Path(notes) / "current" / PLAINTEXT) if "Lindau" in one.answer]


def test_a_repair_by_which_others_lose_is_not_kept(work: Path, memos: Memos) -> None:
    (work / "n.md").write_text(f"# People\n\n{NOTES.replace('of ana', 'of Ana')}")
    memos("ingest", "n.cube", "n.md", "--embedder", "none")
    told = api.self_test("n.cube", k=1, apply=True)
    (one,) = [one for one in told.repairs if one.id == ana("n.cube").id]
    assert (one.kept, one.why) == (False, "with it other memories are found less often")
    assert told.number == told.tested
    assert told.forms[0].after == told.forms[0].before
    assert ana("n.cube").extra == {}


@pytest.mark.long
def test_what_helps_nothing_leaves_no_version(work: Path, memos: Memos) -> None:
    (work / "o.md").write_text("- The home town of Ana is Lindau.\n- The hobby of Bo is chess.\n")
    memos("ingest", "o.cube", "o.md", "--embedder", "none")
    told = api.self_test("o.cube", apply=True)
    assert told.repairs == ()
    assert told.number == told.tested
    assert told.forms[0].before == 1.0


def test_a_frozen_memory_stays_as_it_is(notes: str, memos: Memos) -> None:
    memos("edit", notes, ana(notes).id, "--freeze")
    told = api.self_test(notes, k=1, apply=True)
    (one,) = [one for one in told.repairs if one.id == ana(notes).id]
    assert (one.kept, one.after) == (False, None)
    assert "frozen or held" in one.why
    assert ana(notes).extra == {}


@pytest.mark.long
def test_a_vector_that_is_not_its_own_is_made_again(work: Path, memos: Memos) -> None:
    (work / "v.md").write_text(NOTES)
    memos("ingest", "v.cube", "v.md")
    with frame.changing(frame.desk(None), "v.cube", "edit") as change:
        from memos_cli.cube.plaintext import with_columns

        rows = change.whole.take([ana("v.cube").id])
        wrong = [-value for value in rows["vector"].to_pylist()[0]]
        change.whole.replace(with_columns(rows, vector=[wrong], near_vector=[wrong]))
        change.commit({})
    told = api.self_test("v.cube", k=1, apply=True)
    (one,) = [one for one in told.repairs if one.id == ana("v.cube").id]
    assert (one.repair, one.kept) == ("re-embed", True)
    assert memos("audit", "v.cube", "--deep").code == 0


LONG = (
    "The weather was fine and everybody talked about the trip to the lake for most of the long morning. "
    "The home town of Ana is Lindau. Then they all left and slept, for it had been a long day with much to carry. "
    "Nobody wanted to talk about the boat, and nobody asked about the tent that was lost on the way back."
)


@pytest.mark.long
def test_a_text_of_many_things_is_parted(work: Path, memos: Memos) -> None:
    from memos_cli.operation.self_test import questions_for

    decoys = "".join(f"\nThe home town of Ana and her {who}.\n" for who in ("aunt", "boss", "twin", "niece"))
    (work / "l.md").write_text(f"# Diary of a trip\n\n{LONG}\n{decoys}")
    (work / "m.md").write_text("It stands in the diary of a trip.\n")
    memos("ingest", "l.cube", "l.md", "m.md", "--embedder", "none")
    long = ana("l.cube")
    assert questions_for(long, [])
    told = api.self_test("l.cube", k=1, apply=True)
    (one,) = [one for one in told.repairs if one.id == long.id]
    assert (one.repair, one.kept) == ("re-chunk", True), one
    parts = [each for each in api.memories("l.cube") if each.id in one.made]
    assert " ".join(each.text for each in sorted(parts, key=lambda each: LONG.index(each.text))) == LONG
    assert all(len(each.text.split()) <= PART_WORDS for each in parts)
    assert all(each.supersedes == long.id for each in parts)
    # what named the heading names the part that is the first below it now
    assert {one.to_id for one in links.read(Path("l.cube/current") / PLAINTEXT)} <= set(one.made)
    assert len(links.read(Path("l.cube/current") / PLAINTEXT)) == 1
    assert memos("audit", "l.cube", "--deep").code == 0
    api.rollback("l.cube", told.tested)
    assert ana("l.cube").text == LONG


@pytest.mark.long
def test_a_cache_that_lost_its_answers_is_read_anew(notes: str, memos: Memos) -> None:
    memory = ana(notes).id
    api.convert(notes, ids=[memory], compress="knorm:0.2", probes=2)
    told = api.self_test(notes, forms=["activation"])
    (form,) = told.forms
    assert (form.form, form.memories, form.failing) == ("activation", 1, 1)
    assert form.text is not None
    assert form.text > 0.5
    done = api.self_test(notes, forms=["activation"], apply=True)
    (one,) = done.repairs
    assert (one.repair, one.kept) == ("read anew", True), one
    assert done.forms[0].after == pytest.approx(form.text, abs=0.02)
    (path,) = activation.find(Path(notes) / "current" / activation.FOLDER, memory=memory)
    assert not activation.read(path).header.compression
    assert memos("audit", notes, "--deep").code == 0
    assert api.self_test(notes, forms=["activation"]).repairs == ()


def test_calls_that_mean_nothing(notes: str, work: Path, memos: Memos) -> None:
    for wrong in ({"forms": ["dream"]}, {"k": 0}, {"limit": 0}, {"redistil": True}):
        with pytest.raises(Usage):
            api.self_test(notes, **wrong)  # type: ignore[arg-type]
    (work / "e.md").write_text("hm\n")
    memos("ingest", "e.cube", "e.md", "--embedder", "none")
    with pytest.raises(CheckFailed):
        api.self_test("e.cube")
    told = api.self_test(notes, forms=["activation", "parameter"])
    assert told.forms == ()
    assert len(told.notes) == 2


def test_a_memory_that_is_not_yours_to_change_is_left(notes: str, memos: Memos) -> None:
    assert memos("edit", notes, ana(notes).id, "--write-scope", "ed25519:" + "0" * 32).code == 0
    told = api.self_test(notes, k=1, apply=True)
    (one,) = [one for one in told.repairs if one.id == ana(notes).id]
    assert one.kept or "not yours" in one.why
    assert bool(ana(notes).extra) is one.kept


@pytest.mark.long
def test_only_so_many_are_asked_about(notes: str) -> None:
    assert api.self_test(notes, limit=1).forms[0].memories == 1


@pytest.mark.long
def test_a_cube_of_somebody_else_is_tested_and_not_mended(memos: Memos) -> None:
    cube = Path(__file__).parents[2] / "bundles" / "handbook.cube"
    told = api.self_test(cube, limit=3, embedder="none")
    assert told.forms[0].memories == 3
    with pytest.raises(NotAllowed):
        api.self_test(cube, limit=3, apply=True)


@pytest.mark.long
def test_it_is_no_use_of_a_memory_and_needs_leave(notes: str, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    api.self_test(notes)
    plan = memos("schedule", notes, "--estimate", "--json").json
    assert plan["cubes"][0]["queries"] == 0
    memos("edit", notes, "--read-scope", "owner", "--write-scope", "owner")
    monkeypatch.setenv("MEMOS_HOME", str(Path.cwd() / "stranger"))
    with pytest.raises(NotAllowed):
        api.self_test(notes, apply=True)


def test_as_a_user_sees_it(notes: str, memos: Memos) -> None:
    told = memos("schedule", notes, "--self-test", "--json")
    assert told.code == 0, told.err
    assert told.json["applied"] is False
    done = memos("schedule", notes, "--self-test", "--apply")
    assert done.code == 0, done.err
    assert "held-out wordings" in done.err
    for wrong in (["--self-test", "--policy", "lru"], ["--redistil"], ["--self-test", "--redistil"]):
        assert memos("schedule", notes, *wrong).code == 2
