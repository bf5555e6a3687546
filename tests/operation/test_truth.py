"""When memories are true: by their words, by hand, by a conflict that was decided; and asking for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.errors import Usage
from memos_cli.interface import api
from memos_cli.operation.marking import Marks
from memos_cli.operation.truth import said
from tests.conftest import Begin, Memos, ok


def day(year: int, month: int = 1, date: int = 1) -> datetime:
    return datetime(year, month, date, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("Since March 2024 the rent is 950 euro.", day(2024, 3), None),
        ("- Ana lives in Bregenz since 2024", day(2024), None),
        ("Ana lived in Lindau until 2023.", None, day(2024)),
        ("Ana lived in Lindau from 2019 to 2023.", day(2019), day(2024)),
        ("Ana worked at Acme (from 2019-03 to 2020-12).", day(2019, 3), day(2021)),
        ("From 2021-05-01 on, the door is open.", day(2021, 5), None),
        ("Effective 12 May 2025, Bela leads the team.", day(2025, 5, 12), None),
        ("The fair ran until 31 December 2025.", None, day(2026)),
    ],
)
def test_words_say_it(text: str, start: datetime | None, end: datetime | None) -> None:
    assert said(text) == {k: v for k, v in (("true_from", start), ("true_to", end)) if v}


@pytest.mark.parametrize(
    "text",
    [
        "", "Ana lives in Lindau.", "In 2019 she bought it.", "The train from 2024 Street leaves at 9.",
        "Since then all is well.", "Since 2024 it rains. Before it did not.", "Open until 18:00.", "From 2023 to 2019.",
        "Version 2024 is out since Monday.", "Until 31 February 2025.", "Since 0000 x", "9999 " * 400,
        "Ana lived in Lindau from 2023 to 2019.", "Pay 2000 until further notice.", "The price since 2024 is 5 euro.",
    ],
)  # fmt: skip
def test_other_words_say_nothing(text: str) -> None:
    assert said(text) == {}


def three_homes(memos: Memos) -> None:
    Path("a.md").write_text("- Ana lived in Lindau from 2015 to 2018.\n- Ana lives in Bonn.\n- We met Ana.\n")
    Path("b.md").write_text("- Since 2024 Ana lives in Riga.\n")
    for name in ("a.md", "b.md"):
        ok(memos("ingest", "me.cube", name, "--embedder", "none"))


@pytest.fixture
def cube(begin: Begin) -> str:
    """Three homes of one person, one after the other; a fourth memory says nothing of time."""
    begin(three_homes)
    return "me.cube"


def homes(cube: str, true_at: str, **more: str) -> set[str]:
    found = api.query(cube, "where does Ana live? in Lindau, Bonn or Riga", k=9, true_at=true_at, **more).hits
    return {town for hit in found for town in ("Lindau", "Bonn", "Riga") if town in hit.text}


def test_what_was_true_is_found_for_its_time(cube: str) -> None:
    assert homes(cube, "2016") == {"Lindau", "Bonn"}
    assert homes(cube, "2020") == {"Bonn"}
    assert homes(cube, "2025-02-03") == {"Bonn", "Riga"}
    api.tidy(cube, resolve="newest", apply=True)
    (bonn,) = (one for one in api.memories(cube, everything=True) if "Bonn" in one.text)
    assert (bonn.state, bonn.true_to) == ("archived", day(2024))
    assert homes(cube, "2023-12-31") == {"Bonn"}
    assert homes(cube, "2024") == {"Riga"}
    assert {hit.text for hit in api.query(cube, "Bonn", where='kind="bullet"').hits if "Bonn" in hit.text} == set()


def test_what_was_known_and_what_was_true_are_asked_together(cube: str) -> None:
    (riga,) = (one for one in api.memories(cube) if "Riga" in one.text)
    before = f"{riga.valid_from - timedelta(milliseconds=1):%Y-%m-%dT%H:%M:%S.%f}"
    assert homes(cube, "2025", as_of=before) == {"Bonn"}
    assert homes(cube, "2016", as_of=before) == {"Lindau", "Bonn"}


@pytest.mark.long
def test_it_is_said_by_hand(cube: str, memos: Memos) -> None:
    (bonn,) = (one for one in api.memories(cube) if "Bonn" in one.text)
    assert memos("edit", cube, bonn.id, "--true-from", "2019-03", "--true-to", "2023").code == 0
    told = api.show_memory(cube, bonn.id)
    assert (told.true_from, told.true_to) == (day(2019, 3), day(2024))
    assert homes(cube, "2016") == {"Lindau"}
    assert memos("edit", cube, bonn.id, "--true-to", "2018").code == 2
    assert memos("edit", cube, bonn.id, "--true-to", "soon").code == 2
    assert memos("edit", cube, "--true-to", "2018").code == 2
    assert memos("edit", cube, bonn.id, "--true-from", "unknown").code == 0
    assert homes(cube, "2016") == {"Lindau", "Bonn"}
    with pytest.raises(Usage):
        api.query(cube, "Ana", true_at="yesterday-ish")


def test_new_words_say_it_anew(cube: str) -> None:
    (riga,) = (one for one in api.memories(cube) if "Riga" in one.text)
    assert riga.true_from == day(2024)
    (fresh,) = api.edit(cube, riga.id, text="Ana lives in Riga.").ids
    assert api.show_memory(cube, fresh).true_from is None
    (last,) = api.edit(cube, fresh, text="Ana lives in Riga since 2025.", marks=Marks(true_to="2026")).ids
    told = api.show_memory(cube, last)
    assert (told.true_from, told.true_to) == (day(2025), day(2027))


def test_frozen_memories_keep_it(cube: str, memos: Memos) -> None:
    (riga,) = (one for one in api.memories(cube) if "Riga" in one.text)
    memos("edit", cube, riga.id, "--freeze")
    assert memos("edit", cube, riga.id, "--true-to", "2026").code == 5


def test_prompts_ask_for_it(cube: str, memos: Memos) -> None:
    done = memos("query", cube, "-", stdin='{"query": "where does Ana live, Lindau?", "true_at": "2020"}\n')
    assert done.code == 0, done.err
    assert "Ana lived in Lindau" not in done.out
    assert memos("query", cube, "Ana", "--true-at", "2020").code == 0


@pytest.mark.long
def test_it_goes_out_and_comes_in(cube: str, memos: Memos) -> None:
    assert memos("export", cube, "-o", "out.jsonl", "--all").code == 0
    assert memos("ingest", "other.cube", "out.jsonl", "--embedder", "none").code == 0
    spans = [{one.text: (one.true_from, one.true_to) for one in api.memories(name)} for name in (cube, "other.cube")]
    assert spans[0] == spans[1]
    assert memos("audit", "other.cube", "--deep").code == 0


@pytest.mark.long
def test_a_cube_of_an_earlier_program_is_asked_too(home: Path) -> None:
    handbook = Path(__file__).parents[2] / "bundles" / "handbook.cube"
    assert api.query(handbook, "who may roll back a release?", true_at="2020").hits
