"""memos ingest, as a user sees it: increments, supersession, pruning, flags, dry runs, and input that is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Begin, Done, Memos, ok

NOTES = "# Trip\n\n- Passport is in the drawer.\n- The train leaves at nine.\n\nWe stay in a small house by the lake.\n"


def texts(memos: Memos, cube: str = "n.cube", *more: str) -> list[str]:
    return [json.loads(line)["text"] for line in memos("list", cube, "--json", *more).lines]


def counts(done: Done) -> tuple[int, int, int, int]:
    value = done.json
    return value["added"], value["kept"], value["superseded"], value["chunks_embedded"]


def trip(memos: Memos) -> None:
    Path("notes").mkdir()
    Path("notes/trip.md").write_text(NOTES)
    ok(memos("ingest", "n.cube", "notes", "--embedder", "none"))


@pytest.fixture
def notes(begin: Begin, work: Path) -> Path:
    begin(trip)
    return work / "notes"


def test_bullets_and_paragraphs_are_memories_with_their_lines(notes: Path, memos: Memos) -> None:
    found = [json.loads(line) for line in memos("list", "n.cube", "--json").lines]
    assert [(row["text"], row["place"], row["kind"], row["section"]) for row in found] == [
        ("Passport is in the drawer.", "notes/trip.md:3", "bullet", "Trip"),
        ("The train leaves at nine.", "notes/trip.md:4", "bullet", "Trip"),
        ("We stay in a small house by the lake.", "notes/trip.md:6", "paragraph", "Trip"),
    ]
    assert all(row["source_digest"].startswith("sha256:") and row["state"] == "activated" for row in found)


def test_the_same_again_changes_nothing(notes: Path, memos: Memos) -> None:
    before = os.readlink("n.cube/current")
    done = memos("ingest", "n.cube", "notes", "--json")
    assert counts(done) == (0, 3, 0, 0)
    assert not done.json["changed"]
    assert os.readlink("n.cube/current") == before


def test_an_edit_costs_the_edited_chunk(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text(NOTES)
    assert memos("ingest", "e.cube", "a.md").code == 0
    (work / "a.md").write_text(NOTES.replace("nine", "ten") + "\n- A new thought.\n")
    done = memos("ingest", "e.cube", "a.md", "--json")
    assert counts(done) == (2, 2, 1, 2)
    rows = {row["text"]: row for row in map(json.loads, memos("list", "e.cube", "--all", "--json").lines)}
    old, new = rows["The train leaves at nine."], rows["The train leaves at ten."]
    assert (old["state"], old["superseded_by"]) == ("archived", new["id"])
    assert (new["supersedes"], new["place"]) == (old["id"], "a.md:4")
    assert old["valid_to"] == new["valid_from"]


def test_words_that_come_back_get_an_id_of_their_own(notes: Path, memos: Memos) -> None:
    for text in (NOTES.replace("nine", "ten"), NOTES):
        (notes / "trip.md").write_text(text)
        assert memos("ingest", "n.cube", "notes").code == 0
    ids = memos("list", "n.cube", "--all", "-q").lines
    assert len(ids) == len(set(ids)) == 5
    assert memos("audit", "n.cube", "--deep").code == 0


def test_moved_lines_keep_their_ids(notes: Path, memos: Memos) -> None:
    before = set(memos("list", "n.cube", "-q").lines)
    (notes / "trip.md").write_text("# Trip\n\n- Something first.\n" + NOTES.removeprefix("# Trip\n\n"))
    done = memos("ingest", "n.cube", "notes", "--json")
    assert counts(done)[:3] == (1, 3, 0)
    assert before < set(memos("list", "n.cube", "-q").lines)
    assert any(line.endswith("notes/trip.md:5\tThe train leaves at nine.") for line in memos("list", "n.cube").lines)


def test_vanished_sources_are_listed_and_pruned_when_told(notes: Path, memos: Memos) -> None:
    (notes / "other.md").write_text("- Stay.\n")
    memos("ingest", "n.cube", "notes")
    (notes / "trip.md").unlink()
    done = memos("ingest", "n.cube", "notes", "--json")
    assert done.json["vanished"] == ["notes/trip.md"]
    assert len(texts(memos)) == 4
    assert memos("ingest", "n.cube", "notes", "--prune").code == 2
    assert memos("ingest", "n.cube", "notes", "--prune", "--yes").code == 0
    assert texts(memos) == ["Stay."]
    assert len(texts(memos, "n.cube", "--all")) == 4


@pytest.mark.long
def test_a_file_with_a_new_name_keeps_its_memories_and_what_is_hidden(notes: Path, memos: Memos) -> None:
    memos("forget", "n.cube", "--where", "line=3")
    before = memos("list", "n.cube", "-q").lines
    (notes / "trip.md").rename(notes / "journey.md")
    assert memos("ingest", "n.cube", "notes", "--dry-run", "--json").json["added"] == 0
    done = memos("ingest", "n.cube", "notes", "--json")
    assert (done.json["added"], done.json["vanished"]) == (0, [])
    assert "notes/trip.md is now notes/journey.md" in done.err
    assert memos("list", "n.cube", "-q").lines == before
    assert "notes/journey.md:4" in memos("list", "n.cube").out
    assert "Passport" not in memos("query", "n.cube", "passport").out
    assert not memos("ingest", "n.cube", "notes", "--json").json["changed"]
    assert memos("audit", "n.cube", "--deep").code == 0


def test_a_copied_file_is_a_source_of_its_own(notes: Path, memos: Memos) -> None:
    (notes / "copy.md").write_text((notes / "trip.md").read_text())
    assert memos("ingest", "n.cube", "notes", "--json").json["added"] == 3


def test_a_cube_that_moves_away_from_its_files_knows_them(notes: Path, work: Path, memos: Memos) -> None:
    (work / "else").mkdir()
    (work / "n.cube").rename(work / "else" / "n.cube")
    done = memos("ingest", "else/n.cube", "notes", "--json")
    assert (done.json["added"], done.json["kept"]) == (0, 3)
    assert len(memos("list", "else/n.cube", "--all", "-q").lines) == 3


def test_a_source_named_alone_does_not_make_others_vanish(notes: Path, memos: Memos) -> None:
    (notes / "other.md").write_text("- Stay.\n")
    assert memos("ingest", "n.cube", "notes/other.md", "--json").json["vanished"] == []


def test_marks_are_kept_and_changed_without_new_rows(notes: Path, memos: Memos) -> None:
    marks = [
        "--type",
        "fact",
        "--topic",
        "home/trips",
        "--tag",
        "red",
        "--sensitivity",
        "confidential",
        "--priority",
        "7",
    ]
    done = memos("ingest", "n.cube", "notes", *marks, "--ttl", "30", "--owner", "ann", "--json")
    assert counts(done)[:3] == (0, 3, 0)
    row = json.loads(memos("list", "n.cube", "--json").lines[0])
    assert (row["type"], row["topic"], row["tags"], row["sensitivity"]) == (
        "fact",
        "home/trips",
        ["red"],
        "confidential",
    )
    assert (row["priority"], row["owner"]) == (7, "ann")
    assert row["expires_at"]
    assert len(memos("list", "n.cube", "--where", "topic=home/* and tag=red and priority>5").lines) == 3


def test_a_dry_run_counts_and_writes_nothing(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text(NOTES)
    done = memos("ingest", "d.cube", "a.md", "--dry-run", "--json")
    value = done.json
    assert (value["added"], value["dry_run"], value["changed"]) == (3, True, True)
    assert value["text_bytes"] == sum(map(len, ["Passport is in the drawer.", "The train leaves at nine."])) + 37
    assert value["estimated_seconds"] >= 0
    assert not (work / "d.cube").exists()


def test_stdin_is_a_source(memos: Memos) -> None:
    done = memos("ingest", "n.cube", "-", "--embedder", "none", stdin="- From a pipe.\n")
    assert done.code == 0, done.err
    assert texts(memos) == ["From a pipe."]
    assert memos("ingest", "n.cube", "-", "--json", stdin="- From a pipe.\n").json["added"] == 0


def test_a_named_cube_lies_under_the_home(home: Path, work: Path, memos: Memos) -> None:
    (work / "a.md").write_text(NOTES)
    assert memos("ingest", "diary", "a.md", "--embedder", "none").code == 0
    assert (home / "cubes" / "diary.cube" / "current").is_symlink()
    assert memos("list", "--json").json["name"] == "diary"
    assert memos("ingest", "diary", "a.md", "--json").json["added"] == 0


@pytest.mark.many(2)
@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("absent.md", None, 3, "absent.md"),
        ("bad.jsonl", b'{"text": "fine"}\n{"text": \n', 4, "line 2"),
        ("blob.txt", bytes(range(256)) * 40, 4, "blob.txt"),
        ("broken.pdf", b"%PDF-1.7\nnothing here", 4, "broken.pdf"),
    ],
)
def test_bad_input_leaves_no_trace(
    work: Path, memos: Memos, name: str, content: bytes | None, code: int, says: str
) -> None:
    (work / "good.md").write_text(NOTES)
    if content is not None:
        (work / name).write_bytes(content)
    done = memos("ingest", "new.cube", "good.md", name, "--embedder", "none")
    assert (done.code, says in done.err) == (code, True), done.err
    assert not (work / "new.cube").exists()
    memos("ingest", "old.cube", "good.md", "--embedder", "none")
    before = os.readlink("old.cube/current")
    assert memos("ingest", "old.cube", name).code == code
    assert os.readlink("old.cube/current") == before
    assert memos("audit", "old.cube", "--deep").code == 0


def test_skip_bad_keeps_the_rest_and_says_so(work: Path, memos: Memos) -> None:
    (work / "bad.jsonl").write_text('{"text": "one"}\nnot json\n{"text": "three"}\n')
    done = memos("ingest", "n.cube", "bad.jsonl", "--skip-bad", "--embedder", "none")
    assert done.code == 10
    assert "line 2" in done.err
    assert len(texts(memos)) == 2


@pytest.mark.long
def test_what_could_not_be_read_again_is_not_forgotten(work: Path, memos: Memos) -> None:
    (work / "a.json").write_text('["one thought", "two thoughts", "three thoughts"]')
    memos("ingest", "n.cube", "a.json", "--embedder", "none")
    (work / "a.json").write_text('["one thought", "new thought", "three')
    done = memos("ingest", "n.cube", "a.json", "--skip-bad")
    assert done.code == 10, done.out
    assert set(texts(memos)) == {"one thought", "new thought", "three thoughts"}
    assert memos("ingest", "n.cube", "a.json").code == 4
    (work / "a.json").write_text('["one thought"]')
    assert memos("ingest", "n.cube", "a.json").code == 0
    assert texts(memos) == ["one thought"]


@pytest.mark.long
def test_a_skipped_line_is_told_again_until_it_is_mended(work: Path, memos: Memos) -> None:
    (work / "a.jsonl").write_text('{"text": "one"}\nbroken\n')
    for _ in range(2):
        assert memos("ingest", "n.cube", "a.jsonl", "--skip-bad", "--embedder", "none").code == 10
    assert texts(memos) == ["one"]


def test_a_guess_about_the_encoding_is_said(work: Path, memos: Memos) -> None:
    (work / "latin.txt").write_bytes("Größe und Übermut, schöne Gärten und Bäche überall.\n".encode("latin-1"))
    done = memos("ingest", "n.cube", "latin.txt", "--embedder", "none")
    assert done.code == 0
    assert "latin.txt" in done.err


def test_an_embedder_that_is_not_the_cubes_is_refused_with_both_names(notes: Path, memos: Memos) -> None:
    (notes / "more.md").write_text("- More.\n")
    done = memos("ingest", "n.cube", "notes", "--embedder", "minilm")
    assert done.code == 6
    assert "no embedder" in done.err
    assert "all-MiniLM-L6-v2" in done.err
    assert "memos reindex n.cube --embedder minilm" in done.err


def test_a_second_writer_is_told_who_holds_the_cube(notes: Path, memos: Memos) -> None:
    from memos_cli.infrastructure import locks

    (notes / "more.md").write_text("- More.\n")
    with locks.writing(Path("n.cube").resolve(), operation="convert"):
        done = memos("ingest", "n.cube", "notes", "--lock-timeout", "0.1")
    assert done.code == 8
    assert "convert" in done.err
    assert str(os.getpid()) in done.err


def many(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"text": f"thought number {i}"}) + "\n" for i in range(count)))


def start(home: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "memos_cli", *arguments],
        env={**os.environ, "MEMOS_HOME": str(home), **more},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_work_is_taken_up(home: Path, work: Path, memos: Memos, how: signal.Signals) -> None:
    many(work / "big.jsonl", 17_000)
    running = start(home, "ingest", "n.cube", "big.jsonl", "--embedder", "none", MEMOS_FAULT="ingest_batch:delay:1+")
    while running.poll() is None and not list(Path("n.cube").glob("staging/*/mark-*")):
        time.sleep(0.01)
    running.send_signal(how)
    _, err = running.communicate()
    assert running.returncode == (-9 if how == signal.SIGKILL else 130), err
    assert texts(memos) == []
    done = memos("ingest", "n.cube", "big.jsonl", "--embedder", "none", "--json")
    assert done.code == 0, done.err
    assert 0 < done.json["resumed"] < 17_000
    assert done.json["added"] == 17_000
    assert len(set(memos("list", "n.cube", "-q").lines)) == 17_000
    assert memos("audit", "n.cube", "--deep").code == 0
