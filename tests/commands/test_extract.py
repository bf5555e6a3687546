"""memos ingest --extract and memos edit --accept, as a user sees them, with a real server and a real local model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import Done, Memos
from tests.runtime.decoders import save_reciting
from tests.runtime.server import Handler, Server, serving

NOTES = "# Bees\n\n- Ann keeps bees.\n- The hive is blue.\n\n# Boat\n\nBob sold the boat.\n"
KEY = "sk-never-to-be-seen"
SAID = ["It is said that Ann keeps bees.", "It is said that The hive is blue.", "It is said that Bob sold the boat."]


def repeat(handler: Handler) -> None:
    """What each line of the text says, as a model would list it."""
    lines = handler.prompt().partition("<text>\n")[2].partition("\n</text>")[0].splitlines()
    said = [f"{n}. It is said that {line.removeprefix('- ')}" for n, line in enumerate(lines, 1)]
    handler.say("\n".join(["Here they are:", *said]))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(repeat) as started:
        yield started


@pytest.fixture
def notes(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MEMOS_API_KEY", "OPENAI_API_KEY", "MEMOS_EXTRACT", "MEMOS_EXTRACT_URL", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    (work / "notes.md").write_text(NOTES)
    return work / "notes.md"


Run = Callable[..., Done]


@pytest.fixture
def ingest(notes: Path, memos: Memos, server: Server) -> Run:
    """Ingests the notes with the server's model, agreed to."""

    def run(*more: str) -> Done:
        flags = ["--embedder", "none", "--extract", "parrot", "--extract-url", server.url]
        return memos("ingest", "n.cube", "notes.md", *flags, *(more or ["--yes"]))

    return run


def listed(memos: Memos, *more: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in memos("list", "n.cube", "--json", *more).lines]


def waiting(memos: Memos) -> list[str]:
    return [row["text"] for row in listed(memos, "--all", "--where", "state=generated")]


