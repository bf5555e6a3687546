"""Clients: made, found by their key, bounded in what they do and see, and told apart in every trail."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from memos_cli.cube import access
from memos_cli.errors import Damaged, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import clients, door
from memos_cli.interface import api, frame
from memos_cli.interface.visiting import Visit
from tests.conftest import Begin, Memos, ok

EDITOR = clients.Client("editor", may=("read",), cubes=("work",))


def two_of_the_home(memos: Memos) -> None:
    Path("a.md").write_text("- The passport is in the drawer.\n- Ana lives in Lindau.\n")
    Path("b.md").write_text("- The salary of Ana is secret.\n")
    Path("c.md").write_text("- The diary says nothing.\n")
    ok(memos("ingest", "work", "a.md", "--embedder", "none"))
    ok(memos("ingest", "work", "b.md", "--sensitivity", "confidential"))
    ok(memos("ingest", "diary", "c.md", "--embedder", "none"))


@pytest.fixture
def cubes(begin: Begin, home: Path) -> Path:
    """Two cubes of the home, `work` with memories under three labels; the home."""
    begin(two_of_the_home)
    return home


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def trail_of(home: Path, cube: str) -> list[dict[str, object]]:
    return lines_of(home / "cubes" / f"{cube}.cube" / "log" / "access.jsonl")


def test_a_key_is_shown_once_and_kept_nowhere(home: Path, memos: Memos) -> None:
    made = memos("clients", "new", "editor", "--cube", "work", "--may", "read,remember", "--ttl", "30")
    assert made.code == 0, made.err
    (key,) = made.lines
    assert key.startswith("memos_")
    assert len(key) >= 6 + 43
    path = home / "clients.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [place for place in home.rglob("*") if place.is_file() and key.encode() in place.read_bytes()]
    (listed,) = [json.loads(line) for line in memos("clients", "--json").lines]
    assert (listed["name"], listed["may"], listed["cubes"]) == ("editor", ["read", "remember"], ["work"])
    assert listed["key"] is None
    found = clients.find(home, key)
    assert found is not None
    assert found.name == "editor"
    for wrong in ("", "memos_", key[:-1], key + "x", key.upper(), "\ud800", "é" * 10_000):
        assert clients.find(home, wrong) is None


def test_a_revoked_or_ended_client_is_nobody(home: Path, memos: Memos) -> None:
    (key,) = memos("clients", "new", "ci", "--all-cubes").lines
    assert memos("clients", "revoke", "ci", "--dry-run").code == 0
    assert clients.find(home, key) is not None
    assert memos("clients", "revoke", "ci").code == 0
    assert clients.find(home, key) is None
    assert memos("clients", "revoke", "ci").code == 3
    (key,) = memos("clients", "new", "ci", "--ttl", "1").lines
    path = home / "clients.toml"
    text = path.read_text()
    end = next(line for line in text.splitlines() if line.startswith("expires"))
    path.write_text(text.replace(end, 'expires = "2020-01-01T00:00:00Z"'))
    assert clients.find(home, key) is None


@pytest.mark.many(4)
@pytest.mark.parametrize(
    "words",
    [
        ["new"], ["new", "UPPER"], ["new", "../x"], ["new", "local"], ["new", "x", "--may", "govern"],
        ["new", "x", "--may", "everything"], ["new", "x", "--cube", "../up"], ["new", "x", "--cube", "a/b"],
        ["new", "x", "--at-most", "secret"], ["new", "x", "--cube", "a", "--all-cubes"], ["list", "x"], ["drop", "x"],
        ["revoke", "x", "--may", "read"], ["new", "x", "--since", "7d"],
    ],
)  # fmt: skip
def test_odd_words_make_no_client(words: list[str], home: Path, memos: Memos) -> None:
    assert memos("clients", *words).code == 2
    assert not (home / "clients.toml").exists()


@pytest.mark.many(4)
@pytest.mark.parametrize(
    "text",
    [
        "clients = 3", "[clients.a]\n", "[clients.a]\nsha256 = 'x'", "[other]\n",
        "[clients.a]\nsha256 = '{hex}'\nroot = 1",
        "[clients.a]\nsha256 = '{hex}'\nmay = ['govern']", "[clients.a]\nsha256 = '{hex}'\ncubes = 'work'",
        "[clients.a]\nsha256 = '{hex}'\nat_most = 'low'", "[clients.a]\nsha256 = '{hex}'\nexpires = '2026-01-01'",
        "[clients.a]\nsha256 = '{hex}'\nexpires = 'soon'", "[clients.'A b']\nsha256 = '{hex}'", "[clients",
    ],
)  # fmt: skip
def test_a_file_that_is_half_understood_lets_nobody_in(text: str, home: Path) -> None:
    path = home / "clients.toml"
    path.write_text(text.replace("{hex}", "0" * 64))
    path.chmod(0o600)
    with pytest.raises(Damaged):
        clients.load(home)


def test_a_file_that_others_can_write_lets_nobody_in(home: Path, memos: Memos) -> None:
    memos("clients", "new", "x", "--all-cubes")
    (home / "clients.toml").chmod(0o666)
    with pytest.raises(NotAllowed, match="others"):
        clients.load(home)


def test_two_who_add_at_once_lose_nobody(home: Path) -> None:
    threads = [threading.Thread(target=clients.add, args=(home, clients.bounded(f"c{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.name for one in clients.load(home)] == [f"c{n}" for n in range(8)]


def test_a_client_reads_what_it_may_see_and_is_named_in_the_trail(cubes: Path) -> None:
    visit = Visit.to(cubes, EDITOR)
    texts = [one.text for one in visit.do(api.memories, "work")]
    assert sorted(texts) == ["Ana lives in Lindau.", "The passport is in the drawer."]
    assert all("salary" not in hit.text for hit in visit.do(api.query, "work", "salary of Ana").hits)
    last = trail_of(cubes, "work")[-1]
    assert (last["verb"], last["outcome"], last["actor"]["client"]) == ("query", "ok", "editor")  # type: ignore[index]
    hidden = next(one.id for one in api.memories("work") if "salary" in one.text)
    with pytest.raises(NotFound):
        visit.do(api.show_memory, "work", hidden)
    told = visit.do(api.show, "work")
    assert (told.path, told.memories, told.may) == ("work", 2, ("read",))


def test_a_higher_bound_shows_more_and_a_policy_for_endpoints_less(cubes: Path) -> None:
    full = Visit.to(cubes, clients.Client("x", cubes=("*",), at_most="restricted"))
    assert len(list(full.do(api.memories, "work"))) == 3
    (cubes / "policy.toml").write_text('[access.maximum]\nendpoint = "public"\n')
    assert list(full.do(api.memories, "work")) == []


def test_what_it_may_not_do_is_refused_and_in_the_trail(cubes: Path) -> None:
    visit = Visit.to(cubes, EDITOR)
    before = (cubes / "cubes" / "work.cube" / "current").readlink()
    for call in (
        lambda: visit.do(api.ingest_text, "work", "A new thought."),
        lambda: visit.do(api.forget, "work", where="type=fact"),
    ):
        with pytest.raises(NotAllowed, match="client 'editor' may read only"):
            call()
        last = trail_of(cubes, "work")[-1]
        assert (last["outcome"], last["kind"], last["actor"]["client"]) == ("denied", "denial", "editor")  # type: ignore[index]
    assert (cubes / "cubes" / "work.cube" / "current").readlink() == before


def test_a_cube_out_of_bounds_is_as_one_that_is_not_there(cubes: Path) -> None:
    visit = Visit.to(cubes, EDITOR)
    assert [one.name for one in visit.do(api.cubes)] == ["work"]
    outside = str(cubes / "cubes" / "diary.cube")
    for cube in ("diary", "nonesuch", outside, "./diary.cube", "/etc/x.cube"):
        with pytest.raises(NotAllowed, match="does not reach"):
            visit.do(api.show, cube)
    assert {line["verb"] for line in trail_of(cubes, "diary")} == {"init", "ingest"}
    turned = lines_of(door.path_of(cubes))
    assert [line["facts"]["cube"] for line in turned][:2] == ["diary", "nonesuch"]  # type: ignore[index]
    assert {line["actor"]["client"] for line in turned} == {"editor"}  # type: ignore[index]


def test_served_cubes_are_named_and_no_others_are(cubes: Path, work: Path, memos: Memos) -> None:
    ok(memos("ingest", "./team.cube", "c.md", "--embedder", "none"))
    every = clients.Client("x", cubes=("*",))
    visit = Visit.to(cubes, every, served={"team": work / "team.cube"})
    assert [one.path for one in visit.do(api.cubes)] == ["team"]
    assert visit.do(api.query, "team", "diary").hits[0].text == "The diary says nothing."
    with pytest.raises(NotAllowed):
        visit.do(api.show, "work")


def test_a_rule_can_name_a_client(cubes: Path) -> None:
    (cubes / "policy.toml").write_text(
        '[[access.rules]]\nname = "no-query"\neffect = "forbid"\nverbs = ["query"]\nwho = ["client:editor"]\n'
    )
    with pytest.raises(NotAllowed, match="no-query"):
        Visit.to(cubes, EDITOR).do(api.query, "work", "passport")
    other = clients.Client("other", cubes=("work",))
    assert Visit.to(cubes, other).do(api.query, "work", "passport").hits
    assert api.query("work", "passport").hits
    rule = {"name": "r", "effect": "permit", "verbs": ["read"], "who": ["client:editor"]}
    with pytest.raises(Damaged, match="permits to keys"):
        access.read({"rules": [rule]}, where="memcube", local=False)


def test_what_came_from_elsewhere_and_may_not_be_handed_on_is_not(cubes: Path, work: Path, memos: Memos) -> None:
    ok(memos("edit", "work", "--share-scope", "owner"))
    ok(memos("pack", "work", "-o", "work.memcube"))
    other = work / "other"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMOS_HOME", str(other))
        ok(memos("unpack", "work.memcube", str(other / "cubes" / "work.cube"), "--require", "none"))
        assert api.query("work", "passport", home=other).hits
    with pytest.raises(NotAllowed, match="send of"):
        Visit.to(other, EDITOR).do(api.query, "work", "passport")


def test_only_verbs_for_clients_and_no_files_of_this_machine(cubes: Path) -> None:
    full = Visit.to(cubes, clients.Client("x", may=("read", "write", "share"), cubes=("*",)))
    calls = (
        lambda: full.do(api.new_client, "y"), lambda: full.do(api.ingest, "work", ["/etc/passwd"]),
        lambda: full.do(api.govern, "work"), lambda: full.do(api.audit, "work", report="/tmp/x"),
        lambda: full.do(api.show, "work", home=cubes), lambda: full.do(print, "x"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(NotAllowed, match="not for clients"):
            call()


def test_the_bounds_hold_in_every_step_and_thread_and_end_with_the_call(cubes: Path) -> None:
    steps = Visit.to(cubes, EDITOR).do(api.memories, "work")
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.extend(one.text for one in steps))
    thread.start()
    thread.join()
    assert len(seen) == 2
    assert frame.desk(cubes).actor.client is None
    assert len(list(api.memories("work"))) == 3


def test_a_writing_client_remembers_and_is_in_the_version(cubes: Path) -> None:
    writer = Visit.to(cubes, clients.Client("writer", may=("read", "write"), cubes=("work",)))
    done = writer.do(api.ingest_text, "work", "The key is under the mat.")
    assert done.added == 1
    assert api.log("work")[0].actor["client"] == "writer"
    assert writer.do(api.ingest_text, "work", "The key is under the mat.").added == 0
    assert "mat" in writer.do(api.query, "work", "where is the key?").hits[0].text
    for text in ("", " \n"):
        with pytest.raises(Usage):
            writer.do(api.ingest_text, "work", text)


def test_what_tells_of_a_cube_as_a_whole_is_for_clients_that_see_all_of_it(cubes: Path) -> None:
    with pytest.raises(NotAllowed, match="as a whole"):
        Visit.to(cubes, EDITOR).do(api.audit, "work")
    full = Visit.to(cubes, clients.Client("x", cubes=("work",), at_most="restricted"))
    assert not full.do(api.audit, "work").damaged


def test_of_a_cube_that_cannot_be_opened_a_client_is_told_nothing(cubes: Path) -> None:
    manifest = cubes / "cubes" / "work.cube" / "current" / "memcube.toml"
    manifest.write_bytes(manifest.read_bytes() + b"# changed\n")
    assert api.audit("work").damaged
    full = Visit.to(cubes, clients.Client("x", cubes=("work",), at_most="restricted"))
    for verb in (api.audit, api.show, api.log):
        with pytest.raises(Damaged):
            full.do(verb, "work")


def test_the_log_of_the_door_is_told(cubes: Path, memos: Memos) -> None:
    with pytest.raises(NotAllowed):
        Visit.to(cubes, EDITOR).do(api.show, "diary")
    (line,) = [json.loads(one) for one in memos("clients", "log", "--json").lines]
    assert (line["verb"], line["kind"], line["facts"]) == ("reach", "denial", {"cube": "diary"})
    assert memos("clients", "log", "nobody").out == ""
    assert memos("clients", "log", "--since", "7d").code == 0
