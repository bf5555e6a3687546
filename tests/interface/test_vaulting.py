"""Asking a whole vault: the right cubes are opened, the catalogue follows them, and it tells of nothing it must not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from memos_cli.cube import metadata
from memos_cli.errors import NotAllowed, NotFound, Usage
from memos_cli.infrastructure import catalogue
from memos_cli.interface import api, cataloguing, frame, vaulting
from memos_cli.interface.found import Found, VaultCube
from memos_cli.operation.fingerprint import hash_of, words_of
from memos_cli.operation.needles import of_vector
from tests.conftest import Memos, Start, ok

TOPICS = {
    "harbour": ["The boat is called Marlin.", "The harbour master is Ines Roth.", "Mooring costs 30 a night."],
    "kitchen": ["The soup needs saffron.", "The oven heats to 240 degrees.", "Bread rises for two hours."],
    "garden": ["The roses are cut in March.", "The hose leaks at the tap.", "Slugs come after rain."],
    "payroll": ["Salaries are paid on the 25th.", "The rate for nights is 1.4.", "Ines Roth signs the list."],
}
BOAT = "what is the boat called?"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Four cubes with names, with vectors."""

    def build(memos: Memos) -> None:
        for name, lines in TOPICS.items():
            Path(f"{name}.md").write_text("".join(f"- {line}\n" for line in lines))
            ok(memos("ingest", name, f"{name}.md"))

    return Start.make(tmp_path_factory.mktemp("vault"), cache, build)


@pytest.fixture
def vault(start: Start, home: Path, work: Path) -> Path:
    start.copy(home, work)
    return home


def asked(text: str = BOAT, **wishes: object) -> Found:
    (found,) = api.query_vault([text], **wishes)  # type: ignore[arg-type]
    assert found.vault is not None
    return found


def told(found: Found) -> dict[str, VaultCube]:
    assert found.vault is not None
    return {one.cube: one for one in found.vault.cubes}


def entries(home: Path) -> dict[str, catalogue.Entry]:
    desk = frame.desk(home)
    return {each.name: each for each in catalogue.read(home, whose=cataloguing._whose(desk)).entries}


def knows(home: Path, word: str) -> bool:
    """Whether some cube's fingerprint has the word."""
    desk = frame.desk(home)
    (stem,) = words_of(word)
    return hash_of(stem, cataloguing.key_of(desk)) in catalogue.read(home, whose=cataloguing._whose(desk)).words


