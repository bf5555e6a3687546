"""Links between memories: where they come from, who sees them, and that they go with what they lead to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import links
from memos_cli.interface import api
from memos_cli.operation.audit import audit
from memos_cli.operation.marking import Marks
from tests.conftest import Begin, Memos, ok
from tests.interface.people import People

GUIDE = "# Release process\n\nWe tag on Fridays.\n\nThe pipeline takes an hour.\n\n# Rota\n\nAna is first.\n"
NOTES = "# Notes\n\nAsk before the release process begins.\n\nThe phone of Ana is 555 0101.\n"


def guide(memos: Memos) -> None:
    Path("guide.md").write_text(GUIDE)
    Path("notes.md").write_text(NOTES)
    ok(memos("ingest", "me.cube", "guide.md", "notes.md", "--embedder", "none"))


@pytest.fixture
def cube(begin: Begin) -> str:
    begin(guide)
    return "me.cube"


@pytest.fixture
def people(home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> People:
    return People(home, memos, monkeypatch)


def stored(cube: str, kind: str = "") -> list[links.Link]:
    return links.read(Path(cube) / "current" / "plaintext", kind=kind)


def ids(cube: str, everything: bool = False) -> dict[str, str]:
    return {one.text: one.id for one in api.memories(cube, everything=everything)}


def shown(cube: str, identity: str) -> set[tuple[str, str, str]]:
    return {(one.kind, one.way, one.text) for one in api.show_memory(cube, identity).links}


def sound(cube: str) -> bool:
    return not [one for one in audit(Path(cube).resolve(), deep=True).findings if one.severity != "notice"]


def test_an_ingest_links_what_names_a_heading(cube: str) -> None:
    known = ids(cube)
    (one,) = stored(cube)
    ask, tag = known["Ask before the release process begins."], known["We tag on Fridays."]
    assert (one.from_id, one.to_id, one.kind, one.why) == (ask, tag, "mentions", "Release process")
    assert ("mentions", "to", "We tag on Fridays.") in shown(cube, ask)
    assert ("mentions", "from", "Ask before the release process begins.") in shown(cube, tag)
    assert ("follows", "from", "The pipeline takes an hour.") in shown(cube, tag)
    assert sound(cube)


def test_a_link_is_shown_on_a_line(cube: str, memos: Memos) -> None:
    done = memos("show", cube, ids(cube)["We tag on Fridays."])
    assert any(line.startswith("link\tmentioned by ") and "notes.md:3" in line for line in done.lines), done.out
    told = memos("show", cube, ids(cube)["We tag on Fridays."], "--json").json
    assert [one["made_by"] for one in told["links"]] == ["ingest", "columns"]


def test_the_order_of_ingests_does_not_matter(cube: str, work: Path, memos: Memos) -> None:
    for name in ("notes.md", "guide.md"):
        assert memos("ingest", "other.cube", name, "--embedder", "none").code == 0
    assert [one.key for one in stored("other.cube")] == [one.key for one in stored(cube)]
    before = (Path("other.cube/current/plaintext") / links.FILE).read_bytes()
    (work / "third.md").write_text("Nothing of it.\n")
    memos("ingest", "other.cube", "third.md")
    assert (Path("other.cube/current/plaintext") / links.FILE).read_bytes() == before


def test_links_follow_what_changes(cube: str, work: Path, memos: Memos) -> None:
    (work / "guide.md").write_text(GUIDE.replace("We tag on Fridays.", "We tag on Mondays."))
    memos("ingest", cube, "guide.md")
    known = ids(cube)
    assert [one.to_id for one in stored(cube)] == [known["We tag on Mondays."]]
    (work / "notes.md").write_text("# Notes\n\nNothing.\n")
    memos("ingest", cube, "notes.md")
    assert stored(cube) == []
    assert not (Path(cube) / "current/plaintext" / links.FILE).exists()
    api.edit(cube, ids(cube)["Nothing."], text="The release process is long.")
    assert [one.why for one in stored(cube)] == ["Release process"]
    assert sound(cube)


@pytest.mark.long
def test_what_columns_tell_is_not_stored(cube: str, work: Path, memos: Memos) -> None:
    old = ids(cube)["Ana is first."]
    new = api.edit(cube, old, text="Bela is first.").ids[0]
    assert ("supersedes", "to", "Ana is first.") in shown(cube, new)
    assert ("supersedes", "from", "Bela is first.") in shown(cube, old)
    (work / "copy.md").write_text("The pipeline takes an hour.\n\nThe pipeline takes an hour.\n")
    memos("ingest", "copy.cube", "copy.md", "--embedder", "none")
    told = api.tidy("copy.cube", apply=True)
    (joined,) = told.merges
    assert ("derived-from", "to", joined.stays.text) in shown("copy.cube", joined.stays.id)
    assert stored("copy.cube") == []


def test_links_go_with_a_purge_and_leave_no_word(cube: str) -> None:
    tag = ids(cube)["We tag on Fridays."]
    api.forget(cube, ids=[tag])
    assert not any("Fridays" in text for _, _, text in shown(cube, ids(cube)["Ask before the release process begins."]))
    api.purge(cube, ids=[tag])
    assert tag not in {end for one in stored(cube) for end in one.ends}
    assert sound(cube)


def test_who_may_not_see_an_end_sees_no_link(cube: str, people: People) -> None:
    bob = people("bob")
    known = ids(cube)
    api.edit(cube, known["We tag on Fridays."], marks=Marks(read_scope="owner"))
    done = bob.run("show", cube, known["Ask before the release process begins."], "--json")
    assert done.code == 0, done.err
    assert [one["kind"] for one in done.json["links"]] == ["follows"]
    assert "Fridays" not in done.out


@pytest.mark.long
def test_a_part_of_a_cube_carries_the_links_within_it(cube: str, memos: Memos) -> None:
    assert memos("init", "whole.cube", "--from", cube).code == 0
    assert stored("whole.cube") == stored(cube)
    api.edit(cube, ids(cube)["We tag on Fridays."], marks=Marks(sensitivity="confidential"))
    for name, level in (("all.memcube", ()), ("some.memcube", ("--redact", "internal"))):
        done = memos("pack", cube, "-o", name, "--forms", "plaintext", *level)
        assert done.code == 0, done.err
        assert memos("unpack", name, f"{name}.cube").code == 0
    assert stored("all.memcube.cube") == stored(cube)
    assert stored("some.memcube.cube") == []


def test_a_rollback_and_a_diff_know_them(cube: str, work: Path, memos: Memos) -> None:
    (work / "notes.md").write_text("Nothing.\n")
    memos("ingest", cube, "notes.md")
    told = api.diff(cube, 2)
    assert (told.links_added, told.links_removed) == (0, 1)
    api.rollback(cube, 2)
    assert len(stored(cube)) == 1


def test_an_audit_finds_links_that_cannot_be(cube: str) -> None:
    directory = Path(cube) / "current" / "plaintext"
    (one,) = stored(cube)
    wrong = [
        links.Link(one.from_id, "0" * 20, "mentions", "x", 1.0, "ingest", one.made_at),
        links.Link(one.from_id, one.from_id, "mentions", "x", 1.0, "ingest", one.made_at),
        links.Link(one.from_id, one.to_id, "likes", "x" * 900, 9.0, "nobody", one.made_at),
    ]
    from memos_cli.operation import audit_links

    path = directory / links.FILE
    path.unlink()
    path.write_bytes(links.encode([one, *wrong]))
    found = {each.code for each in audit_links.check(directory.parent, deep=True, remedy="")}
    assert found == {"link-dangling", "link-end", "link-kind", "link-maker", "link-size"}
    path.write_bytes(b"no table")
    assert [each.code for each in audit_links.check(directory.parent, deep=True, remedy="")] == ["links"]


def conflicting(cube: str, *texts: str) -> None:
    for text in texts:
        api.ingest(cube, ["-"], stdin=io.BytesIO(f"- {text}\n".encode()), format="markdown", embedder="none")


def test_what_cannot_both_hold_is_noted_and_a_decision_is_kept(work: Path, home: Path) -> None:
    conflicting("a.cube", "The phone number of Ana is 555 0101.", "The phone number of Ana is 555 0199.")
    told = api.tidy("a.cube", apply=True)
    assert (told.applied, told.number) == (True, 4)
    (one,) = stored("a.cube", "contradicts")
    assert (one.made_by, one.why, one.is_decision) == ("tidy", "two values", False)
    assert api.tidy("a.cube", apply=True).applied is False
    asked: list[Any] = []

    def both(pair: Any) -> str:
        asked.append(pair)
        return ""

    told = api.tidy("a.cube", resolve="ask", ask=both, apply=True)
    assert (told.applied, len(asked), told.conflicts[0].why) == (True, 1, "you kept both")
    assert [each.is_decision for each in stored("a.cube")] == [True]
    told = api.tidy("a.cube", resolve="ask", ask=both, apply=True)
    assert (told.applied, len(asked)) == (False, 1)
    assert told.conflicts[0].kept
    assert told.conflicts[0].why.startswith("you kept both on ")
    assert api.tidy("a.cube", resolve="newest", apply=True).applied is False
    assert len(ids("a.cube")) == 2
    told = api.tidy("a.cube", resolve="ask", ask=lambda pair: pair.one.id, again=True, apply=True)
    assert len(told.archived) == 1
    assert stored("a.cube") == []
    assert sound("a.cube")


@pytest.mark.long
def test_a_decision_shows_where_it_is_asked_for(work: Path, memos: Memos) -> None:
    conflicting("a.cube", "The phone number of Ana is 555 0101.", "The phone number of Ana is 555 0199.")
    api.tidy("a.cube", resolve="ask", ask=lambda pair: "", apply=True)
    done = memos("tidy", "a.cube", "--resolve", "newest")
    assert done.lines == []
    assert "--again" in done.err
    assert len(memos("tidy", "a.cube", "--all").lines) == 2
    assert ("contradicts", "to", "The phone number of Ana is 555 0199.") in shown(
        "a.cube", ids("a.cube")["The phone number of Ana is 555 0101."]
    )


@pytest.mark.long
def test_a_fused_cube_has_the_links_of_both(cube: str, work: Path, memos: Memos) -> None:
    (work / "third.md").write_text("# Third\n\nThe release process is new.\n")
    assert memos("ingest", "b.cube", "third.md", "--embedder", "none").code == 0
    assert memos("fuse", cube, "b.cube", "-o", "c.cube").code == 0
    known = ids("c.cube")
    found = {(one.from_id, one.to_id) for one in stored("c.cube")}
    tag = known["We tag on Fridays."]
    assert found == {
        (known["Ask before the release process begins."], tag), (known["The release process is new."], tag),
    }  # fmt: skip
    assert sound("c.cube")


def test_a_query_tells_what_contradicts_a_hit(work: Path, memos: Memos) -> None:
    phones = ("The phone number of Ana is 555 0101.", "The phone number of Ana is 555 0199.")
    conflicting("a.cube", phones[0], "The phone number of Bela and of the garden is 1.", phones[1])
    api.tidy("a.cube", apply=True)
    told = api.query("a.cube", "phone number of Ana", embedder="none")
    assert {one.text for one in told.hits[:2]} == set(phones)
    assert [one.contradicts[0].text for one in told.hits[:2]] == [told.hits[1].text, told.hits[0].text]
    done = memos("query", "a.cube", "phone number of Ana", "-k", "1")
    assert "555 0199" in done.out
    assert "555 0101" in done.out
    api.forget("a.cube", ids=[told.hits[1].id])
    assert not api.query("a.cube", "phone number of Ana", embedder="none").hits[0].contradicts


def test_a_link_that_raised_a_hit_is_told(cube: str, memos: Memos) -> None:
    told = api.query(cube, "what comes before the release?", embedder="none", explain=True)
    (ask,) = (one for one in told.hits if one.text.startswith("Ask before"))
    (tag,) = (one for one in told.hits if one.text.startswith("We tag"))
    assert (ask.signals["linked"], tag.signals["linked"]) == (0.25, 0.25)
    why = {one.id: one.why for one in told.candidates}
    assert "mentions what ranks high" in why[tag.id]


@pytest.mark.long
def test_what_was_superseded_stands_below_its_heir(cube: str, memos: Memos) -> None:
    assert memos("init", "new.cube", "--from", cube).code == 0
    old = ids(cube)["Ana is first."]
    new = api.edit("new.cube", old, text="Ana is first on the rota no more, but Bela is.").ids[0]
    told = api.query(cube, "who is first? Ana", also=["new.cube"], k=10, embedder="none")
    order = [one.id for one in told.hits]
    assert order.index(new) + 1 == order.index(old)
