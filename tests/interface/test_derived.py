"""Derived forms and who may use them: files and adapters of what is hidden serve nobody from whom it is hidden."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_cli.cube import activation, parameter, probes
from memos_cli.interface import frame
from memos_cli.interface.taught import open_adapters
from memos_cli.operation.activate import Given
from memos_cli.operation.learned import Learned
from tests.conftest import Memos
from tests.cube import adapters
from tests.cube.test_probes import probe
from tests.interface.people import People, Person
from tests.interface.test_hidden import OPEN, ok


@pytest.fixture
def people(home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> People:
    return People(home, memos, monkeypatch)


@pytest.fixture
def owner(people: People) -> Person:
    return people("owner")


@pytest.fixture
def stranger(people: People) -> Person:
    return people("stranger")


@pytest.fixture
def ids(work: Path, owner: Person) -> list[str]:
    """An open cube of three memories, the last one hidden; adapters of each two, one on top of the other, and files."""
    (work / "a.md").write_text("- The gate is green.\n- The bins go out on Tuesday.\n- The vault code is quokka.\n")
    ok(owner.run("init", "team.cube", *OPEN))
    ok(owner.run("ingest", "team.cube", "a.md"))
    ids = ok(owner.run("list", "team.cube", "-q")).lines
    ok(owner.run("edit", "team.cube", ids[2], "--read-scope", "owner"))
    with frame.changing(frame.desk(owner.home), "team.cube", "distill") as change:
        folder = change.path / parameter.FOLDER
        (change.path / "made").mkdir()
        open_one = _adapter(folder, "open", ids[:2])
        _adapter(folder, "mixed", ids[1:], seed=8)
        _adapter(folder, "above", ids[:1], seed=9, on=[open_one])
        shutil.rmtree(change.path / "made")
        probes.append(change.path / "plaintext", [probe(each, answer=f"about {each}") for each in ids])
        (change.path / activation.FOLDER).mkdir()
        for each in ids:
            (change.path / activation.FOLDER / f"{each}.{'0' * 12}.kv.safetensors").write_bytes(b"quokka")
        change.commit({})
    return ids


def _adapter(folder: Path, name: str, memories: Sequence[str], **more: object) -> parameter.Adapter:
    return adapters.write(folder, name, sources=tuple(adapters.source(each) for each in memories), **more)  # type: ignore[arg-type]


def test_an_adapter_serves_those_who_may_see_all_it_was_taught(ids: list[str], owner: Person, stranger: Person) -> None:
    for who, expected in ((owner, frozenset({"above", "mixed", "open"})), (stranger, frozenset({"open", "above"}))):
        with frame.reading(frame.desk(who.home), "team.cube", "query") as seen:
            assert open_adapters(seen) == expected


@pytest.mark.long
def test_no_route_leads_to_an_adapter_that_is_closed(ids: list[str], work: Path) -> None:
    class Print:
        hard, soft = adapters.HARD, adapters.SOFT

    class Model:
        name = "nano"

    learned = Learned(Model(), None, Print(), datetime.now(UTC))  # type: ignore[arg-type]
    folder = work / "team.cube/current" / activation.FOLDER
    text = "The boiler's code is 4711."
    opened = learned.route([Given(ids[1], text, folder)])
    assert opened.top.name in ("mixed", "open")  # type: ignore[union-attr]
    closed = learned.route([Given(ids[2], text, folder, frozenset({"open", "above"}))])
    assert closed == "it was not distilled"
    only = learned.route([Given(ids[1], text, folder, frozenset({"open", "above"}))])
    assert only.top.name == "open"  # type: ignore[union-attr]
    lonely = learned.route([Given(ids[0], text, folder, frozenset({"above"}))])
    assert lonely == "it was not distilled"  # what it stands on is closed


def test_a_copy_leaves_out_what_was_made_of_the_hidden(ids: list[str], work: Path, stranger: Person) -> None:
    ok(stranger.run("init", "copy.cube", "--from", "team.cube"))
    current = work / "copy.cube/current"
    assert parameter.names(current / parameter.FOLDER) == ["above", "open"]
    assert {activation.memory_of(path) for path in activation.find(current / activation.FOLDER)} == set(ids[:2])
    assert probes.memory_ids(current / "plaintext") == frozenset(ids[:2])
    for path in current.rglob("*"):
        if path.is_file() and activation.FOLDER not in path.parts:
            data = path.read_bytes()
            assert ids[2].encode() not in data, path
            assert b"vault" not in data, path


@pytest.mark.long
def test_a_copy_of_ones_own_has_all(ids: list[str], work: Path, owner: Person) -> None:
    ok(owner.run("init", "copy.cube", "--from", "team.cube"))
    current = work / "copy.cube/current"
    assert parameter.names(current / parameter.FOLDER) == ["above", "mixed", "open"]
    assert probes.memory_ids(current / "plaintext") == frozenset(ids)
