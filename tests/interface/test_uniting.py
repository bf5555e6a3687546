"""`memos fuse`: two cubes into one, what is taken, who may see it, and what breaks it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation, parameter, probes
from memos_cli.infrastructure import origin
from memos_cli.interface import api, frame
from memos_cli.operation.marking import Marks
from tests.conftest import Begin, Memos, ok
from tests.cube import activations, adapters
from tests.cube.test_probes import probe
from tests.interface.people import People

PASSPORT, PHONE = "The passport of Ana is in the drawer.", "The phone number of Ana is 555 0101."


def texts(cube: str = "c.cube", **more: Any) -> dict[str, Any]:
    return {one.text: one for one in api.memories(cube, **more)}


def apart(memos: Memos) -> None:
    Path("a.md").write_text(f"- {PASSPORT}\n- {PHONE}\n- We met Ana.\n- To be taken out.\n")
    ok(memos("ingest", "a.cube", "a.md", "--embedder", "none"))
    ok(memos("init", "b.cube", "--from", "a.cube"))
    Path("mine.md").write_text("- The boat of Bela is blue.\n- We met Bela.\n")
    Path("theirs.md").write_text("- The boat of Bela is red.\n")
    ok(memos("ingest", "a.cube", "mine.md"))
    ok(memos("ingest", "b.cube", "theirs.md"))


@pytest.fixture
def two(begin: Begin) -> tuple[str, str]:
    """A cube and a copy of it, which then went their own ways."""
    begin(apart)
    return "a.cube", "b.cube"


def test_it_is_merged_three_ways(two: tuple[str, str], memos: Memos) -> None:
    first, second = two
    a, b = texts(first), texts(second)
    api.edit(first, a[PASSPORT].id, marks=Marks(topic="papers"))
    api.edit(second, b[PASSPORT].id, marks=Marks(tags=("home",)))
    api.edit(second, b[PHONE].id, text="The phone number of Ana is 555 0199.")
    api.forget(first, ids=[a["To be taken out."].id])
    done = memos("fuse", first, second, "-o", "c.cube", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert (told["base"], told["first"], told["second"], told["both"]) == ("a version 2 is b version 1", 2, 2, 4)
    found = texts()
    assert (found[PASSPORT].topic, found[PASSPORT].tags, found[PASSPORT].id) == ("papers", ("home",), a[PASSPORT].id)
    assert PHONE not in found
    assert "The phone number of Ana is 555 0199." in found
    assert "To be taken out." not in found
    assert found["The boat of Bela is blue."].source == "mine.md"
    assert memos("audit", "c.cube", "--deep").code == 0
    assert "fused of a version" in api.log("c.cube")[0].reason
    assert {one.text for one in api.query("c.cube", "boat of Bela").hits} >= {"The boat of Bela is red."}
    assert api.show(first).number == 5


def test_conflicts_are_told_with_both_sides_and_decided(two: tuple[str, str], memos: Memos) -> None:
    done = memos("fuse", *two, "-o", "c.cube", "--dry-run")
    assert done.code == 0, done.err
    assert not Path("c.cube").exists()
    assert "mine.md:1  The boat of Bela is blue." in done.out
    assert "theirs.md:1  The boat of Bela is red." in done.out
    assert "--resolve" in done.err
    assert memos("fuse", *two, "-o", "both.cube").code == 0
    assert {"The boat of Bela is blue.", "The boat of Bela is red."} <= texts("both.cube").keys()
    told = api.fuse_cubes(*two, "c.cube", resolve="newest")
    assert [one.why.startswith("remembered later") for one in told.conflicts] == [True]
    assert "The boat of Bela is blue." not in texts()
    assert texts(everything=True)["The boat of Bela is blue."].superseded_as == "conflict"
    asked = api.fuse_cubes(*two, "d.cube", resolve="ask", ask=lambda pair: pair.one.id)
    assert asked.conflicts[0].why == "you chose it"
    assert memos("fuse", *two, "-o", "e.cube", "--resolve", "ask").code == 2
    assert not Path("e.cube").exists()


@pytest.mark.long
def test_one_memory_in_two_new_wordings(two: tuple[str, str], work: Path, memos: Memos) -> None:
    first, second = two
    identity = texts(first)["We met Ana."].id
    api.edit(first, identity, text="We met Ana in May.")
    api.edit(second, identity, text="We met Ana in June.")
    told = api.fuse_cubes(*two, "c.cube", resolve="newest")
    (found,) = (one for one in told.conflicts if one.kind == "reworded")
    assert (found.one.text, found.other.text) == ("We met Ana in May.", "We met Ana in June.")
    assert "We met Ana in June." in texts()
    assert "We met Ana in May." not in texts()
    assert texts(everything=True)["We met Ana in May."].superseded_by == texts()["We met Ana in June."].id
    undecided = api.fuse_cubes(*two, "d.cube")
    (found,) = (one for one in undecided.conflicts if one.kind == "reworded")
    assert "first cube" in found.why
    assert "We met Ana in May." in texts("d.cube")
    (work / "a.md").write_text(f"- {PASSPORT}\n- {PHONE}\n- We met Ana.\n- Another.\n")
    for cube, kept in (("c.cube", "June"), ("d.cube", "May")):
        memos("ingest", cube, "a.md")
        assert f"We met Ana in {kept}." in texts(cube)
        assert len([text for text in texts(cube) if text.startswith("We met Ana")]) == 1
        assert memos("audit", cube, "--deep").code == 0


@pytest.mark.long
def test_sources_are_read_on_from_there(two: tuple[str, str], work: Path, memos: Memos) -> None:
    api.fuse_cubes(*two, "c.cube")
    ids = {one.id for one in api.memories("c.cube")}
    done = memos("ingest", "c.cube", "a.md", "mine.md", "theirs.md", "--json")
    assert done.code == 0, done.err
    assert {one.id for one in api.memories("c.cube")} == ids
    assert api.show("c.cube").sources == 3


def test_what_was_forgotten_for_good_stays_out(two: tuple[str, str], memos: Memos) -> None:
    first, second = two
    assert memos("forget", first, "--ids", texts(first)[PASSPORT].id, "--purge", "--yes").code == 0
    told = api.fuse_cubes(first, second, "c.cube")
    assert PASSPORT not in texts(everything=True)
    assert told.refused == 1
    memos("ingest", "c.cube", "a.md")
    assert PASSPORT not in texts()


@pytest.mark.long
def test_words_that_are_gone_are_in_no_window_of_a_neighbour(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("One stands here.\n\nThe xylophone is in the cellar.\n\nThree stands there.\n")
    memos("ingest", "a.cube", "a.md", "--embedder", "none")
    memos("init", "b.cube", "--from", "a.cube")
    gone = next(one for one in api.memories("a.cube") if "xylophone" in one.text)
    assert memos("forget", "a.cube", "--ids", gone.id, "--purge", "--yes").code == 0
    assert api.fuse_cubes("a.cube", "b.cube", "c.cube").refused == 1
    assert not any(b"xylophone" in path.read_bytes() for path in Path("c.cube").rglob("*") if path.is_file())
    assert any(b"xylophone" in path.read_bytes() for path in Path("b.cube").rglob("*") if path.is_file())
    assert api.query("c.cube", "the xylophone in the cellar").hits == ()


def test_labels_scopes_and_holds_are_not_widened(two: tuple[str, str], memos: Memos) -> None:
    first, second = two
    a = texts(first)
    memos("edit", first, a[PASSPORT].id, "--sensitivity", "confidential")
    memos("edit", second, a[PHONE].id, "--read-scope", "owner", "--hold")
    memos("edit", second, "--sensitivity", "restricted", "--share-scope", "owner", "--read-scope", "owner")
    told = api.fuse_cubes(first, second, "c.cube")
    assert (told.sensitivity, told.share_scope) == ("restricted", "owner")
    found = texts()
    assert found[PASSPORT].sensitivity == "restricted"
    assert (found[PHONE].read_scope, found[PHONE].legal_hold) == ("owner", True)
    # what only the cube with the lower label had keeps that label
    assert found["The boat of Bela is blue."].sensitivity == "internal"
    assert found["The boat of Bela is red."].sensitivity in ("", "restricted")
    assert api.show("c.cube").read_scope == "owner"


def test_a_stranger_gets_what_may_be_shared_and_no_more(
    two: tuple[str, str], home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    stranger = People(home, memos, monkeypatch)("stranger")
    assert stranger.run("fuse", first, second, "-o", "c.cube").code == 5
    assert not Path("c.cube").exists()
    for cube in two:
        memos("edit", cube, "--share-scope", "anyone")
    a = texts(first)
    memos("edit", first, a[PASSPORT].id, "--read-scope", "owner")
    memos("edit", second, a[PASSPORT].id, "--read-scope", "owner")
    api.forget(second, ids=[a[PHONE].id])
    done = stranger.run("fuse", first, second, "-o", "c.cube", "--json")
    assert done.code == 0, done.err
    assert done.json["base"] == ""
    said = stranger.run("list", "c.cube", "--all").out
    assert PASSPORT not in said
    assert json.loads(stranger.run("show", "c.cube", "--json").out)["owner"] == stranger.key
    assert not any(PASSPORT.encode() in path.read_bytes() for path in Path("c.cube").rglob("*") if path.is_file())


def test_the_less_trusted_of_the_two_decides(two: tuple[str, str], home: Path) -> None:
    came = origin.Origin("file:///x", "b", "0.1.0", "sha256:" + "0" * 64, "", "x", "2026-01-01")
    origin.write(Path("b.cube"), replace(came, holder=api.show("b.cube").owner))
    api.fuse_cubes(*two, "c.cube")
    found = origin.read(Path("c.cube"))
    assert found
    assert not found.trusted
    told = api.fuse_cubes(*two, "d.cube", resolve="trust")
    assert [one.why for one in told.conflicts] == ["the user said it, of the other it was fetched"]
    assert "The boat of Bela is red." not in texts("d.cube")


def test_what_cannot_be_is_refused(two: tuple[str, str], work: Path, memos: Memos) -> None:
    first, second = two
    assert memos("fuse", first, first, "-o", "c.cube").code == 2
    assert memos("fuse", first, second, "-o", second).code == 2
    assert memos("fuse", first, "none.cube", "-o", "c.cube").code == 3
    assert memos("fuse", first, second, "-o", "c.cube", "--resolve", "loudest").code == 2
    assert memos("fuse", first, second).code == 2
    assert not Path("c.cube").exists()


@pytest.mark.long
def test_cubes_that_share_nothing_are_put_side_by_side(work: Path, memos: Memos) -> None:
    for name in "ab":
        (work / f"{name}.md").write_text(f"- A thought of {name}.\n")
        memos("ingest", f"{name}.cube", f"{name}.md", "--embedder", "none")
    told = api.fuse_cubes("a.cube", "b.cube", "c.cube", name="both", description="Of two.")
    assert (told.base, told.first, told.second, told.both, told.conflicts) == ("", 1, 1, 0, ())
    assert (api.show("c.cube").name, api.show("c.cube").description) == ("both", "Of two.")


def taught(cube: str, home: Path, ids: dict[str, str], **names: tuple[str, ...]) -> None:
    """Caches and questions of all memories, and adapters by name that were taught these texts."""
    with frame.changing(frame.desk(home), cube, "distill") as change:
        (change.path / activation.FOLDER).mkdir()
        for text, identity in ids.items():
            head = activations.header(memory=identity, content=parameter.content_of(text))
            activations.write(change.path / activation.FOLDER, head)
            probes.append(change.path / "plaintext", [probe(identity, answer=f"about {text}")])
        (change.path / "made").mkdir()
        for name, texts in names.items():
            told = tuple(adapters.source(ids[text], text=text) for text in texts)
            adapters.write(change.path / "parameter", name, sources=told, seed=len(name))
        shutil.rmtree(change.path / "made")
        change.commit({})


@pytest.mark.long
def test_what_was_made_of_memories_goes_along_where_they_are_the_same(two: tuple[str, str], home: Path) -> None:
    first, second = two
    a, b = ({text: one.id for text, one in texts(cube).items()} for cube in two)
    taught(first, home, a, papers=(PASSPORT, PHONE), met=("We met Ana.",))
    taught(second, home, b, boat=("The boat of Bela is red.",), papers=(PASSPORT,))
    api.edit(second, b[PHONE], text="The phone number of Ana is 555 0199.")
    told = api.fuse_cubes(first, second, "c.cube", resolve="newest")
    assert PHONE not in texts()
    assert (told.adapters, told.caches) == (("met", "boat", "papers"), 5)
    left = " ".join(told.notes)
    assert "adapter papers of a: not all that it was taught is the same" in left
    assert "2 caches of a" in left
    with frame.reading(frame.desk(home), "c.cube", "show") as seen:
        assert {activation.memory_of(path) for path in activation.find(seen.path / activation.FOLDER)} == {
            one.id for text, one in texts().items() if text in {**a, **b}
        }
        assert {one.memory_id for one in probes.read(seen.path / "plaintext")} <= {one.id for one in texts().values()}
        assert seen.cube.forms == ("plaintext", "activation", "parameter")
    assert not [one for one in api.audit("c.cube", deep=True).findings if one.severity == "damage"]


@pytest.mark.long
def test_vectors_of_another_embedder_are_made_anew(work: Path, memos: Memos) -> None:
    for name, embedder in (("a", "minilm"), ("b", "none")):
        (work / f"{name}.md").write_text(f"- A thought of {name} on gardens.\n")
        assert memos("ingest", f"{name}.cube", f"{name}.md", "--embedder", embedder).code == 0
    done = memos("fuse", "a.cube", "b.cube", "-o", "words.cube")
    assert (done.code, api.show("words.cube").embedder) == (0, None)
    assert "--embedder minilm" in done.err
    done = memos("fuse", "b.cube", "a.cube", "-o", "both.cube", "--embedder", "minilm")
    assert done.code == 0, done.err
    assert "made anew with" in done.err
    found = api.query("both.cube", "what do they think of a park?", mode="vector")
    assert len(found.hits) == 2
    assert all(hit.signals for hit in found.hits)
    assert memos("audit", "both.cube", "--deep").code == 0


@pytest.mark.parametrize("verb", ["fuse", "init"])
def test_what_came_from_elsewhere_is_not_believed_though_its_copy_was_cut_short(
    two: tuple[str, str], memos: Memos, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    from memos_cli.infrastructure import faults

    came = origin.Origin("file:///x", "b", "0.1.0", "sha256:" + "0" * 64, "", "x", "2026-01-01")
    origin.write(Path("b.cube"), replace(came, holder=api.show("b.cube").owner))
    words = ["fuse", *two, "-o", "c.cube"] if verb == "fuse" else ["init", "c.cube", "--from", "b.cube"]
    monkeypatch.setenv("MEMOS_FAULT", "committed:eio")
    faults.reset()
    assert memos(*words).code != 0
    monkeypatch.delenv("MEMOS_FAULT")
    assert texts("c.cube")
    found = origin.read(Path("c.cube"))
    assert found
    assert not found.trusted


def test_what_a_killed_fuse_left_is_made_anew_and_nothing_else_is(two: tuple[str, str], memos: Memos) -> None:
    left = Path("c.cube")
    (left / "staging").mkdir(parents=True)
    (left / "versions" / "0000001-00").mkdir(parents=True)
    assert memos("fuse", *two, "-o", left).code == 2, "versions that nobody began to make"
    (left / "staging" / "creating").write_bytes(b"")
    (left / "mine.txt").write_text("mine")
    assert memos("fuse", *two, "-o", left).code == 2
    (left / "mine.txt").unlink()
    # of a cube that was to come from elsewhere, which this one does not
    origin.write(left, origin.Origin("file:///x", "b", "0.1.0", "", "", "x", "2026-01-01"))
    done = memos("fuse", *two, "-o", left)
    assert done.code == 0, done.err
    assert origin.read(left) is None
    assert memos("fuse", *two, "-o", left).code == 2
