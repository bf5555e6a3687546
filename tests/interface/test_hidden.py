"""A hidden memory cannot be got at: every verb and flag is tried by somebody who may do all but see it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from memos_cli import cli
from memos_cli.cube.plaintext import Memories
from tests.conftest import Done, Memos, ok
from tests.interface.people import People, Person
from tests.interface.test_frame import WITHOUT_A_CUBE

# Nothing that the stranger gets may have one of these.
SECRET = ("quokka", "7319")
OPEN = ["--read-scope", "anyone", "--write-scope", "anyone", "--share-scope", "anyone", "--embedder", "none"]
CHAT = [
    ("Ann", "Did you change the locks last week?"),
    ("Ben", "Yes, all of them."),
    ("Ann", "The new code of the vault is quokka 7319."),
    ("Ben", "Thanks, I will not write it down."),
    ("Ann", "The garden gate has no lock."),
]


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
def hidden(work: Path, owner: Person) -> str:
    """A cube open to anyone for everything, and the id of the one memory in it that was closed afterwards."""
    lines = [{"speaker": who, "text": said, "session": "s1"} for who, said in CHAT]
    (work / "talk.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (work / "other.md").write_text("- The boiler is in the cellar.\n")
    ok(owner.run("init", "team.cube", *OPEN))
    ok(owner.run("ingest", "team.cube", "talk.jsonl", "other.md"))
    (identity,) = ok(owner.run("list", "team.cube", "-q", "--where", "turn=3")).lines
    ok(owner.run("edit", "team.cube", identity, "--type", "fact"))
    ok(owner.run("edit", "team.cube", identity, "--read-scope", "owner"))
    return identity


def calls(hidden: str) -> dict[str, list[list[str]]]:
    """Ways of asking, by command; each command of the program is here."""
    neighbour, cube = "The garden gate", "team.cube"
    asks = [["code of the vault"], ["quokka"], [neighbour]]
    flags: list[list[str]] = [
        [], ["--json"], ["--explain"], ["--context", "5"], ["--context", "5", "--json"], ["--budget", "400"],
        ["--as-of", "2999"], ["--true-at", "2999"], ["--mode", "text"], ["--with", "second.cube"],
        ["--with", "second.cube", "--json"], ["--where", f"id={hidden}"],
        ["--where", "speaker=Ann", "-k", "50"], ["-q", "-k", "50"],
    ]  # fmt: skip
    return {
        "query": [["query", cube, *ask, *flag] for ask in asks for flag in flags],
        "list": [
            ["list", cube], ["list", cube, "--all"], ["list", cube, "--all", "--json"], ["list"],
            ["list", cube, "--where", f"id={hidden}"], ["list", cube, "--all", "--version", "2"],
            ["list", cube, "--all", "--version", "3", "--json"], ["list", cube, "-n", "3"],
        ],
        "show": [
            ["show", cube], ["show", cube, "--json"], ["show", cube, "--version", "2", "--json"],
            ["show", cube, hidden], ["show", cube, hidden[:4]], ["show", cube, hidden, "--version", "2"],
        ],
        "log": [
            ["log", cube], ["log", cube, "--json"], ["log", cube, "--memory", hidden],
            ["log", cube, "--memory", hidden[:6], "--json"], ["log", cube, "--declassified"],
        ],
        "diff": [["diff", cube, "1"], ["diff", cube, "1", "2"], ["diff", cube, "2", "3", "--json"]],
        "edit": [
            ["edit", cube, hidden, "--type", "x"], ["edit", cube, hidden[:5], "--text", "x"],
            ["edit", cube, hidden, "--read-scope", "anyone"], ["edit", cube, "--where", "turn=3", "--topic", "x"],
            ["edit", cube, "--read-scope", "anyone"], ["edit", cube, hidden, "--accept"],
            ["edit", cube, hidden, "--sensitivity", "public", "--declassify", "--reason", "I want it"],
        ],
        "forget": [
            ["forget", cube, "--ids", hidden], ["forget", cube, "--ids", hidden[:4], "--dry-run"],
            ["forget", cube, "--where", "turn=3"], ["forget", cube, "--where", f"id={hidden}", "--dry-run"],
        ],
        "convert": [["convert", cube, "--ids", hidden, "--to", to, "-o", "out"] for to in ("prompt", "mlx")],
        "distill": [["distill", cube, "--ids", hidden], ["distill", cube, "--where", "turn=3", "--dry-run"]],
        "ingest": [["ingest", cube, "talk.jsonl"], ["ingest", cube, "talk.jsonl", "--dry-run", "--json"]],
        "init": [["init", "copy.cube", "--from", cube]],
        "rollback": [["rollback", cube, "2"], ["rollback", cube, "2", "--dry-run"]],
        "reindex": [["reindex", cube], ["reindex", cube, "--dry-run", "--json"]],
        "schedule": [["schedule", cube, "--estimate"], ["schedule", cube, "--estimate", "--explain", hidden]],
        "tidy": [
            ["tidy", cube], ["tidy", cube, "--all", "--json"], ["tidy", cube, "--where", f"id={hidden}", "--json"],
            ["tidy", cube, "--resolve", "newest", "--apply"],
        ],
        "fuse": [
            ["fuse", cube, "second.cube", "-o", "out-fused.cube", "--dry-run", "--json"],
            ["fuse", cube, "second.cube", "-o", "out-fused.cube"],
        ],
        "gc": [["gc", cube, "--dry-run"], ["gc", cube, "--yes", "--json"]],
        "audit": [["audit", cube], ["audit", cube, "--deep", "--json"], ["audit", cube, "--trace"]],
        "export": [
            ["export", cube, "--all"], ["export", cube, "--ids", hidden], ["export", cube, "--where", "turn=3"],
            ["export", cube, "--all", "--to", "markdown", "-o", "out.md"], ["export", cube, "-o", "out.jsonl", "--all"],
            ["export", cube, "--to", "memos", "-o", "out-memos", "--all"],
        ],
        "tag": [["tag", cube, "mine"], ["tag", cube, "mine", "--version", "2"]],
        "migrate": [["migrate", cube]],
        "pack": [["pack", cube, "-o", "out.memcube"], ["pack", cube, "--dry-run", "--json"]],
        "push": [["push", cube, "./store"], ["push", cube, "./store", "--dry-run"]],
        "require": [["require", cube, "other"]],
        "trust": [["trust", cube]],
        "doctor": [["doctor", cube], ["doctor", cube, "--repair", "--yes"]],
    }  # fmt: skip


def told(done: Done, hidden: str, asked: list[str]) -> list[str]:
    """What of the hidden memory is in what was printed; the words of the question are the asker's own."""
    said = done.out + done.err
    said = said.replace(" ".join(asked), "")
    for word in asked:
        said = said.replace(word, "") if word != "x" else said
    # a digest or key, of which there are many, has any four digits now and then
    plain = re.sub(r"[0-9a-f]{16,}", "", said)
    return [word for word in SECRET if word in plain] + ([hidden] if hidden in said else [])


