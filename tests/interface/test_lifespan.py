"""How long memories live: ends, fading, the tidy step, freezes and holds, honoured by every verb."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memos_cli.cube import activation
from memos_cli.interface import api, frame
from memos_cli.operation import lifecycle
from tests.conftest import Memos, Start, ok
from tests.interface.samples import three_of_a_section

NOW = datetime.now(UTC)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Three memories of one section, so that each is in the windows of the others."""

    return Start.make(tmp_path_factory.mktemp("lifespan"), cache, three_of_a_section)


@pytest.fixture
def ids(start: Start, home: Path, work: Path) -> list[str]:
    """The ids of the three memories, in a cube of the test's own."""
    start.copy(home, work)
    return [one.id for one in api.memories("a.cube")]


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    moment = datetime.now(UTC) + timedelta(days=days)
    monkeypatch.setattr(frame, "now", lambda: moment)


def row(identity: str = "a", **more: object) -> dict[str, object]:
    return {
        "id": identity, "state": "activated", "expires_at": None, "legal_hold": False, "decay_days": 0,
        "created_at": NOW, "valid_from": NOW, "last_used": None, "uses": 0,
        "priority": 0, **more,
    }  # fmt: skip


def test_what_has_ended_is_due_with_the_reason() -> None:
    rows = [
        row("ttl", expires_at=NOW), row("not yet", expires_at=NOW + timedelta(days=1)), row("never"),
        row("held", expires_at=NOW, legal_hold=True), row("frozen", expires_at=NOW, state="frozen"),
        row("marked", expires_at=NOW, state="expired"),
    ]  # fmt: skip
    assert [(one.id, one.why) for one in lifecycle.due(rows, now=NOW)] == [("ttl", "ttl")]


@pytest.mark.parametrize(("uses", "halvings"), [(0, 3), (1, 4), (3, 5), (7, 6)])
def test_use_slows_the_fading(uses: int, halvings: int) -> None:
    faded = NOW + timedelta(days=10 * halvings)
    used = {"a": (uses, NOW)} if uses else {}
    before, after = (
        [one.why for one in lifecycle.due([row(decay_days=10)], now=faded + timedelta(hours=hours), used=used)]
        for hours in (-1, 1)
    )
    assert (before, after) == ([], ["decay"])


def test_priority_slows_the_fading_and_not_the_time_to_live() -> None:
    rows = [row("high", decay_days=1, priority=5), row("low", decay_days=1), row("ttl", expires_at=NOW, priority=9)]
    assert [one.id for one in lifecycle.due(rows, now=NOW + timedelta(days=95))] == ["low", "ttl"]
    assert [one.id for one in lifecycle.due(rows, now=NOW + timedelta(days=97))] == ["high", "low", "ttl"]


def test_what_is_archived_ends_too() -> None:
    rows = [row("a", state="archived", expires_at=NOW), row("b", state="archived", decay_days=1)]
    assert [one.why for one in lifecycle.due(rows, now=NOW + timedelta(days=4))] == ["ttl", "decay"]


def test_a_memory_has_its_own_pace_or_that_of_the_cube() -> None:
    rows = [row("own", decay_days=100), row("cube")]
    assert [one.id for one in lifecycle.due(rows, now=NOW + timedelta(days=40), decay_days=10)] == ["cube"]


