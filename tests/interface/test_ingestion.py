"""Ingest over time: sources that go and come back, marks and hidden memories that stay, work that is taken up."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Locked, MemosError
from memos_cli.infrastructure import faults, locks, vault
from memos_cli.interface import api, changes, frame, resuming
from memos_cli.operation import ingest as batches
from tests.conftest import Begin, Memos, ok

NONE = ("--embedder", "none")


def rows(memos: Memos, cube: str = "n.cube", *more: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in memos("list", cube, "--json", *more).lines]


def texts(memos: Memos, cube: str = "n.cube", *more: str) -> list[str]:
    return [row["text"] for row in rows(memos, cube, *more)]


def two_files(memos: Memos) -> None:
    folder = Path("notes")
    folder.mkdir()
    (folder / "a.md").write_text("- The passport is in the drawer.\n- The safe opens with 1234.\n")
    (folder / "b.md").write_text("- The train leaves at nine.\n")
    ok(memos("ingest", "n.cube", "notes", *NONE))


@pytest.fixture
def notes(begin: Begin, work: Path) -> Path:
    """A folder of two files, in n.cube."""
    begin(two_files)
    return work / "notes"


def prune(memos: Memos) -> None:
    done = memos("ingest", "n.cube", "notes", "--prune", "--yes")
    assert done.code == 0, done.err


def test_a_source_that_comes_back_gets_ids_of_its_own(notes: Path, memos: Memos) -> None:
    words = (notes / "b.md").read_text()
    (notes / "b.md").unlink()
    prune(memos)
    (notes / "b.md").write_text(words)
    assert memos("ingest", "n.cube", "notes").code == 0
    ids = memos("list", "n.cube", "--all", "-q").lines
    assert len(ids) == len(set(ids)) == 4
    (notes / "b.md").write_text(words + "- And another at ten.\n")
    assert memos("ingest", "n.cube", "notes", "--tag", "trip").code == 0
    assert memos("audit", "n.cube", "--deep").code == 0


def test_what_is_hidden_stays_hidden_when_its_words_go_and_come_back(notes: Path, memos: Memos) -> None:
    memos("forget", "n.cube", "--where", "source=notes/a.md and kind=bullet")
    words = (notes / "a.md").read_text()
    (notes / "a.md").write_text("- Something else.\n")
    assert memos("ingest", "n.cube", "notes").code == 0
    assert not memos("ingest", "n.cube", "notes", "--json").json["changed"]
    (notes / "a.md").write_text(words)
    assert memos("ingest", "n.cube", "notes").code == 0
    assert texts(memos) == ["The train leaves at nine."]
    (notes / "a.md").unlink()
    prune(memos)
    (notes / "a.md").write_text(words)
    assert memos("ingest", "n.cube", "notes").code == 0
    assert texts(memos) == ["The train leaves at nine."]


def test_an_edited_file_keeps_the_marks_it_was_given(notes: Path, memos: Memos) -> None:
    marks = ["--sensitivity", "confidential", "--topic", "home", "--tag", "red", "--owner", "ann", "--ttl", "30"]
    memos("ingest", "n.cube", "notes/a.md", *marks)
    (notes / "a.md").write_text("- The passport is in the safe.\n- The safe opens with 1234.\n- Never tell.\n")
    assert memos("ingest", "n.cube", "notes").code == 0
    found = [row for row in rows(memos) if row["source"] == "notes/a.md"]
    assert len(found) == 3
    assert {(row["sensitivity"], row["topic"], *row["tags"], row["owner"]) for row in found} == {
        ("confidential", "home", "red", "ann")
    }
    assert len({row["expires_at"] for row in found}) == 1


def test_new_words_beside_a_stricter_label_take_it(notes: Path, memos: Memos) -> None:
    secret = next(row["id"] for row in rows(memos) if "safe" in row["text"])
    memos("edit", "n.cube", secret, "--sensitivity", "restricted", "--topic", "keys")
    (notes / "a.md").write_text((notes / "a.md").read_text() + "- The code is changed on Mondays.\n")
    memos("ingest", "n.cube", "notes")
    fresh = next(row for row in rows(memos) if "Mondays" in row["text"])
    assert (fresh["sensitivity"], fresh["topic"]) == ("restricted", "")


def interrupt(monkeypatch: pytest.MonkeyPatch, *sources: str, **settings: Any) -> None:
    """An ingest that stops after its first batch, which is kept."""
    api.init("n.cube", embedder="none")
    monkeypatch.setattr(resuming, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(batches, "BATCH_LEXICAL", 512)
    monkeypatch.setenv(faults.VARIABLE, "ingest_batch:eio:2")
    faults.reset()
    with pytest.raises(MemosError, match="injected"):
        api.ingest("n.cube", list(sources), embedder="none", **settings)
    monkeypatch.delenv(faults.VARIABLE)


def many(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"text": f"thought number {i}"}) + "\n" for i in range(count)))


@pytest.mark.long
def test_a_half_read_source_that_goes_away_is_read_whole_when_it_comes_back(
    work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "in").mkdir()
    many(work / "in" / "big.jsonl", 1_100)
    (work / "in" / "small.md").write_text("- One small thing.\n")
    interrupt(monkeypatch, "in")
    (work / "in" / "big.jsonl").rename(work / "big.jsonl")
    done = memos("ingest", "n.cube", "in", "--json")
    assert done.code == 0, done.err
    assert done.json["resumed"] > 0
    (work / "big.jsonl").rename(work / "in" / "big.jsonl")
    assert memos("ingest", "n.cube", "in").code == 0
    assert len(set(memos("list", "n.cube", "-q").lines)) == 1_101


@pytest.mark.long
def test_another_format_does_not_go_on_where_the_first_stopped(
    work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(work / "big.jsonl", 1_100)
    interrupt(monkeypatch, "big.jsonl")
    done = memos("ingest", "n.cube", "big.jsonl", "--format", "text", "--json")
    assert (done.code, done.json["resumed"]) == (0, 0), done.err


@pytest.mark.long
def test_another_text_on_stdin_does_not_go_on_where_the_first_stopped(
    work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(work / "big.jsonl", 1_100)
    begun = (work / "big.jsonl").read_bytes()
    interrupt(monkeypatch, "-", stdin=io.BytesIO(begun))
    done = memos("ingest", "n.cube", "-", "--json", stdin="- Something else.\n")
    assert (done.code, done.json["resumed"]) == (0, 0), done.err
    assert texts(memos) == ["Something else."]


def test_a_new_cube_that_somebody_else_writes_meanwhile_is_left(
    home: Path, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a.md").write_text("- One.\n")
    (work / "bad.jsonl").write_text('{"text": \n')
    real = frame.changing

    def late(*arguments: Any, **settings: Any) -> Any:
        monkeypatch.setattr(frame, "changing", real)
        api.ingest("n.cube", ["a.md"])
        return real(*arguments, **settings)

    monkeypatch.setattr(frame, "changing", late)
    with pytest.raises(MemosError):
        api.ingest("n.cube", ["bad.jsonl"], embedder="none")
    assert texts(memos) == ["One."]


@pytest.mark.long
def test_who_is_not_the_first_to_make_a_cube_fills_it_all_the_same(
    home: Path, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a.md").write_text("- One.\n")
    (work / "b.md").write_text("- Two.\n")
    real = changes.make

    def late(*arguments: Any, **settings: Any) -> Any:
        monkeypatch.setattr(changes, "make", real)
        api.ingest("n.cube", ["a.md"], embedder="none")
        return real(*arguments, **settings)

    monkeypatch.setattr(changes, "make", late)
    api.ingest("n.cube", ["b.md"], embedder="none")
    assert sorted(texts(memos)) == ["One.", "Two."]


def test_a_new_cube_that_is_locked_is_left(home: Path, work: Path, memos: Memos) -> None:
    stamp = vault.Stamp("init", {"key": "k", "user": "u"}, "2026-01-01T00:00:00Z")
    made = vault.create(work / "n.cube", stamp=stamp, write=lambda path: vault.write_bytes(path / "a", b"a"))
    with locks.writing(work / "n.cube", operation="ingest"), pytest.raises(Locked):
        vault.withdraw(work / "n.cube", made)
    assert (work / "n.cube" / "current").is_symlink()
    vault.withdraw(work / "n.cube", made)
    assert not (work / "n.cube").exists()


def vanished(memos: Memos, *sources: str) -> list[str]:
    found: list[str] = memos("ingest", "n.cube", *sources, "--json").json["vanished"]
    return found


def test_what_is_only_passed_over_has_not_vanished(notes: Path, memos: Memos) -> None:
    (notes / ".secret").mkdir()
    (notes / ".secret" / "c.md").write_text("- Named by itself.\n")
    memos("ingest", "n.cube", "notes/.secret/c.md")
    (notes / ".gitignore").write_text("b.md\n")
    assert vanished(memos, "notes") == []
    (notes / "a.md").unlink()
    assert vanished(memos, "notes") == ["notes/a.md"]


def test_a_folder_around_the_cube_covers_what_lies_beside_it(work: Path, memos: Memos) -> None:
    for place in ("in/a.md", "out/b.md"):
        (work / place).parent.mkdir()
        (work / place).write_text(f"- A thought of {place}.\n")
    assert memos("ingest", "in/n.cube", ".", *NONE).code == 0
    (work / "in" / "a.md").unlink()
    (work / "out" / "b.md").unlink()
    (work / "out" / "c.md").write_text("- Something else.\n")
    found = memos("ingest", "in/n.cube", ".", "--json").json["vanished"]
    assert sorted(found) == [str(work / "out" / "b.md"), "a.md"]


@pytest.mark.many(2)
@pytest.mark.parametrize("name", ["my notes.cube", "caf\u00e9.cube", "\u7b14\u8bb0.cube", ".cube", "-x y-.cube"])
def test_a_cube_may_lie_in_a_folder_of_any_name(work: Path, memos: Memos, name: str) -> None:
    (work / "a.md").write_text("- One.\n")
    assert memos("ingest", f"./{name}", "a.md", *NONE).code == 0
    assert texts(memos, f"./{name}") == ["One."]


@pytest.mark.long
def test_a_source_has_one_name_by_whatever_link_the_cube_is_reached(notes: Path, work: Path, memos: Memos) -> None:
    (work / "else").mkdir()
    (work / "else" / "link.cube").symlink_to(work / "n.cube")
    (work / "else" / "notes").symlink_to(work / "notes")
    for words in (["else/link.cube", "notes"], ["n.cube", "else/notes"], ["else/link.cube", "else/notes/a.md"]):
        assert not memos("ingest", *words, "--json").json["changed"], words


def near(cube: str = "n.cube") -> dict[str, str]:
    from memos_cli.cube.plaintext import LIVE, Memories

    rows = Memories.open(Path(cube) / "current" / "plaintext").rows(LIVE, columns=["text", "wide"]).to_pylist()
    return {row["text"]: row["wide"] for row in rows}


def test_no_memory_is_found_by_the_words_of_one_with_another_label(work: Path, memos: Memos) -> None:
    talk = work / "talk.txt"
    talk.write_text("Ann: Hello there Bob\nBob: The code is 1234\nAnn: See you at nine\n")
    assert memos("ingest", "n.cube", "talk.txt", *NONE).code == 0
    assert "1234" in near()["Hello there Bob"]
    secret = next(row["id"] for row in rows(memos) if "1234" in row["text"])
    memos("edit", "n.cube", secret, "--sensitivity", "restricted")
    assert [text for text, wide in near().items() if "1234" in wide] == ["The code is 1234"]
    talk.write_text(talk.read_text().replace("1234", "4321"))
    assert memos("ingest", "n.cube", "talk.txt").code == 0
    assert [text for text, wide in near().items() if "4321" in wide] == ["The code is 4321"]
    assert next(row["sensitivity"] for row in rows(memos) if "4321" in row["text"]) == "restricted"


def test_a_name_with_a_line_break_is_shown_on_one_line(work: Path, memos: Memos) -> None:
    (work / "a\nb\tc.md").write_text("- One thought.\n")
    (line,) = memos("ingest", "n.cube", "a\nb\tc.md", *NONE).lines[:-1]
    assert line.split("\t")[1] == "a\\nb\\tc.md"
    assert memos("query", "n.cube", "thought", "--budget", "50").lines[0] == "[1] a\\nb\\tc.md:1"


@pytest.mark.many(1)
@pytest.mark.parametrize("change", ["shorter", "longer", "other"])
def test_a_half_read_source_that_was_changed_is_read_as_it_is_now(
    work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    many(work / "big.jsonl", 1_100)
    interrupt(monkeypatch, "big.jsonl")
    lines = (work / "big.jsonl").read_text().splitlines(keepends=True)
    changed = {"shorter": lines[:600], "longer": [*lines, '{"text": "one more"}\n'], "other": lines[::-1]}[change]
    (work / "big.jsonl").write_text("".join(changed))
    assert memos("ingest", "n.cube", "big.jsonl").code == 0
    assert sorted(texts(memos)) == sorted(json.loads(line)["text"] for line in changed)
    assert memos("audit", "n.cube", "--deep").code == 0


def test_the_same_marks_again_change_nothing(notes: Path, memos: Memos) -> None:
    words = ["ingest", "n.cube", "notes", "--tag", "red", "--sensitivity", "internal", "--json"]
    assert [memos(*words).json["changed"] for _ in range(2)] == [True, False]


def test_a_cube_is_not_a_source(notes: Path, memos: Memos) -> None:
    done = memos("ingest", "other.cube", "n.cube")
    assert (done.code, "is a cube, not a source" in done.err) == (2, True)
    assert not Path("other.cube").exists()