def test_each_command_is_tried() -> None:
    # a package becomes a cube of its own, and keys are of the home
    assert set(calls("0" * 20)) | WITHOUT_A_CUBE == set(cli.COMMANDS)


@pytest.mark.parametrize("ways_each", [2, pytest.param(None, marks=pytest.mark.long)], ids=["two ways", "every way"])
def test_no_verb_tells_of_a_hidden_memory(
    ways_each: int | None, hidden: str, work: Path, stranger: Person, owner: Person
) -> None:
    (work / "second.md").write_text("- A second cube.\n")
    ok(stranger.run("ingest", "second.cube", "second.md", "--embedder", "none"))
    for command, ways in calls(hidden).items():
        for words in ways[:ways_each]:
            done = stranger.run(*words)
            assert told(done, hidden, words) == [], (command, words, done.out, done.err)
            assert done.code in (0, 2, 3, 5), (words, done.err)
    written = [path for path in work.rglob("out*") if path.is_file()]
    for name in ("out-memos", "out-fused.cube"):
        written += [path for path in work.glob(f"{name}/**/*") if path.is_file()]
    assert written
    assert not [(path, word) for path in written for word in SECRET if word.encode() in path.read_bytes()]
    # without hashes and seconds, in which four digits stand by chance now and then
    log = re.sub(r"[0-9a-f]{20,}|[0-9]+\.[0-9]+", "", (work / "team.cube/log/access.jsonl").read_text())
    assert not [word for word in SECRET if word in log]
    # and after all that it is as it was
    found = ok(owner.run("show", "team.cube", hidden, "--json")).json
    assert (found["text"], found["state"], found["read_scope"]) == (CHAT[2][1], "activated", "owner")
    assert found["sensitivity"] == ""


def test_what_is_hidden_is_not_counted(hidden: str, owner: Person, stranger: Person) -> None:
    mine, theirs = (ok(who.run("show", "team.cube", "--json")).json for who in (owner, stranger))
    assert (mine["memories"], mine["live"], mine["sources"]) == (6, 6, 2)
    assert (theirs["memories"], theirs["live"], theirs["sources"]) == (5, 5, 2)
    assert [line["summary"] for line in map(json.loads, ok(stranger.run("log", "team.cube", "--json")).lines)][0] == {}
    assert ok(owner.run("log", "team.cube", "--json")).lines[0].count("edited") == 1


def test_no_neighbour_is_found_by_hidden_words(hidden: str, owner: Person, stranger: Person) -> None:
    assert ok(stranger.run("query", "team.cube", "quokka", "--mode", "text", "-q")).lines == []
    assert ok(owner.run("query", "team.cube", "quokka", "--mode", "text", "-q")).lines == [hidden]


@pytest.mark.long
def test_hidden_memories_take_no_places_in_a_list(work: Path, owner: Person, stranger: Person) -> None:
    many = "".join(f"- harbour master of pier {n}, closed\n" for n in range(500))
    (work / "closed.md").write_text(many)
    (work / "open.md").write_text("- the harbour master is away, and much else is told here that has no such words\n")
    ok(owner.run("init", "team.cube", *OPEN))
    ok(owner.run("ingest", "team.cube", "closed.md", "--read-scope", "owner"))
    ok(owner.run("ingest", "team.cube", "open.md"))
    found = ok(stranger.run("query", "team.cube", "harbour master", "-k", "3", "--json")).json["hits"]
    assert [hit["source"] for hit in found] == ["open.md"]