def test_what_is_over_is_refused_by_every_verb_that_reads(
    ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(memos("edit", "a.cube", ids[1], "--ttl", "2"))
    assert ok(memos("query", "a.cube", "walnut", "--mode", "text", "-q")).lines == [ids[1]]
    later(monkeypatch, 3)
    monkeypatch.setattr("memos_cli.operation.recall.datetime", _Clock)
    for words in (
        ["query", "a.cube", "walnut"], ["query", "a.cube", "walnut", "--as-of", NOW.strftime("%Y-%m-%d")],
        ["query", "a.cube", "gate", "--context", "5"], ["list", "a.cube"], ["show", "a.cube", ids[1]],
        ["list", "a.cube", "--version", "2"], ["diff", "a.cube", "1"], ["log", "a.cube", "--memory", ids[1]],
        ["convert", "a.cube", "--to", "prompt", "--ids", ids[1]],
    ):  # fmt: skip
        done = memos(*words)
        assert "walnut" not in (done.out + done.err).replace("'walnut'", ""), words
    assert memos("show", "a.cube", ids[1]).code == 5
    # no window of a neighbour has its words either
    assert ok(memos("query", "a.cube", "walnut", "--mode", "text", "-q")).lines == []


class _Clock(datetime):
    """A clock that is three days ahead."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) + timedelta(days=3)


@pytest.mark.long
def test_the_tidy_step_marks_what_is_over(ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(memos("edit", "a.cube", ids[1], "--ttl", "2"))
    assert api.due("a.cube") == []
    later(monkeypatch, 3)
    assert [(one.id, one.why) for one in api.due("a.cube")] == [(ids[1], "ttl")]
    assert ok(memos("gc", "a.cube", "--dry-run", "--json")).json["expired"] == [ids[1]]
    assert ok(memos("gc", "a.cube", "--yes", "--json")).json["expired"] == [ids[1]]
    assert ok(memos("gc", "a.cube", "--yes", "--json")).json["expired"] == []
    assert ok(memos("list", "a.cube", "--all", "--where", "state=expired", "-q")).lines == [ids[1]]
    ok(memos("forget", "a.cube", "--where", "state=expired"))


@pytest.mark.long
def test_what_is_over_comes_back_with_another_end(
    ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(memos("edit", "a.cube", ids[1], "--ttl", "2"))
    later(monkeypatch, 3)
    ok(memos("gc", "a.cube", "--yes"))
    ok(memos("edit", "a.cube", ids[1], "--ttl", "0"))
    assert "walnut" in ok(memos("show", "a.cube", ids[1])).out


def test_what_nobody_uses_fades(ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(memos("edit", "a.cube", "--decay", "10"))
    ok(memos("edit", "a.cube", ids[0], "--decay", "100"))
    ok(memos("query", "a.cube", "alarm", "--mode", "text"))
    assert len(ok(memos("list", "a.cube", "-q")).lines) == 3
    later(monkeypatch, 35)  # of the others one was used, which gives it ten days more
    assert set(ok(memos("list", "a.cube", "-q")).lines) == {ids[0], ids[2]}
    assert memos("show", "a.cube", ids[1]).code == 3
    assert [(one.id, one.why) for one in api.due("a.cube")] == [(ids[1], "decay")]
    ok(memos("gc", "a.cube", "--yes"))
    later(monkeypatch, 36)
    assert ok(memos("list", "a.cube", "--all", "--where", "state=expired", "-q")).lines == [ids[1]]


def test_a_cube_that_is_over_is_refused_and_can_be_looked_after(
    ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(memos("edit", "a.cube", "--ttl", "5"))
    later(monkeypatch, 6)
    for words in (
        ["query", "a.cube", "gate"], ["list", "a.cube"], ["show", "a.cube"], ["ingest", "a.cube", "a.md"],
        ["init", "b.cube", "--from", "a.cube"], ["edit", "a.cube", ids[0], "--type", "x"], ["diff", "a.cube", "1"],
        ["convert", "a.cube", "--to", "prompt"], ["rollback", "a.cube", "2"],
    ):  # fmt: skip
        assert memos(*words).code == 5, words
    ok(memos("log", "a.cube"))
    ok(memos("gc", "a.cube", "--yes"))
    ok(memos("edit", "a.cube", "--ttl", "0"))
    ok(memos("list", "a.cube"))


@pytest.mark.long
def test_a_copy_lives_no_longer_than_the_cube(ids: list[str], memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(memos("edit", "a.cube", "--ttl", "5"))
    later(monkeypatch, 4)
    ok(memos("init", "b.cube", "--from", "a.cube"))
    later(monkeypatch, 6)
    assert memos("list", "b.cube").code == 5


def test_what_is_frozen_is_recalled_and_never_changed(ids: list[str], work: Path, memos: Memos) -> None:
    ok(memos("edit", "a.cube", ids[1], "--freeze"))
    assert "walnut" in ok(memos("list", "a.cube")).out
    for words in (
        ["edit", "a.cube", ids[1], "--text", "other"], ["edit", "a.cube", ids[1], "--ttl", "1"],
        ["edit", "a.cube", ids[1], "--topic", "x"], ["forget", "a.cube", "--ids", ids[1]],
        ["forget", "a.cube", "--where", "topic!=none"], ["rollback", "a.cube", "1"],
    ):  # fmt: skip
        done = memos(*words)
        assert (done.code, "frozen" in done.err) == (5, True), words
    (work / "a.md").write_text(
        "# H\n\nThe badge opens the gate.\n\nThe visitor code is peanut.\n\nThe alarm rings at ten.\n"
    )
    done = ok(memos("ingest", "a.cube", "a.md"))
    assert "stands" in done.err
    assert "walnut" in ok(memos("list", "a.cube")).out
    assert "peanut" not in ok(memos("list", "a.cube", "--all")).out
    ok(memos("edit", "a.cube", ids[1], "--thaw"))
    ok(memos("forget", "a.cube", "--ids", ids[1]))


def test_a_hold_keeps_a_memory(ids: list[str], work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(memos("edit", "a.cube", ids[1], "--ttl", "2"))
    ok(memos("edit", "a.cube", ids[1], "--hold", "--reason", "court order"))
    for words in (
        ["forget", "a.cube", "--ids", ids[1]], ["edit", "a.cube", ids[1], "--text", "other"],
        ["edit", "a.cube", ids[1], "--ttl", "1"], ["rollback", "a.cube", "1"],
    ):  # fmt: skip
        done = memos(*words)
        assert (done.code, "hold" in done.err) == (5, True), words
    (work / "a.md").write_text("# H\n\nThe badge opens the gate.\n")
    ok(memos("ingest", "a.cube", "a.md"))
    assert "walnut" in ok(memos("list", "a.cube")).out
    later(monkeypatch, 3)
    assert ok(memos("gc", "a.cube", "--yes", "--json")).json["expired"] == []
    assert ok(memos("show", "a.cube", "--json")).json["memories"] == 3
    ok(memos("edit", "a.cube", ids[1], "--release"))
    assert ok(memos("gc", "a.cube", "--yes", "--json")).json["expired"] == [ids[1]]


def test_a_frozen_cube_takes_no_change(ids: list[str], memos: Memos) -> None:
    ok(memos("edit", "a.cube", "--freeze"))
    for words in (
        ["edit", "a.cube", ids[0], "--type", "x"], ["forget", "a.cube", "--ids", ids[0]], ["ingest", "a.cube", "a.md"],
        ["rollback", "a.cube", "1"], ["gc", "a.cube", "--yes"], ["reindex", "a.cube"],
    ):  # fmt: skip
        done = memos(*words)
        assert (done.code, "frozen" in done.err) == (5, True), words
    ok(memos("query", "a.cube", "gate"))
    ok(memos("edit", "a.cube", "--thaw"))
    ok(memos("edit", "a.cube", ids[0], "--type", "x"))


@pytest.mark.long
def test_a_cube_of_an_earlier_program_takes_the_new_column(work: Path, memos: Memos) -> None:
    """A table without `decay_days`, as those of bundles: read as it is, and extended by the first change."""
    ok(memos("init", "mine.cube", "--from", str(Path(__file__).parents[2] / "bundles/chats.cube")))
    first = ok(memos("list", "mine.cube", "-q")).lines[0]
    assert ok(memos("show", "mine.cube", first, "--json")).json["decay_days"] == 0
    ok(memos("edit", "mine.cube", first, "--decay", "7"))
    assert ok(memos("show", "mine.cube", first, "--json")).json["decay_days"] == 7
    ok(memos("audit", "mine.cube", "--deep"))


@pytest.mark.long
def test_a_derived_file_goes_when_the_label_or_the_end_changes(
    ids: list[str], home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    with frame.changing(frame.desk(home), "a.cube", "convert") as change:
        folder = change.path / activation.FOLDER
        folder.mkdir()
        for identity in ids[:2]:
            (folder / f"{identity}.{'0' * 12}.kv.safetensors").write_bytes(b"not a real one")
        change.commit({})
    ok(memos("edit", "a.cube", ids[0], "--topic", "x"))
    assert len(list(Path("a.cube/current/activation").iterdir())) == 2
    done = ok(memos("edit", "a.cube", ids[0], "--sensitivity", "confidential"))
    assert "1 activation files" in done.err
    assert [path.name[:20] for path in Path("a.cube/current/activation").iterdir()] == [ids[1]]


def test_the_log_of_uses_is_read_with_suspicion(tmp_path: Path) -> None:
    from memos_cli.infrastructure import trail, uses

    path = trail.path_of(tmp_path)
    for verb, outcome in (("query", "ok"), ("query", "denied"), ("show", "ok"), ("query", "ok")):
        trail.append(
            tmp_path,
            home=tmp_path,
            cube_id="c",
            actor={"key": "k"},
            verb=verb,
            version=1,
            memories=["a"],
            outcome=outcome,
        )
    with path.open("ab") as file:
        file.write(json.dumps({"verb": "query", "memories": ["b"], "time": "never"}).encode() + b"\nrubbish\n")
    found = uses.read([path, tmp_path / "absent"])
    assert {name: count for name, (count, _) in found.items()} == {"a": 2}


def test_the_expiry_of_a_cube_is_told_by_the_clock_of_the_frame(ids: list[str], home: Path) -> None:
    from memos_cli.infrastructure import governance

    with frame.reading(frame.desk(home), "a.cube", "show") as seen:
        meta = replace(seen.cube, governance=replace(seen.cube.governance, ttl_days=1))
    assert not governance.expired(meta, now=datetime.now(UTC))
    assert governance.expired(meta, now=datetime.now(UTC) + timedelta(days=2))