def trail(home: Path, name: str) -> list[dict[str, object]]:
    lines = (home / "cubes" / f"{name}.cube" / "log" / "access.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_right_cube_is_opened_and_the_others_are_told_of(vault: Path) -> None:
    found = asked(most=1)
    assert found.cubes == ("harbour",)
    assert found.hits[0].text == "The boat is called Marlin."
    cubes = told(found)
    assert list(cubes) == list(TOPICS) or set(cubes) == set(TOPICS)
    assert cubes["harbour"].opened
    assert cubes["harbour"].rank == 1
    assert "boat" in cubes["harbour"].words
    assert not cubes["kitchen"].opened
    assert found.vault is not None
    assert (found.vault.considered, found.vault.looked_at) == (4, 4)


def test_several_cubes_are_ranked_together(vault: Path) -> None:
    found = asked("what does Ines Roth do?", most=2, k=2)
    assert {hit.cube for hit in found.hits} == {"harbour", "payroll"}


def test_the_hits_are_those_of_the_opened_cubes_asked_together(vault: Path) -> None:
    found = asked("what does Ines Roth do?", most=2)
    same = api.query(found.cubes[0], "what does Ines Roth do?", also=found.cubes[1:])
    assert [(hit.id, hit.score) for hit in found.hits] == [(hit.id, hit.score) for hit in same.hits]
    assert same.vault is None


def test_what_is_up_to_date_is_not_looked_at_again(vault: Path) -> None:
    asked()
    before = catalogue.path_of(vault).stat().st_ino
    again = asked("when are roses cut?")
    assert again.cubes[0] == "garden"
    assert again.vault is not None
    assert again.vault.looked_at == 0
    assert catalogue.path_of(vault).stat().st_ino == before
    assert [line["verb"] for line in trail(vault, "kitchen")].count("catalogue") == 1


def test_a_changed_a_new_and_a_deleted_cube_are_found_out(vault: Path) -> None:
    asked()
    Path("more.md").write_text("- The zeppelin lands at noon.\n")
    api.ingest("kitchen", ["more.md"])
    api.ingest("airfield", ["more.md"])
    shutil.rmtree(vault / "cubes" / "garden.cube")
    found = asked("when does the zeppelin land?", most=2)
    assert set(found.cubes) == {"kitchen", "airfield"}
    assert found.vault is not None
    assert found.vault.looked_at == 2
    assert set(entries(vault)) == {"harbour", "kitchen", "payroll", "airfield"}


def test_a_damaged_catalogue_is_made_anew(vault: Path) -> None:
    asked()
    path = catalogue.path_of(vault)
    path.write_bytes(path.read_bytes()[:-7])
    assert asked(most=1).cubes == ("harbour",)
    assert len(entries(vault)) == 4


@pytest.mark.long
def test_an_unfinished_look_is_gone_on_with(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cataloguing, "BATCH", 1)
    look = cataloguing._look
    with monkeypatch.context() as patch:
        patch.setattr(cataloguing, "_look", lambda desk, name: _stop() if name == "kitchen" else look(desk, name))
        with pytest.raises(KeyboardInterrupt):
            asked()
    assert set(entries(vault)) == {"garden", "harbour"}
    found = asked()
    assert found.vault is not None
    assert found.vault.looked_at == 2


def _stop() -> None:
    raise KeyboardInterrupt


def test_purged_memories_leave_the_catalogue(vault: Path) -> None:
    asked()
    (hit, *_) = api.query("harbour", BOAT).hits
    with frame.reading(frame.desk(vault), "harbour", "show") as seen:
        (row,) = seen.whole.take([hit.id], columns=["vector"]).to_pylist()
    needles = [needle.data for needle in of_vector(hit.id, row["vector"])]
    before = catalogue.path_of(vault).read_bytes()
    assert any(needle in before for needle in needles)
    assert knows(vault, "Marlin")
    done = api.purge("harbour", ids=[hit.id])
    assert done.proof is not None
    assert done.proof.sound
    after = catalogue.path_of(vault).read_bytes()
    assert not any(needle in after for needle in needles)
    assert not knows(vault, "Marlin")
    assert knows(vault, "oven")
    assert "harbour" not in entries(vault)
    # who looks again sees the cube as it is now
    asked()
    assert "harbour" in entries(vault)
    assert not knows(vault, "Marlin")
    assert knows(vault, "mooring")


@pytest.mark.long
def test_a_purge_by_path_reaches_the_catalogue_too(vault: Path, tmp_path: Path) -> None:
    asked()
    (hit, *_) = api.query("harbour", BOAT).hits
    (vault / "cubes" / "harbour.cube").rename(tmp_path / "out.cube")
    api.purge(tmp_path / "out.cube", ids=[hit.id])
    assert not knows(vault, "Marlin")


@pytest.mark.long
def test_a_purge_leaves_a_file_alone_that_is_only_called_like_a_catalogue(vault: Path, tmp_path: Path) -> None:
    for folder in ("cubes", "data"):
        place = tmp_path / folder / "in" / folder
        place.mkdir(parents=True)
        (place.parent / "catalogue").mkdir()
        mine = place.parent / "catalogue" / "cubes"
        mine.write_text("a list of my own")
        shutil.copytree(vault / "cubes" / "harbour.cube", place / "harbour.cube", symlinks=True)
        (hit, *_) = api.query(place / "harbour.cube", BOAT).hits
        api.purge(place / "harbour.cube", ids=[hit.id])
        assert mine.read_text() == "a list of my own"


def test_what_is_hidden_is_not_in_the_catalogue(vault: Path) -> None:
    (hit, *_) = api.query("harbour", BOAT).hits
    api.forget("harbour", ids=[hit.id])
    found = asked(most=1)
    assert not knows(vault, "Marlin")
    assert "Marlin" not in "".join(each.text for each in found.hits)


def test_labelled_memories_leave_no_words(vault: Path, memos: Memos) -> None:
    (hit, *_) = api.query("harbour", BOAT).hits
    ok(memos("edit", "harbour", hit.id, "--sensitivity", "confidential"))
    asked()
    assert not knows(vault, "Marlin")
    assert entries(vault)["harbour"].centres == 2  # those of the other two
    # it is found all the same where its cube is opened
    assert asked("mooring of the boat", most=1).hits


def test_a_cube_that_is_closed_is_left_out(vault: Path, memos: Memos) -> None:
    asked()
    (vault / "policy.toml").write_text(
        '[[access.rules]]\nname = "not-here"\neffect = "forbid"\nverbs = ["query"]\ncubes = ["harbour"]\n'
    )
    found = asked("what is the boat called, and the oven?")
    assert "harbour" not in found.cubes
    assert "harbour" not in told(found)
    assert not knows(vault, "Marlin")
    assert entries(vault)["harbour"].closed
    assert asked().vault.looked_at == 0  # type: ignore[union-attr]


@pytest.mark.long
def test_what_ended_is_looked_at_again(vault: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    (hit, *_) = api.query("harbour", BOAT).hits
    ok(memos("edit", "harbour", hit.id, "--ttl", "1"))
    asked()
    assert knows(vault, "Marlin")
    assert entries(vault)["harbour"].until > 0
    late = frame.now().replace(year=frame.now().year + 1)
    monkeypatch.setattr(frame, "now", lambda: late)
    asked()
    assert not knows(vault, "Marlin")


def test_a_cube_that_cannot_be_read_stops_no_other(vault: Path) -> None:
    asked()
    (vault / "cubes" / "kitchen.cube" / "current" / metadata.FILE).unlink()
    shutil.rmtree(vault / "cubes" / "garden.cube" / "versions")
    notices: list[str] = []
    found = asked("boat and oven and roses", notify=notices.append)
    assert "harbour" in found.cubes
    assert any("kitchen" in line for line in notices)
    assert any("garden" in line for line in notices)


@pytest.mark.long
def test_a_folder_with_an_odd_name_is_no_cube_of_the_vault(vault: Path) -> None:
    for name in ("an odd one", "-x", "\udcff"):
        shutil.copytree(vault / "cubes" / "harbour.cube", vault / "cubes" / f"{name}.cube", symlinks=True)
    assert asked().cubes[0] == "harbour"
    assert set(entries(vault)) == set(TOPICS)
    assert api.in_vault() == sorted(TOPICS)


def test_a_client_asks_no_vault(vault: Path) -> None:
    from memos_cli.infrastructure import clients
    from memos_cli.interface.visiting import Visit

    visit = Visit.to(vault, clients.local())
    with pytest.raises(NotAllowed):
        list(visit.do(api.query_vault, [BOAT]))


@pytest.mark.long
def test_a_cube_with_other_vectors_gives_its_place_to_the_next(vault: Path, memos: Memos) -> None:
    Path("boats.md").write_text("- The boat of the club is called Gannet.\n")
    ok(memos("ingest", "club", "boats.md", "--embedder", "none"))
    found = asked()
    assert found.cubes[0] == "harbour"
    assert "club" not in found.cubes
    assert "another embedder" in told(found)["club"].left_out
    # by words alone they are asked together
    assert {"harbour", "club"} <= set(asked(mode="text").cubes)


def test_prompts_one_after_another_open_their_own_cubes(vault: Path) -> None:
    found = list(api.query_vault([BOAT, "how hot is the oven?"], most=1))
    assert [one.cubes for one in found] == [("harbour",), ("kitchen",)]
    assert found[1].vault is not None


def test_bad_calls_are_refused(vault: Path, tmp_path: Path) -> None:
    with pytest.raises(Usage, match="empty"):
        asked("  ")
    with pytest.raises(Usage, match="cubes to open"):
        asked(most=0)
    with pytest.raises(NotFound, match="no cube has a name"):
        asked(home=tmp_path / "empty")


def test_the_command(vault: Path, memos: Memos) -> None:
    done = ok(memos("query", "--vault", BOAT, "--json", "--vault-cubes", "1"))
    assert done.json["cubes"] == ["harbour"]
    assert done.json["vault"]["considered"] == 4
    explained = ok(memos("query", "--vault", BOAT, "--explain"))
    assert "of 4 cubes opened" in explained.out
    assert "1. harbour  opened" in explained.out
    piped = ok(memos("query", "--vault", "-", "--json", stdin=f"{BOAT}\nhow hot is the oven?\n"))
    assert [json.loads(line)["cubes"][0] for line in piped.lines] == ["harbour", "kitchen"]


@pytest.mark.parametrize(
    "words",
    [
        ["harbour", BOAT, "--vault"], ["--vault", BOAT, "--with", "garden"], ["--vault-cubes", "2", "harbour", BOAT],
        ["--vault", BOAT, "--answer"], ["--vault", BOAT, "--vault-cubes", "0"],
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together(words: list[str], vault: Path, memos: Memos) -> None:
    assert memos("query", *words).code == 2


def test_far_behind_the_best_nothing_is_opened(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(asked().cubes) == 4
    monkeypatch.setattr(vaulting, "FAR_BEHIND", 0.0)
    monkeypatch.setattr(vaulting, "MANY", 4)
    assert asked().cubes == ("harbour",)