def test_a_copy_has_no_trace_of_what_is_hidden(hidden: str, work: Path, owner: Person, stranger: Person) -> None:
    ok(owner.run("edit", "team.cube", "--where", "turn=5", "--share-scope", "owner"))
    ok(stranger.run("init", "copy.cube", "--from", "team.cube"))
    table = Memories.open(work / "copy.cube/current/plaintext")
    assert sorted(table.rows(columns=["turn"])["turn"].to_pylist(), key=str) == [1, 2, 4, None]
    for path in (work / "copy.cube").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [word for word in (*SECRET, hidden, "garden gate") if word.encode() in data], path
    assert ok(stranger.run("show", "copy.cube", "--json")).json["memories"] == 4
    assert ok(stranger.run("audit", "copy.cube", "--deep")).code == 0


def test_the_bytes_of_the_cube_itself_would_tell(hidden: str, work: Path) -> None:
    """The control of the test above: a search of files does find the words where they are."""
    assert any(b"quokka" in path.read_bytes() for path in (work / "team.cube").rglob("*") if path.is_file())


@pytest.mark.long
def test_a_guess_cannot_be_tried_against_a_source(hidden: str, work: Path, owner: Person, stranger: Person) -> None:
    before = ok(owner.run("list", "team.cube", "--all", "-q")).lines
    for text in ("- The boiler is in the attic.\n", "- The boiler is in the cellar.\n"):
        (work / "other.md").write_text(text)
        assert stranger.run("ingest", "team.cube", "other.md", "--dry-run").code == 0
        right = stranger.run("ingest", "team.cube", "talk.jsonl", "--dry-run", "--json")
        (work / "talk.jsonl").write_text(json.dumps({"speaker": "Ann", "text": "a guess", "session": "s1"}))
        wrong = stranger.run("ingest", "team.cube", "talk.jsonl", "--dry-run", "--json")
        assert (right.code, right.err) == (wrong.code, wrong.err) == (5, right.err)
    assert ok(owner.run("list", "team.cube", "--all", "-q")).lines == before


@pytest.mark.long
def test_an_earlier_wording_is_closed_with_the_memory(work: Path, owner: Person, stranger: Person) -> None:
    (work / "a.md").write_text("- The salary of Ann is quokka.\n- Nothing else.\n")
    ok(owner.run("init", "team.cube", *OPEN))
    ok(owner.run("ingest", "team.cube", "a.md"))
    first = ok(owner.run("list", "team.cube", "-q")).lines[0]
    ok(owner.run("edit", "team.cube", first, "--text", "The salary of Ann is secret.", "--read-scope", "owner"))
    for words in (
        ["list", "team.cube", "--all"], ["query", "team.cube", "salary of Ann", "--as-of", "2999"],
        ["show", "team.cube", first], ["diff", "team.cube", "1"], ["list", "team.cube", "--version", "2"],
    ):  # fmt: skip
        done = stranger.run(*words)
        assert "quokka" not in done.out + done.err, words
        assert "secret" not in done.out + done.err, words


def test_a_rollback_opens_nothing_that_was_closed(hidden: str, owner: Person, stranger: Person) -> None:
    ok(owner.run("edit", "team.cube", "--write-scope", "owner"))
    ok(owner.run("rollback", "team.cube", "2"))
    assert ok(stranger.run("query", "team.cube", "quokka", "--mode", "text", "-q")).lines == []
    assert stranger.run("show", "team.cube", hidden).code == 3
    assert "governance" not in ok(owner.run("diff", "team.cube", "5")).out
    assert stranger.run("edit", "team.cube", "--where", "turn=1", "--type", "x").code == 5


@pytest.mark.long
def test_who_wrote_a_fingerprint_into_a_file_is_nobody_else(hidden: str, owner: Person, stranger: Person) -> None:
    (stranger.home / "keys/identity.pub").write_text(owner.key + "\n")
    done = stranger.run("show", "team.cube", hidden)
    assert (done.code, "quokka" in done.out) == (4, False)
    (stranger.home / "keys/identity.pub").unlink()
    assert stranger.run("show", "team.cube", hidden).code == 3
    assert (stranger.home / "keys/identity.pub").read_text().strip() == stranger.key


@pytest.mark.long
def test_a_cube_cannot_open_what_its_reader_closed(hidden: str, owner: Person, stranger: Person) -> None:
    (stranger.home / "policy.toml").write_text(
        '[[access.rules]]\nname = "no-teams"\neffect = "forbid"\nverbs = ["query"]\ncubes = ["team"]\n'
    )
    done = stranger.run("query", "team.cube", "boiler")
    assert (done.code, "no-teams" in done.err) == (5, True)
    assert stranger.run("list", "team.cube").code == 0
