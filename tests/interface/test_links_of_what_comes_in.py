"""Memories that come in by another door than an ingest of their source have links too: accepted, restored, carried."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import links
from memos_cli.errors import Damaged
from memos_cli.interface import api, frame
from memos_cli.interface.frame import PLAINTEXT
from memos_cli.operation import mentionable, mentioning
from memos_cli.operation.marking import Marks
from tests.conftest import Memos
from tests.interface.people import People
from tests.interface.samples import json_lines
from tests.interface.test_linking import conflicting, cube, ids, people, shown, sound, stored

__all__ = ["cube", "people"]
PHONES = ("The phone number of Ana is 555 0101.", "The phone number of Ana is 555 0199.")


def ends(cube: str) -> set[tuple[str, str]]:
    """Who mentions whom, by words."""
    words = {one.id: one.text for one in api.memories(cube, everything=True)}
    return {(words[one.from_id], words[one.to_id]) for one in stored(cube, "mentions")}


ASKED = ("Ask before the release process begins.", "We tag on Fridays.")


def waiting(cube: str, text: str) -> str:
    """The id of a memory that a model wrote, and that waits."""
    api.ingest_text(cube, text, format="markdown", written_by="agent")
    (one,) = api.memories(cube, where="state=generated", everything=True)
    return one.id


@pytest.mark.parametrize("most", [4096, -1], ids=["read at once", "asked for"])
def test_what_is_accepted_has_links_both_ways(cube: str, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(mentionable, "MOST_AT_ONCE", most)
    api.ingest_text(cube, "Look at the fire drill before you leave.", format="markdown")
    one = waiting(cube, "# Fire drill\n\nThe release process stops for it.\n")
    assert ends(cube) == {ASKED}
    api.edit(cube, one, accept=True)
    text = "The release process stops for it."
    assert ends(cube) == {ASKED, (text, ASKED[1]), ("Look at the fire drill before you leave.", text)}
    assert ("mentions", "from", "Look at the fire drill before you leave.") in shown(cube, one)
    assert sound(cube)


def test_what_is_accepted_in_other_words_has_the_links_of_these(cube: str) -> None:
    api.ingest_text(cube, "Look at the fire drill before you leave.", format="markdown")
    one = waiting(cube, "# Fire drill\n\nNothing of note.\n")
    api.edit(cube, one, text="The release process stops.")
    new = "The release process stops."
    assert ends(cube) == {ASKED, (new, ASKED[1]), ("Look at the fire drill before you leave.", new)}


def test_what_is_accepted_into_a_large_cube_is_linked_within_its_source(
    cube: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Of today.\n\n# Fire drill\n\nThe bell rings.\n\n# Evening\n\nThe fire drill was loud.\n"
    api.ingest_text(cube, text, format="markdown", written_by="agent")
    found = [one.id for one in api.memories(cube, where="state=generated", everything=True)]
    monkeypatch.setattr(mentioning, "MOST_ROWS", 4)
    api.edit(cube, found, accept=True)
    assert ends(cube) == {ASKED, ("The fire drill was loud.", "The bell rings.")}


def test_a_source_of_too_many_memories_is_counted_and_not_read(cube: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mentioning, "MOST_ROWS", 4)
    monkeypatch.setattr(mentionable, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(mentionable.Rows, "of", lambda rows, uris: pytest.fail("its rows were read"))
    before = ends(cube)
    api.ingest_text(cube, "\n\n".join(f"Look at the fire drill {n}." for n in range(9)), format="markdown")
    assert ends(cube) == before
    assert sound(cube)


def test_what_is_set_aside_is_mentioned_no_more_and_again_when_it_is_back(cube: str, work: Path, memos: Memos) -> None:
    ask, tag = (ids(cube)[text] for text in ASKED)
    api.edit(cube, tag, archive=True)
    # the next below the heading is meant now
    assert ends(cube) == {(ASKED[0], "The pipeline takes an hour.")}
    (work / "third.md").write_text("Nothing of it.\n")
    memos("ingest", cube, "third.md")
    api.edit(cube, [ask], archive=True)
    assert ends(cube) == set()
    api.edit(cube, [ask, tag], archive=False)
    assert ends(cube) == {ASKED}
    assert sound(cube)


def test_what_a_schedule_sets_aside_is_mentioned_no_more(cube: str) -> None:
    from memos_cli.interface import archiving

    tag = ids(cube)[ASKED[1]]
    assert archiving.archive(frame.desk(None), cube, [tag], reason="", lock_timeout=9) == (tag,)
    assert ends(cube) == {(ASKED[0], "The pipeline takes an hour.")}


def test_what_had_expired_and_gets_another_end_is_linked(cube: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ids(cube)[ASKED[0]]
    api.edit(cube, ask, marks=Marks(ttl_days=1))
    monkeypatch.setattr(frame, "now", lambda: datetime.now(UTC) + timedelta(days=2))
    assert api.gc(cube, keep=99).expired == (ask,)
    api.reindex(cube)
    assert ends(cube) == set()
    api.edit(cube, ask, marks=Marks(ttl_days=9))
    assert ends(cube) == {ASKED}


def test_a_duplicate_that_stands_up_has_the_links_of_the_one_that_went(work: Path, memos: Memos) -> None:
    for name in ("way-out.md", "way-home.md"):
        (work / name).write_text(f"- The home town of Ana is Lindau.\n- Of {name[:-3]} alone.\n")
    (work / "c.md").write_text("It stands in way-out.md, or it stands in way-home.md.\n")
    memos("ingest", "d.cube", "way-out.md", "way-home.md", "c.md", "--embedder", "none")
    assert len(stored("d.cube")) == 2
    (joined,) = api.tidy("d.cube", apply=True).merges
    assert joined.same[0].memory.id not in {one.to_id for one in stored("d.cube")}
    gone = joined.stays.place.partition(":")[0]
    (work / gone).write_text("It burnt.\n")
    memos("ingest", "d.cube", gone)
    assert joined.same[0].memory.id in {one.to_id for one in stored("d.cube")}
    assert len(stored("d.cube")) == 2
    assert sound("d.cube")


def test_a_cube_of_an_older_format_has_links_when_it_is_brought_up(work: Path, memos: Memos) -> None:
    old = work / "old.cube"
    old.mkdir()
    (old / "memcube.toml").write_text('format_version = 0\nname = "old"\ncreated = 2025-01-01T00:00:00Z\n')
    told = {"guide.md": "We tag on Fridays.", "notes.md": "It stands in guide.md."}
    rows = [{"id": name, "text": text, "source": name, "created": None} for name, text in told.items()]
    (old / "memories.jsonl").write_text(json_lines(*rows))
    assert memos("migrate", "old.cube", "--embedder", "none").code == 0
    assert ends("old.cube") == {("It stands in guide.md.", "We tag on Fridays.")}


# --- out as JSON lines, and in again


def carried(cube: str, other: str, *more: str, memos: Memos) -> None:
    assert memos("export", cube, "-o", "out.jsonl", "--yes", *more).code == 0
    assert memos("ingest", other, "out.jsonl", "--embedder", "none").code == 0


def test_what_memories_mention_is_found_again_where_they_are_carried(cube: str, memos: Memos) -> None:
    carried(cube, "new.cube", memos=memos)
    assert [one.key for one in stored("new.cube")] == [one.key for one in stored(cube)] != []
    # what was there before mentions what comes
    api.init("third.cube", embedder="none")
    api.ingest_text("third.cube", "Before the release process begins.", format="markdown")
    carried(cube, "third.cube", memos=memos)
    assert ends("third.cube") == {ASKED, ("Before the release process begins.", ASKED[1])}
    assert sound("third.cube")


@pytest.fixture
def decided(work: Path, home: Path) -> str:
    """A cube with two pairs that cannot both hold, of one of which somebody keeps both."""
    conflicting("a.cube", *PHONES)
    api.tidy("a.cube", resolve="ask", ask=lambda pair: "", apply=True)
    conflicting("a.cube", "The badge of Bo is 12.", "The badge of Bo is 15.")
    api.tidy("a.cube", apply=True)
    assert sorted(one.made_by for one in stored("a.cube", "contradicts")) == ["person", "tidy"]
    return "a.cube"


def test_what_was_found_and_decided_travels(decided: str, memos: Memos) -> None:
    carried(decided, "b.cube", memos=memos)
    assert stored("b.cube") == stored(decided)
    assert sound("b.cube")
    told = api.tidy("b.cube", resolve="ask", ask=lambda pair: pytest.fail("asked again") if PHONES[0] in (
        pair.one.text, pair.other.text) else "", apply=True)  # fmt: skip
    assert {one.kept for one in told.conflicts} == {True}
    # and comes out as it went in
    first = Path("out.jsonl").read_text()
    carried(decided, "c.cube", memos=memos)
    again = [json.loads(line) for line in memos("export", "c.cube").lines]
    wanted = [json.loads(line) for line in first.splitlines()]
    assert [line.get("contradicts") for line in again] == [line.get("contradicts") for line in wanted]
    assert sum("contradicts" in line for line in again) == 2


def test_a_line_says_what_its_memory_contradicts(decided: str, memos: Memos) -> None:
    lines = [json.loads(line) for line in memos("export", decided).lines]
    (one, other) = (line for line in lines if line["text"] in PHONES)
    first, second = sorted((one, other), key=lambda line: line["id"])
    (said,) = first["contradicts"]
    assert (said["id"], said["why"], said["made_by"]) == (second["id"], "both stay", "person")
    assert "contradicts" not in second
    alone = json.loads(memos("export", decided, "--ids", first["id"]).out)
    assert "contradicts" not in alone, "the other does not go along"
    for form, places in (("markdown", ()), ("memos", ("-o", "theirs"))):
        done = memos("export", decided, "--to", form, *places, "--dry-run", "--json").json
        assert [(one["kind"], one["count"]) for one in done["losses"] if one["field"] == "contradicts"] == [("link", 2)]


LINE: dict[str, Any] = {"memos": 1, "id": "0" * 20, "text": "It is one.", "source": "a.md", "state": "activated"}
OTHER = {**LINE, "id": "1" * 20, "text": "It is two."}
AGAINST = {"id": "1" * 20, "why": "two values", "made_by": "tidy", "made_at": "2026-01-01T00:00:00Z"}
WRONG: dict[str, Any] = {
    "no list": "x", "no object": ["x"], "id": [{**AGAINST, "id": "../x"}], "itself": [{**AGAINST, "id": "0" * 20}],
    "maker": [{**AGAINST, "made_by": "ingest"}], "why": [{**AGAINST, "why": "x" * 201}], "no why": [{"id": "1" * 20}],
    "time": [{**AGAINST, "made_at": "yesterday"}], "numbers": [{**AGAINST, "id": 7, "why": None}],
}  # fmt: skip


@pytest.mark.parametrize("harm", WRONG)
def test_a_line_with_a_wrong_contradiction_is_refused(work: Path, memos: Memos, harm: str) -> None:
    (work / "in.jsonl").write_text(json_lines({**LINE, "contradicts": WRONG[harm]}, OTHER))
    done = memos("ingest", "b.cube", "in.jsonl", "--embedder", "none")
    assert (done.code, "line 1" in done.err) == (Damaged.exit_code, True), done.err
    assert not Path("b.cube").exists()


def test_a_line_adds_no_word_to_what_is_there_and_leads_nowhere_else(work: Path, memos: Memos) -> None:
    (work / "first.jsonl").write_text(json_lines(LINE, OTHER))
    memos("ingest", "b.cube", "first.jsonl", "--embedder", "none")
    (work / "in.jsonl").write_text(json_lines({**LINE, "contradicts": [AGAINST]}, OTHER))
    memos("ingest", "b.cube", "in.jsonl")
    assert stored("b.cube") == []
    odd = [{**AGAINST, "id": "9" * 20}, {**AGAINST, "why": "\ud800\0"}, AGAINST]
    third = {**LINE, "id": "2" * 20, "text": "It is three.", "contradicts": odd}
    (work / "in.jsonl").write_text(json_lines(third))
    done = memos("ingest", "b.cube", "in.jsonl")
    assert "1 contradictions are left out" in done.err
    assert [one.key for one in stored("b.cube")] == [("1" * 20, "2" * 20, "contradicts")]
    assert sound("b.cube")
    with frame.reading(frame.desk(None), "b.cube", "show") as seen:
        assert links.read(seen.path / PLAINTEXT)[0].why == "\ufffd\ufffd"


@pytest.mark.parametrize("closed", [False, True])
def test_who_may_not_change_a_memory_says_not_what_contradicts_it(people: People, work: Path, closed: bool) -> None:
    ana, bob = people("ana"), people("bob")
    (work / "first.jsonl").write_text(json_lines(OTHER))
    scopes = ("--read-scope", "anyone", "--write-scope", "anyone")
    assert ana.run("init", "b.cube", *scopes, "--embedder", "none").code == 0
    assert ana.run("ingest", "b.cube", "first.jsonl").code == 0
    if closed:
        assert ana.run("edit", "b.cube", "1" * 20, "--read-scope", "owner").code == 0
    (work / "in.jsonl").write_text(json_lines({**LINE, "source": "b.md", "contradicts": [AGAINST]}))
    done = bob.run("ingest", "b.cube", "in.jsonl")
    assert done.code == 0, done.err
    assert len(stored("b.cube", "contradicts")) == (not closed)
