"""No verb goes round the frame: each is asked of governance and leaves a line in the trail."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from memos_cli import cli
from memos_cli.cube import metadata
from memos_cli.cube.scopes import KINDS
from memos_cli.infrastructure import origin, vault
from memos_cli.infrastructure.governance import VERBS
from memos_cli.interface import frame
from tests.conftest import Memos
from tests.interface.people import People

ID = "{id}"
HANDBOOK = str(Path(__file__).parents[2] / "bundles" / "handbook.cube")
# A call of each command that succeeds on the cube of the fixture, and the verb it is in the trail.
CALLS: dict[str, tuple[list[str], str]] = {
    "init": (["init", "fork.cube", "--from", "team.cube"], "fork"),
    "ingest": (["ingest", "team.cube", "more.md"], "ingest"),
    "query": (["query", "team.cube", "where is the passport?"], "query"),
    "list": (["list", "team.cube"], "list"),
    "show": (["show", "team.cube"], "show"),
    "log": (["log", "team.cube"], "log"),
    "diff": (["diff", "team.cube", "1"], "diff"),
    "edit": (["edit", "team.cube", ID, "--type", "fact"], "edit"),
    "edit CUBE": (["edit", "team.cube", "--ttl", "9"], "govern"),
    "edit --declassify": (
        ["edit", "team.cube", ID, "--sensitivity", "public", "--declassify", "--reason", "why"],
        "declassify",
    ),
    "forget": (["forget", "team.cube", "--ids", ID], "forget"),
    "forget --purge": (["forget", "team.cube", "--ids", ID, "--purge", "--yes"], "forget"),
    "rollback": (["rollback", "team.cube", "1"], "rollback"),
    "tag": (["tag", "team.cube", "good"], "tag"),
    "gc": (["gc", "team.cube", "--yes"], "gc"),
    "tidy": (["tidy", "team.cube"], "tidy"),
    "tidy --apply": (["tidy", "team.cube", "--apply"], "merge"),
    "fuse": (["fuse", "team.cube", HANDBOOK, "-o", "fused.cube"], "fork"),
    "schedule": (["schedule", "team.cube", "--estimate"], "schedule"),
    "reindex": (["reindex", "team.cube", "--embedder", "none"], "reindex"),
    "convert": (["convert", "team.cube", "--ids", ID], "convert"),
    "convert --to prompt": (["convert", "team.cube", "--ids", ID, "--to", "prompt"], "export"),
    "distill": (["distill", "team.cube", "--dry-run"], "distill"),
    "export": (["export", "team.cube", "-o", "out.jsonl"], "export"),
    "pack": (["pack", "team.cube"], "pack"),
    "push": (["push", "team.cube", "./store"], "push"),
    "require": (["require", "team.cube", "other"], "require"),
    "trust": (["trust", "team.cube"], "trust"),
    "audit": (["audit", "team.cube"], "audit"),
    "doctor": (["doctor", "team.cube"], "doctor"),
    "doctor --repair": (["doctor", "team.cube", "--repair"], "repair"),
    "migrate": (["migrate", "team.cube"], "migrate"),
}


@pytest.fixture
def identity(work: Path, memos: Memos) -> str:
    """A cube with memories; the id of one."""
    (work / "notes.md").write_text("- The passport is in the drawer.\n- The home town of Ana is Lindau.\n")
    (work / "more.md").write_text("- Another thought.\n")
    assert memos("ingest", "team.cube", "notes.md", "--embedder", "none").code == 0
    came = origin.Origin("file:///elsewhere/team.memcube", "team", "0.1.0", "sha256:" + "0" * 64, "", "x", "2026-01-01")
    origin.write(Path("team.cube"), came)
    return memos("list", "team.cube", "-q").lines[0]


def arguments(command: str, identity: str) -> list[str]:
    return [word.replace(ID, identity) for word in CALLS[command][0]]


def trail(place: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in place.read_text().splitlines()]


def close(cube: Path) -> None:
    """Puts the cube in the hands of somebody else, who grants nothing."""
    with vault.draft(cube, stamp=vault.Stamp("edit", {"key": "x", "user": "x"}, "2026-01-01T00:00:00Z")) as draft:
        meta = metadata.load(draft.path)
        other = replace(meta.governance, owner="ed25519:" + "f" * 32, read_scope="owner", write_scope="owner")
        vault.write_bytes(draft.path / metadata.FILE, metadata.dumps(replace(meta, governance=other)))
        draft.commit({})


# What opens no cube that is there: a package becomes one, keys are of the home, and each step of a run is a command.
WITHOUT_A_CUBE = {
    "unpack", "keys", "clients", "pull", "search", "info", "install", "upgrade", "outdated", "yank", "index",
    "run", "mcp", "serve",
}  # fmt: skip


# an empty cube, what a query with --remember does after it has answered, what goes to a model elsewhere, and what a
# query of a whole vault does before it opens the cubes that it asks
OTHERWISE = {"init", "remember", "unpack", "pull", "send", "catalogue"}


def test_the_table_has_every_command_and_every_verb() -> None:
    assert {call.split()[0] for call in CALLS} | WITHOUT_A_CUBE == set(cli.COMMANDS)
    assert {verb for _, verb in CALLS.values()} | OTHERWISE == set(VERBS)


@pytest.mark.many(5)
@pytest.mark.parametrize("command", CALLS)
def test_each_command_leaves_a_line_in_the_trail(command: str, identity: str, memos: Memos) -> None:
    done = memos(*arguments(command, identity))
    assert done.code == 0, done.err
    lines = trail(Path("team.cube/log/access.jsonl"))
    last = lines[-1]
    assert (last["verb"], last["outcome"]) == (CALLS[command][1], "ok")
    assert last["actor"]["key"].startswith("ed25519:")


@pytest.mark.many(5)
@pytest.mark.parametrize("command", CALLS)
def test_each_command_is_refused_when_governance_says_no(command: str, identity: str, memos: Memos) -> None:
    close(Path("team.cube"))
    before = os.readlink("team.cube/current")
    done = memos(*arguments(command, identity))
    assert done.code == 5, (done.out, done.err)
    assert done.out == ""
    assert "scope" in done.err or "only its owner" in done.err
    assert "passport" not in done.err
    assert os.readlink("team.cube/current") == before
    last = trail(Path("team.cube/log/access.jsonl"))[-1]
    assert (last["verb"], last["outcome"]) == (CALLS[command][1], "denied")
    assert not Path("fork.cube").exists()


def test_a_query_is_in_the_trail_as_a_keyed_hash_with_what_it_read(identity: str, memos: Memos) -> None:
    memos("query", "team.cube", "where is the passport?")
    last = trail(Path("team.cube/log/access.jsonl"))[-1]
    assert identity in last["memories"]
    assert last["query"]
    assert "passport" not in Path("team.cube/log/access.jsonl").read_text()


def test_failures_are_in_the_trail(identity: str, memos: Memos) -> None:
    assert memos("show", "team.cube", "ffff0000").code == 3
    assert trail(Path("team.cube/log/access.jsonl"))[-1]["outcome"] == "NotFound"


def test_an_expired_cube_is_refused(identity: str, home: Path, memos: Memos) -> None:
    desk = frame.desk(home)
    with frame.changing(desk, "team.cube", "edit") as change:
        old = replace(change.cube, created=change.cube.created.replace(year=2020))
        change.commit({}, cube=replace(old, governance=replace(old.governance, ttl_days=1)))
    done = memos("list", "team.cube")
    assert done.code == 5
    assert "ttl" in done.err


def test_who_may_not_write_is_shown_the_way_to_a_copy(identity: str, home: Path, memos: Memos) -> None:
    (home / "keys" / "identity.pub").unlink()  # somebody else, with a key of their own
    (home / "keys" / "identity.key").unlink()
    assert memos("list", "team.cube").code == 0
    done = memos("ingest", "team.cube", "more.md")
    assert done.code == 5
    assert "write_scope" in done.err


def test_scopes_are_set_when_a_cube_is_made(work: Path, memos: Memos, home: Path) -> None:
    private = ["--read-scope", "owner", "--share-scope", "owner", "--embedder", "none"]
    assert memos("init", "private.cube", *private).code == 0
    assert memos("init", "open.cube", "--share-scope", "anyone", "--embedder", "none").code == 0
    assert memos("init", "odd.cube", "--read-scope", "everybody").code == 2
    for name in ("identity.pub", "identity.key"):  # somebody else, with a key of their own
        (home / "keys" / name).unlink()
    assert memos("list", "private.cube").code == 5
    assert memos("init", "mine.cube", "--from", "private.cube").code == 5
    assert memos("init", "mine.cube", "--from", "open.cube").code == 0
    assert memos("edit", "open.cube", "abcd", "--type", "fact").code == 5


def test_a_copy_is_not_shared_with_more_than_the_cube_was(work: Path, memos: Memos) -> None:
    memos("init", "a.cube", "--embedder", "none")
    assert memos("init", "b.cube", "--from", "a.cube", "--share-scope", "anyone").code == 5
    assert memos("init", "b.cube", "--from", "a.cube", "--read-scope", "owner").code == 0


# What takes a model takes long.
@pytest.mark.many(3)
@pytest.mark.parametrize(
    "command",
    [pytest.param(one, marks=[pytest.mark.slow] * (one.split()[0] in ("convert", "distill"))) for one in CALLS],
)
def test_scopes_hold_at_the_terminal(
    command: str, identity: str, home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command by one who is named in the scopes, one who is not, and one who is forbidden."""
    people = People(home, memos, monkeypatch)
    friend, stranger, foe = people("friend"), people("stranger"), people("foe")
    scope = f"{friend.key} {foe.key} !{foe.key}"
    words = [word for kind in KINDS for word in (f"--{kind}-scope", scope)]
    assert memos("edit", "team.cube", *words).code == 0
    for who in (stranger, foe):
        done = who.run(*arguments(command, identity))
        assert (done.code, done.out) == (5, ""), done.err
    done = friend.run(*arguments(command, identity))
    assert done.code == (5 if VERBS[CALLS[command][1]] == "govern" else 0), done.err