def test_without_the_flag_no_model_is_asked(notes: Path, memos: Memos, server: Server, monkeypatch: Any) -> None:
    monkeypatch.setenv("MEMOS_EXTRACT_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert memos("ingest", "n.cube", "notes.md", "--embedder", "none").code == 0
    assert memos("ingest", "n.cube", "notes.md", "--extract", "none").code == 0
    assert server.requests == []


def test_nothing_is_asked_before_a_yes(ingest: Run, server: Server, work: Path) -> None:
    done = ingest("--json")
    assert done.code == 2
    assert "2 calls to parrot at 127.0.0.1:" in done.err
    assert "no text leaves this machine" in done.err
    assert "--yes" in done.err
    assert server.requests == []
    assert not (work / "n.cube").exists()


def test_a_dry_run_tells_the_cost_and_asks_nobody(ingest: Run, server: Server, work: Path) -> None:
    done = ingest("--dry-run", "--json")
    assert done.code == 0
    told = done.json["extraction"]
    assert (told["model"], told["calls"], told["leaves_machine"], told["encrypted"]) == ("parrot", 2, False, True)
    assert told["host"] == server.url.removeprefix("http://").removesuffix("/v1")
    assert told["tokens_out_limit"] == 1200
    assert "2 calls to parrot" in done.err
    assert server.requests == []
    assert not (work / "n.cube").exists()


def test_what_a_model_wrote_waits_to_be_accepted(ingest: Run, memos: Memos) -> None:
    done = ingest("--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["extracted"] == 3
    assert "2 calls to parrot" in done.err
    assert "3 memories were extracted and wait" in done.err
    rows = listed(memos, "--all", "--where", "state=generated")
    assert [row["text"] for row in rows] == SAID
    assert {row["origin"] for row in rows} == {"inference_extraction"}
    assert [row["place"] for row in rows] == ["notes.md:3-4", "notes.md:3-4", "notes.md:8"]
    assert not set(SAID) & {row["text"] for row in listed(memos)}
    assert SAID[0] not in memos("query", "n.cube", "Ann keeps bees").out
    accepted = memos("edit", "n.cube", rows[0]["id"], rows[2]["id"], "--accept")
    assert accepted.code == 0
    assert "version 3: accepted" in accepted.out
    assert waiting(memos) == [SAID[1]]
    assert SAID[0] in memos("query", "n.cube", "Is it said that Ann keeps bees?").out
    assert memos("audit", "n.cube", "--deep").code == 0


def test_the_json_validates(ingest: Run) -> None:
    from schemas import generate

    schema = generate.schema_of(generate.OUTPUTS["ingest"])
    jsonschema.validate(ingest("--dry-run", "--json").json, schema)
    jsonschema.validate(ingest("--yes", "--json").json, schema)


@pytest.mark.long
def test_only_what_waits_can_be_accepted(ingest: Run, memos: Memos) -> None:
    ingest()
    (row, *_) = listed(memos)
    done = memos("edit", "n.cube", row["id"], "--accept")
    assert done.code == 2
    assert "is activated: only what a model wrote waits" in done.err
    assert "current" in memos("rollback", "n.cube", "2").err


@pytest.mark.long
def test_a_dry_run_of_accepting_changes_nothing(ingest: Run, memos: Memos) -> None:
    ingest()
    (row, *_) = listed(memos, "--all", "--where", "state=generated")
    assert "would accept" in memos("edit", "n.cube", row["id"], "--accept", "--dry-run").out
    assert waiting(memos) == SAID


@pytest.mark.long
def test_words_of_your_own_need_no_acceptance(ingest: Run, memos: Memos) -> None:
    ingest()
    (row, *_) = listed(memos, "--all", "--where", "state=generated")
    assert memos("edit", "n.cube", row["id"], "--text", "Ann has bees since May.").code == 0
    (mine,) = listed(memos, "--where", "kind=memory")
    assert (mine["text"], mine["state"], mine["origin"]) == ("Ann has bees since May.", "activated", "user_input")
    assert mine["place"] == "notes.md:3-4"
    ingest()
    assert [row["text"] for row in listed(memos, "--where", "kind=memory")] == ["Ann has bees since May."]


def test_what_a_model_wrote_can_be_forgotten(ingest: Run, memos: Memos) -> None:
    ingest()
    assert memos("forget", "n.cube", "--where", "state=generated").code == 0
    assert waiting(memos) == []
    (again, *_) = [row for row in listed(memos, "--all") if row["state"] == "forgotten"]
    assert memos("forget", "n.cube", "--ids", again["id"]).code == 3
    assert memos("edit", "n.cube", again["id"], "--accept").code == 3


def test_the_same_again_asks_nobody_and_needs_no_yes(ingest: Run, server: Server) -> None:
    ingest()
    server.requests.clear()
    done = ingest("--json")
    assert done.code == 0, done.err
    assert not done.json["changed"]
    assert server.requests == []


@pytest.mark.long
def test_a_cube_that_was_ingested_without_a_model_can_be_read_later(
    notes: Path, memos: Memos, ingest: Run, server: Server
) -> None:
    memos("ingest", "n.cube", "notes.md", "--embedder", "none")
    done = ingest("--yes", "--json")
    assert (done.json["added"], done.json["kept"], done.json["extracted"]) == (3, 3, 3)
    assert len(server.requests) == 2


def test_an_edit_asks_about_its_part(ingest: Run, notes: Path, memos: Memos, server: Server) -> None:
    ingest()
    server.requests.clear()
    notes.write_text(NOTES.replace("sold", "sank"))
    done = ingest("--yes", "--json")
    assert len(server.requests) == 1
    assert done.json["extracted"] == 1
    assert waiting(memos) == [*SAID[:2], "It is said that Bob sank the boat."]


@pytest.mark.long
def test_a_pruned_source_takes_its_memories_with_it(ingest: Run, notes: Path, memos: Memos, server: Server) -> None:
    folder = notes.parent / "docs"
    folder.mkdir()
    notes.rename(folder / "notes.md")
    flags = ["--embedder", "none", "--yes"]
    model = ["--extract", "parrot", "--extract-url", server.url]
    assert memos("ingest", "n.cube", "docs", *flags, *model).code == 0
    (folder / "notes.md").unlink()
    (folder / "other.md").write_text("Something else.\n")
    assert memos("ingest", "n.cube", "docs", "--prune", *flags).code == 0
    assert waiting(memos) == []
    (folder / "notes.md").write_text(NOTES)
    server.requests.clear()
    assert memos("ingest", "n.cube", "docs", *flags, *model).code == 0
    assert len(server.requests) == 3


@pytest.mark.long
def test_an_embedder_makes_vectors_of_what_was_extracted(notes: Path, memos: Memos, server: Server) -> None:
    done = memos("ingest", "n.cube", "notes.md", "--extract", "parrot", "--extract-url", server.url, "--yes", "--json")
    assert done.json["chunks_embedded"] == 6
    assert memos("audit", "n.cube", "--deep").code == 0
    assert memos("edit", "n.cube", *memos("list", "n.cube", "--all", "--where", "state=generated", "-q").lines,
                 "--accept").code == 0  # fmt: skip
    assert SAID[2] in memos("query", "n.cube", "who got rid of a vessel?", "--mode", "vector").out


@pytest.mark.many(2)
@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, None),
        ({"MEMOS_API_KEY": KEY}, KEY),
        ({"OPENAI_API_KEY": KEY}, KEY),
        ({"OPENAI_API_KEY": "sk-other", "MEMOS_API_KEY": KEY}, KEY),
    ],
)
def test_the_key_goes_to_the_server_and_nowhere_else(
    ingest: Run, server: Server, work: Path, monkeypatch: Any, variables: dict[str, str], sent: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = ingest("--yes", "--json")
    assert done.code == 0, done.err
    assert {headers.get("Authorization") for _, headers, _ in server.requests} == {sent and f"Bearer {sent}"}
    assert KEY not in done.out + done.err
    kept = [path for path in work.parent.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert kept == []


def test_settings_may_come_from_the_environment(notes: Path, memos: Memos, server: Server, monkeypatch: Any) -> None:
    monkeypatch.setenv("MEMOS_EXTRACT", "parrot")
    monkeypatch.setenv("MEMOS_EXTRACT_URL", server.url)
    assert memos("ingest", "n.cube", "notes.md", "--embedder", "none").code == 2
    assert memos("ingest", "n.cube", "notes.md", "--embedder", "none", "--yes").code == 0
    assert len(server.requests) == 2


def test_an_address_without_a_model(notes: Path, memos: Memos) -> None:
    done = memos("ingest", "n.cube", "notes.md", "--extract-url", "http://localhost:1/v1")
    assert done.code == 2
    assert "--extract MODEL" in done.err


def test_what_is_no_address(notes: Path, memos: Memos, work: Path) -> None:
    done = memos("ingest", "n.cube", "notes.md", "--extract", "m", "--extract-url", "localhost/v1", "--yes")
    assert done.code == 2
    assert not (work / "n.cube").exists()


# A reserved name and address (RFC 2606, RFC 5737): nothing could answer even if somebody asked.
ELSEWHERE = ["--embedder", "none", "--extract", "m", "--extract-url", "http://192.0.2.1/v1"]


def test_the_question_says_that_text_leaves_the_machine(notes: Path, memos: Memos) -> None:
    done = memos("ingest", "n.cube", "notes.md", *ELSEWHERE)
    assert done.code == 2
    assert "the text leaves this machine for 192.0.2.1, not encrypted on its way" in done.err
    done = memos("ingest", "n.cube", "notes.md", *ELSEWHERE[:-1], "https://api.example.com/v1")
    assert "the text leaves this machine for api.example.com;" in done.err


def test_confidential_text_does_not_leave_the_machine(notes: Path, memos: Memos, work: Path) -> None:
    done = memos("ingest", "n.cube", "notes.md", *ELSEWHERE, "--yes", "--sensitivity", "confidential")
    assert done.code == 5
    assert "text labelled 'confidential' does not leave this machine" in done.err
    assert not (work / "n.cube").exists()


@pytest.mark.parametrize("flags", [["--yes"], ["--dry-run"]])
def test_a_confidential_cube_is_read_by_no_other_machine(notes: Path, memos: Memos, flags: list[str]) -> None:
    memos("init", "n.cube", "--sensitivity", "confidential", "--embedder", "none")
    assert memos("ingest", "n.cube", "notes.md", *ELSEWHERE, *flags).code == 5


def test_one_confidential_memory_is_enough(notes: Path, memos: Memos, work: Path) -> None:
    memos("ingest", "n.cube", "notes.md", "--embedder", "none")
    (row, *_) = listed(memos)
    memos("edit", "n.cube", row["id"], "--sensitivity", "restricted")
    assert memos("ingest", "n.cube", "notes.md", *ELSEWHERE, "--yes").code == 5
    trail = (work / "n.cube" / "log" / "access.jsonl").read_text().splitlines()
    assert json.loads(trail[-1])["outcome"] == "denied"


def test_confidential_text_may_be_read_on_this_machine(ingest: Run, memos: Memos) -> None:
    assert ingest("--yes", "--sensitivity", "restricted").code == 0
    rows = listed(memos, "--all", "--where", "state=generated")
    assert {row["sensitivity"] for row in rows} == {"restricted"}


def test_the_trail_names_model_and_host(ingest: Run, work: Path, server: Server) -> None:
    ingest()
    trail = [json.loads(line) for line in (work / "n.cube" / "log" / "access.jsonl").read_text().splitlines()]
    facts = trail[-1]["facts"]
    assert (facts["extract_model"], facts["calls"], facts["extracted"]) == ("parrot", 2, 3)
    assert facts["extract_host"] in server.url


@pytest.mark.many(1)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda handler: handler.fail(500, "out of order", Retry_After="0"), "answers 500: out of order"),
        (lambda handler: handler.send(b"<html>"), "expected a completion in JSON"),
        (lambda handler: handler.send(b'{"choices"', length=99), "broke off"),
    ],
)
def test_a_server_that_fails_leaves_the_cube_as_it_was(
    ingest: Run, memos: Memos, server: Server, notes: Path, fault: Callable[[Handler], None], said: str
) -> None:
    memos("ingest", "n.cube", "notes.md", "--embedder", "none")
    server.answer = fault
    done = ingest()
    assert done.code == 7
    assert said in done.err
    assert "Traceback" not in done.err
    assert [row["text"] for row in listed(memos, "--all")] == ["Ann keeps bees.", "The hive is blue.",
                                                              "Bob sold the boat."]  # fmt: skip
    assert memos("audit", "n.cube", "--deep").code == 0


