"""Setting memories aside and taking them back, and taking out what has ended: what wins, and what a past time finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.cube import activation
from memos_cli.errors import NotAllowed, NotFound, Usage
from memos_cli.interface import api, archiving, frame, tidying
from memos_cli.interface.results import Memory
from tests.conftest import Memos, Start, ok
from tests.interface.samples import three_of_a_section

LATER = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Three memories of one section, so that each is in the windows of the others."""

    return Start.make(tmp_path_factory.mktemp("archiving"), cache, three_of_a_section)


@pytest.fixture
def ids(start: Start, home: Path, work: Path) -> list[str]:
    start.copy(home, work)
    return [one.id for one in rows()]


def found(words: str, **more: object) -> list[str]:
    return [hit.text for hit in api.query("a.cube", words, mode="text", k=9, **more).hits]  # type: ignore[arg-type]


def rows(*, everything: bool = False) -> list[Memory]:
    return list(api.memories("a.cube", everything=everything))


def windows(word: str) -> set[str]:
    """The memories that are found by a word, of their own or of a neighbour."""
    with frame.reading(frame.desk(None), "a.cube", "show") as seen:
        return {row["id"] for row in seen.whole.rows(columns=["id", "wide"]).to_pylist() if word in row["wide"]}


def now_text() -> str:
    return datetime.now(UTC).isoformat()


def test_what_is_archived_is_found_as_of_a_past_time_only_and_comes_back(ids: list[str]) -> None:
    before = now_text()
    done = api.edit("a.cube", ids[1], archive=True, reason="the archive moved")
    assert done.ids == (ids[1],)
    assert found("walnut") == []
    assert windows("walnut") == {ids[1]}
    assert found("walnut", as_of=before) == ["The visitor code is walnut."]
    assert found("walnut", as_of=now_text()) == []
    (row,) = [one for one in rows(everything=True) if one.state == "archived"]
    assert row.id == ids[1]
    api.edit("a.cube", ids[1], archive=False)
    assert found("walnut")[:1] == ["The visitor code is walnut."]
    assert api.show_memory("a.cube", ids[1]).state == "activated"
    # the words of a memory stand in the windows of its neighbours as long as it is recalled
    assert windows("walnut") == {*ids}
    assert [entry.summary for entry in api.log("a.cube")][:2] == [{"restored": 1}, {"archived": 1}]


@pytest.mark.long
def test_several_at_once_by_a_filter(ids: list[str]) -> None:
    api.edit("a.cube", where="source=a.md", archive=True)
    assert rows() == []
    assert api.edit("a.cube", where="source=a.md", archive=False, dry_run=True).ids == tuple(ids)
    assert set(api.edit("a.cube", where="source=a.md", archive=False).ids) == set(ids)
    with pytest.raises(NotFound):
        api.edit("a.cube", where="source=a.md", archive=False)


def test_what_is_frozen_or_held_is_not_archived(ids: list[str]) -> None:
    api.edit("a.cube", ids[0], freeze=True)
    api.edit("a.cube", ids[1], marks=api.Marks(hold=True))
    number = api.show("a.cube").number
    for one, rule in ((ids[0], "frozen"), (ids[1], "legal hold")):
        with pytest.raises(NotAllowed, match=rule):
            api.edit("a.cube", one, archive=True)
        with pytest.raises(NotAllowed, match=rule):
            archiving.archive(frame.desk(None), "a.cube", [one, ids[2]], reason="", lock_timeout=1)
    assert api.show("a.cube").number == number
    api.edit("a.cube", ids[0], freeze=False)
    api.edit("a.cube", ids[0], archive=True)
    assert len(rows()) == 2


def test_a_cube_that_is_frozen_archives_nothing(ids: list[str]) -> None:
    api.govern("a.cube", freeze=True)
    with pytest.raises(NotAllowed, match="frozen"):
        api.edit("a.cube", ids[0], archive=True)


@pytest.mark.long
def test_an_earlier_wording_comes_back_when_nothing_stands_in_its_place(ids: list[str]) -> None:
    (heir,) = api.edit("a.cube", ids[1], text="The visitor code is peanut.").ids
    with pytest.raises(Usage, match="stands in the place") as caught:
        api.edit("a.cube", ids[1], archive=False)
    assert heir in caught.value.hint
    api.edit("a.cube", heir, archive=True)
    api.edit("a.cube", ids[1], archive=False)
    assert sorted(one.text for one in rows())[2] == "The visitor code is walnut."
    # and now the heir would be told beside it, which is for the user to say: nothing stands in its place
    api.edit("a.cube", heir, archive=False)
    assert len(rows()) == 4


@pytest.mark.many(2)
@pytest.mark.parametrize("state", ["activated", "frozen", "expired", "generated", "forgotten"])
def test_only_what_is_archived_is_restored(state: str, ids: list[str]) -> None:
    with frame.changing(frame.desk(None), "a.cube", "edit") as change:
        change.whole.change([ids[0]], state=state)
        change.commit({})
    with pytest.raises(NotFound if state == "forgotten" else Usage, match=f"is {state}"):
        api.edit("a.cube", ids[0], archive=False)
    if state in ("expired", "activated"):
        api.edit("a.cube", ids[0], archive=True)
        assert {one.id: one.state for one in rows(everything=True)}[ids[0]] == "archived"


def test_setting_aside_is_no_way_round_acceptance(ids: list[str]) -> None:
    with frame.changing(frame.desk(None), "a.cube", "edit") as change:
        change.whole.change([ids[0]], state="generated", valid_from=None)
        # its source was gone before anybody accepted it
        change.whole.change([ids[1]], state="archived", valid_from=None, valid_to=frame.now())
        change.commit({})
    with pytest.raises(Usage, match="waits to be accepted"):
        api.edit("a.cube", ids[0], archive=True)
    with pytest.raises(Usage, match="never accepted"):
        api.edit("a.cube", ids[1], archive=False)


