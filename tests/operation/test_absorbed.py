"""What is archived as a duplicate stays in step with its source, and stands up when its heir is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memos_cli.interface import api, frame
from memos_cli.operation import merging
from tests.conftest import Memos

SAME = "The home town of Ana is Lindau."


def rows(cube: str = "team.cube") -> dict[str, Any]:
    """The memories of a cube by source and text."""
    return {f"{one.source.rpartition('/')[2]} {one.text}": one for one in api.memories(cube, everything=True)}


def put_together(cube: str = "team.cube") -> list[str]:
    """What `memos tidy --apply` does about what says the same."""
    with frame.changing(frame.desk(None), cube, "edit") as change:
        kept = change.memories.rows("valid_to is null", columns=merging.COLUMNS).to_pylist()
        found = merging.merges(kept).merges
        ids = merging.merge(change.memories, found, now=frame.now())
        change.commit({})
    return ids


@pytest.fixture
def merged(work: Path, home: Path, memos: Memos) -> tuple[str, str]:
    """A cube of two files that say one thing; the id that stays, and the one that was archived."""
    for name in ("a.md", "b.md"):
        (work / name).write_text(f"# {name}\n\n- {SAME}\n- Of {name} alone.\n")
        assert memos("ingest", "team.cube", name, "--embedder", "none").code == 0
    assert len(put_together()) == 2
    found = rows()
    return found[f"a.md {SAME}"].id, found[f"b.md {SAME}"].id


def test_one_stays_and_the_other_is_archived(merged: tuple[str, str], memos: Memos) -> None:
    stays, gone = (api.show_memory("team.cube", one) for one in merged)
    assert (stays.state, stays.valid_to, stays.superseded_as) == ("merged", None, "")
    assert (gone.state, gone.superseded_by, gone.superseded_as) == ("archived", stays.id, "duplicate")
    assert gone.valid_to
    assert [hit.id for hit in api.query("team.cube", "the home town of Ana").hits if hit.text == SAME] == [stays.id]
    assert memos("audit", "team.cube", "--deep").code == 0


@pytest.mark.long
def test_an_ingest_does_not_bring_it_in_again(merged: tuple[str, str], work: Path, memos: Memos) -> None:
    (work / "b.md").write_text(f"# b.md\n\n- New.\n- {SAME}\n- Of b.md alone.\n")
    memos("ingest", "team.cube", "b.md")
    found = rows()
    assert len(found) == 5
    gone = found[f"b.md {SAME}"]
    assert (gone.id, gone.state, gone.superseded_as, gone.line_start) == (merged[1], "archived", "duplicate", 4)
    assert memos("ingest", "team.cube", "b.md", "--type", "fact").code == 0
    assert rows()[f"b.md {SAME}"].state == "archived"


@pytest.mark.long
def test_it_stands_up_when_its_heir_is_gone(merged: tuple[str, str], work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("# a.md\n\n- Of a.md alone.\n")
    memos("ingest", "team.cube", "a.md")
    back = api.show_memory("team.cube", merged[1])
    assert (back.state, back.valid_to, back.superseded_by, back.superseded_as) == ("activated", None, "", "")
    assert [hit.id for hit in api.query("team.cube", "the home town of Ana").hits if hit.text == SAME] == [back.id]
    assert memos("audit", "team.cube", "--deep").code == 0


@pytest.mark.long
def test_of_several_one_stands_up_and_the_rest_stand_behind_it(
    merged: tuple[str, str], work: Path, memos: Memos
) -> None:
    (work / "c.md").write_text(f"# c.md\n\n- {SAME}\n")
    memos("ingest", "team.cube", "c.md")
    put_together()
    assert rows()[f"c.md {SAME}"].superseded_by == merged[0]
    (work / "a.md").write_text("Nothing of it.\n")
    memos("ingest", "team.cube", "a.md")
    found = rows()
    assert (found[f"b.md {SAME}"].state, found[f"b.md {SAME}"].superseded_by) == ("merged", "")
    assert (found[f"c.md {SAME}"].state, found[f"c.md {SAME}"].superseded_by) == ("archived", merged[1])


@pytest.mark.long
def test_when_both_sources_drop_it_neither_is_left(merged: tuple[str, str], work: Path, memos: Memos) -> None:
    for name in ("b.md", "a.md"):
        (work / name).write_text("Nothing of it.\n")
    memos("ingest", "team.cube", "b.md", "a.md")
    assert [one.text for one in api.memories("team.cube") if one.text == SAME] == []
    gone = api.show_memory("team.cube", merged[1])
    assert (gone.state, gone.superseded_as) == ("archived", "")


def test_who_forgets_one_is_told_of_the_other(merged: tuple[str, str], memos: Memos) -> None:
    done = memos("forget", "team.cube", "--ids", merged[0])
    assert merged[1] in done.err
    assert api.show_memory("team.cube", merged[1]).state == "archived"


@pytest.mark.many(1)
@pytest.mark.parametrize("which", [0, 1])
def test_a_purge_takes_what_it_stood_for(merged: tuple[str, str], which: int, memos: Memos) -> None:
    done = memos("forget", "team.cube", "--ids", merged[0], "--purge", "--yes")
    assert done.code == 0, done.err
    assert memos("show", "team.cube", merged[which]).code == 3


def test_closing_it_closes_what_it_stands_for(merged: tuple[str, str], memos: Memos) -> None:
    assert memos("edit", "team.cube", merged[0], "--sensitivity", "restricted").code == 0
    assert api.show_memory("team.cube", merged[1]).sensitivity == "restricted"


@pytest.mark.long
def test_it_goes_out_and_comes_in_as_it_is(merged: tuple[str, str], memos: Memos) -> None:
    assert memos("export", "team.cube", "-o", "out.jsonl", "--all").code == 0
    assert memos("ingest", "other.cube", "out.jsonl", "--embedder", "none").code == 0
    assert {id(one): one.superseded_as for one in rows("other.cube").values()}
    was, now = rows(), rows("other.cube")
    assert {key: (one.id, one.state, one.superseded_as) for key, one in was.items()} == {
        key: (one.id, one.state, one.superseded_as) for key, one in now.items()
    }