@pytest.mark.many(1)
@pytest.mark.parametrize("fresh", [True, False])
def test_what_was_paid_for_is_not_paid_for_again(
    ingest: Run, memos: Memos, server: Server, notes: Path, fresh: bool
) -> None:
    notes.write_text("".join(f"# Part {n}\n\nThe word of part {n} is {n * 7}.\n\n" for n in range(5)))
    if not fresh:
        memos("ingest", "n.cube", "notes.md", "--embedder", "none")

    def breaks(handler: Handler) -> None:
        repeat(handler) if len(server.requests) <= 3 else handler.fail(500, "out of order", Retry_After="0")

    server.answer = breaks
    assert ingest().code == 7
    server.answer = repeat
    server.requests.clear()
    done = ingest("--yes", "--json")
    assert done.code == 0, done.err
    assert "taking up an interrupted ingest" in done.err
    assert len(server.requests) == 2
    assert done.json["extracted"] == 5
    assert waiting(memos) == [f"It is said that The word of part {n} is {n * 7}." for n in range(5)]
    assert memos("audit", "n.cube", "--deep").code == 0
    assert not ingest("--json").json["changed"]


@pytest.mark.long
def test_a_local_model_needs_no_server(notes: Path, memos: Memos, work: Path) -> None:
    notes.write_text("# Bees\n\nAnn has them.\n")
    save_reciting(work / "models" / "reciter", ["- Ann keeps bees at home.", "2) Bob rows alone."], after="\nFacts:")
    flags = ["--embedder", "none", "--extract", "models/reciter"]
    done = memos("ingest", "n.cube", "notes.md", *flags)
    assert done.code == 2
    assert "1 call to models/reciter" not in done.err
    assert "1 call to reciter on this machine" in done.err
    assert "no text leaves this machine" in done.err
    done = memos("ingest", "n.cube", "notes.md", *flags, "--yes", "--json")
    assert done.code == 0, done.err
    assert waiting(memos) == ["Ann keeps bees at home.", "Bob rows alone."]
    assert done.json["extraction"]["host"] == ""
    again = memos("ingest", "n.cube", "notes.md", *flags, "--json")
    assert (again.code, again.json["changed"]) == (0, False)


def test_a_folder_without_a_model(notes: Path, memos: Memos, work: Path) -> None:
    (work / "empty").mkdir()
    done = memos("ingest", "n.cube", "notes.md", "--extract", "empty", "--yes")
    assert done.code == 3
    assert not (work / "n.cube").exists()