def test_what_outlived_its_time_comes_back_with_another_end_only(
    ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.edit("a.cube", ids[1], marks=api.Marks(ttl_days=2))
    api.edit("a.cube", ids[1], archive=True)
    monkeypatch.setattr(frame, "now", lambda: LATER)
    with pytest.raises(Usage, match="outlived its time"):
        api.edit("a.cube", ids[1], archive=False)
    api.edit("a.cube", ids[1], archive=False, marks=api.Marks(ttl_days=9))
    assert api.show_memory("a.cube", ids[1]).text == "The visitor code is walnut."


@pytest.mark.long
def test_coming_back_counts_as_use(ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what had faded long ago would be gone again at once."""
    api.edit("a.cube", ids[1], archive=True)
    monkeypatch.setattr(frame, "now", lambda: LATER)
    api.edit("a.cube", ids[1], archive=False)
    api.edit("a.cube", ids[1], marks=api.Marks(decay_days=1))
    assert api.due("a.cube") == []
    monkeypatch.setattr(frame, "now", lambda: LATER + timedelta(days=4))
    assert [one.id for one in api.due("a.cube")] == [ids[1]]


def test_states_come_one_at_a_time(ids: list[str]) -> None:
    for more in ({"freeze": True}, {"accept": True}, {"text": "other words"}):
        with pytest.raises(Usage, match="one state at a time"):
            api.edit("a.cube", ids[0], archive=True, **more)  # type: ignore[arg-type]


def test_activation_memory_goes_with_what_is_archived(ids: list[str], home: Path) -> None:
    with frame.changing(frame.desk(home), "a.cube", "convert") as change:
        folder = change.path / activation.FOLDER
        folder.mkdir()
        for identity in ids[:2]:
            (folder / f"{identity}.{'0' * 12}.kv.safetensors").write_bytes(b"not a real one")
        change.commit({})
    api.edit("a.cube", ids[0], archive=True)
    assert [path.name[:20] for path in Path("a.cube/current/activation").iterdir()] == [ids[1]]


def test_the_command(ids: list[str], memos: Memos) -> None:
    done = ok(memos("edit", "a.cube", ids[1][:6], "--archive"))
    assert "archived " + ids[1] in done.out
    assert memos("edit", "a.cube", ids[1], "--archive").code == 3
    assert memos("edit", "a.cube", "--archive").code == 2
    assert "would restore" in ok(memos("edit", "a.cube", ids[1], "--restore", "--dry-run")).out
    assert "restored" in ok(memos("edit", "a.cube", ids[1], "--restore")).out
    assert memos("edit", "a.cube", ids[1], "--archive", "--freeze").code == 2


def test_what_ended_is_taken_out_and_the_rest_stays(
    ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.edit("a.cube", ids[0], marks=api.Marks(ttl_days=2))
    (heir,) = api.edit("a.cube", ids[1], text="The visitor code is peanut.").ids
    (last,) = api.edit("a.cube", heir, text="The visitor code is hazel.").ids
    api.forget("a.cube", ids=[ids[2]])
    assert ok(memos("gc", "a.cube", "--prune", "1", "--yes", "--json")).json["pruned"] == []
    monkeypatch.setattr(frame, "now", lambda: LATER)
    would = ok(memos("gc", "a.cube", "--prune", "1", "--yes", "--dry-run", "--json")).json
    assert set(would["pruned"]) == {ids[1], heir}
    assert set(ok(memos("gc", "a.cube", "--prune", "1", "--yes", "--json")).json["pruned"]) == {ids[1], heir}
    # what was marked as expired just now is taken out a day later, or at once when that is asked for
    assert ok(memos("gc", "a.cube", "--prune", "0", "--yes", "--json")).json["pruned"] == [ids[0]]
    left = {one.id: one.state for one in rows(everything=True)}
    assert left == {ids[2]: "forgotten", last: "activated"}
    assert api.show_memory("a.cube", last).supersedes == ""
    assert not [one for one in api.audit("a.cube", deep=True).findings if one.severity != "notice"]
    # what is hidden stays so when its source is read again
    Path("a.md").write_text(Path("a.md").read_text() + "\nA new line.\n")
    ok(memos("ingest", "a.cube", "a.md"))
    assert found("alarm") == []


def test_what_is_held_is_not_taken_out(ids: list[str]) -> None:
    api.edit("a.cube", ids[1], archive=True)
    with frame.changing(frame.desk(None), "a.cube", "edit") as change:
        change.whole.change([ids[1]], legal_hold=True)
        change.commit({})
    assert api.gc("a.cube", prune_days=0).pruned == ()
    api.govern("a.cube", hold=True)
    with pytest.raises(NotAllowed, match="hold"):
        api.gc("a.cube", prune_days=0)


@pytest.mark.many(2)
@pytest.mark.parametrize("days", [-1.0, float("nan"), float("inf"), 1e9])
def test_odd_days_are_refused(days: float, ids: list[str]) -> None:
    with pytest.raises(Usage):
        tidying.prune(frame.desk(None), "a.cube", days=days)


def test_words_that_were_taken_out_are_in_no_file_of_the_version(ids: list[str]) -> None:
    api.edit("a.cube", ids[1], archive=True)
    api.gc("a.cube", prune_days=0)
    holding = [path for path in Path("a.cube/current/").rglob("*") if path.is_file() and b"walnut" in path.read_bytes()]
    assert holding == []
