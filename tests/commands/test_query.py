"""memos query, as a user sees it: answers with their place, filters, time, budgets, several cubes, many prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Begin, Memos, ok

CHAT = [
    ("s1", "Ann", "Which city are you moving to?", "2024-03-01T10:00:00Z"),
    ("s1", "Bob", "Lisbon, at the end of the month.", "2024-03-01T10:01:00Z"),
    ("s1", "Ann", "Lovely! I was there in May.", "2024-03-01T10:02:00Z"),
    ("s2", "Bob", "My dog Rex learned to swim.", "2024-06-02T09:00:00Z"),
    ("s2", "Ann", "Rex is the best dog.", "2024-06-02T09:01:00Z"),
]


def talk(memos: Memos) -> None:
    lines = [json.dumps(dict(zip(("session", "speaker", "text", "time"), turn, strict=True))) for turn in CHAT]
    Path("chat.jsonl").write_text("\n".join(lines) + "\n")
    ok(memos("ingest", "c.cube", "chat.jsonl", "--embedder", "none"))


@pytest.fixture
def chat(begin: Begin) -> str:
    begin(talk)
    return "c.cube"


def house(memos: Memos) -> None:
    Path("n.md").write_text(
        "# House\n\n- The boiler code is 4711.\n- Bins go out on Tuesday.\n\n"
        "## Garden\n\nThe roses want water in the evening.\n"
    )
    ok(memos("ingest", "n.cube", "n.md"))


@pytest.fixture
def notes(begin: Begin) -> str:
    begin(house)
    return "n.cube"


def test_a_question_finds_the_passage_and_its_line(notes: str, memos: Memos) -> None:
    done = memos("query", notes, "when do I put the bins out?", "-k", "1")
    assert done.code == 0, done.err
    rank, _, _, place, _, _, text = done.lines[0].split("\t")
    assert (rank, place, text) == ("1", "n.md:4", "Bins go out on Tuesday.")
    assert done.err == ""


def test_json_has_every_field_and_shares_that_add_up(notes: str, memos: Memos) -> None:
    found = memos("query", notes, "boiler code", "--json").json
    hit = found["hits"][0]
    assert hit["text"] == "The boiler code is 4711."
    assert (hit["source"], hit["line_start"], hit["line_end"], hit["section"]) == ("n.md", 3, 3, "House")
    assert abs(sum(hit["signals"].values()) - hit["score"]) < 0.01
    assert found["missing"] == []


@pytest.mark.parametrize(
    "question", ["What is it that the dog has been learning to do?", '"rex" AND (swim', "rex -dog +:*^~"]
)
def test_a_question_never_fails_or_comes_back_empty_for_its_grammar(chat: str, memos: Memos, question: str) -> None:
    done = memos("query", chat, question)
    assert done.code == 0, done.err
    assert done.lines


def test_a_missing_signal_is_declared_in_talk_and_in_json(chat: str, memos: Memos) -> None:
    done = memos("query", chat, "dog", "--json")
    assert "without vectors" in done.err
    assert "made without an embedder" in done.json["missing"][0]
    assert memos("query", chat, "dog", "--mode", "text").lines


def test_filters_are_a_hard_boundary(chat: str, memos: Memos) -> None:
    done = memos("query", chat, "dog swim", "--where", "speaker=Ann and time<2024-05", "--json")
    assert {hit["speaker"] for hit in done.json["hits"]} <= {"Ann"}
    assert all(hit["time"] < "2024-05" for hit in done.json["hits"])
    assert memos("query", chat, "dog", "--where", "speaker=Nobody").out == ""
    unknown = memos("query", chat, "dog", "--where", "colour=red")
    assert unknown.code == 2
    assert "speaker" in unknown.err


def test_as_of_answers_from_what_was_valid(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- The office is in Rome.\n")
    memos("ingest", "t.cube", "a.md", "--embedder", "none")
    row = memos("list", "t.cube", "--json").json
    (work / "a.md").write_text("- The office is in Oslo.\n")
    memos("ingest", "t.cube", "a.md")
    assert "Oslo" in memos("query", "t.cube", "office").out
    then = memos("query", "t.cube", "office", "--as-of", row["valid_from"]).out
    assert "Rome" in then
    assert "Oslo" not in then


def test_a_budget_packs_a_context_with_citations(notes: str, memos: Memos) -> None:
    whole = memos("query", notes, "boiler", "--budget", "200", "--json").json
    assert whole["context"].startswith("[1] n.md:3\nThe boiler code is 4711.")
    assert whole["context_tokens"] <= 200
    assert whole["tokenizer"] == "all-MiniLM-L6-v2"
    small = memos("query", notes, "boiler", "--budget", "6", "--json").json
    assert 0 < small["context_tokens"] <= 6


def test_a_budget_is_counted_as_the_model_does(notes: str, work: Path, memos: Memos) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    (work / "model").mkdir()
    tokenizer.save(str(work / "model" / "tokenizer.json"))
    found = memos("query", notes, "boiler", "--budget", "30", "--model", "model", "--json").json
    assert (found["tokenizer"], found["context_tokens"] <= 30) == ("model", True)
    assert memos("query", notes, "boiler", "--budget", "30", "--model", "absent").code == 3
    (work / "model" / "tokenizer.json").write_text("{")
    assert memos("query", notes, "boiler", "--budget", "30", "--model", "model").code == 4


def test_without_a_tokenizer_the_estimate_is_stated(chat: str, memos: Memos) -> None:
    found = memos("query", chat, "dog", "--budget", "50", "--json").json
    assert "estimate" in found["tokenizer"]


def test_neighbours_are_shown_when_asked_for(chat: str, memos: Memos) -> None:
    hit = memos("query", chat, "Lisbon", "--context", "1", "-k", "1", "--json").json["hits"][0]
    assert [beside["text"] for beside in hit["before"]] == ["Which city are you moving to?"]
    assert [beside["text"] for beside in hit["after"]] == ["Lovely! I was there in May."]


def test_several_cubes_are_one_ranking(chat: str, work: Path, memos: Memos) -> None:
    (work / "dogs.md").write_text("- A dog called Rex swims in the lake every day.\n")
    memos("ingest", "d.cube", "dogs.md", "--embedder", "none")
    found = memos("query", chat, "Rex the dog swims", "--with", "d.cube", "--json").json
    assert found["cubes"] == ["c.cube", "d.cube"]
    assert {hit["cube"] for hit in found["hits"][:3]} == {"c.cube", "d.cube"}
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_prompts_come_a_line_each_or_as_jsonl(chat: str, memos: Memos) -> None:
    piped = 'dog\n\n{"query": "which city?", "id": "q2", "k": 1}\n'
    done = memos("query", chat, "-", "--json", stdin=piped)
    first, second = map(json.loads, done.lines)
    assert (first["query"], second["query"], second["id"], len(second["hits"])) == ("dog", "which city?", "q2", 1)
    assert memos("query", chat, stdin="dog\n").lines[0].startswith("dog\t1\t")


@pytest.mark.parametrize(
    ("stdin", "code", "says"),
    [
        ("", 2, "empty"),
        ("   \n\n", 2, "empty"),
        ('{"query": \n', 4, "line 1"),
        ('{"k": 3}\n', 4, "query"),
        ('{"query": "x", "k": 0}', 4, "k"),
    ],
)
def test_prompts_that_are_none_are_refused(chat: str, memos: Memos, stdin: str, code: int, says: str) -> None:
    done = memos("query", chat, "-", stdin=stdin)
    assert (done.code, says in done.err) == (code, True), done.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["query", "c.cube", ""], 2),
        (["query", "c.cube", "dog", "--mode", "magic"], 2),
        (["query", "c.cube", "dog", "--as-of", "soon"], 2),
        (["query", "none.cube", "dog"], 3),
        (["query", ".", "dog"], 2),
        (["query", "./", "dog"], 4),
        (["query", "chat.jsonl.cube", "dog"], 4),
        (["query", "c.cube", "dog", "--with", "c.cube"], 2),
        (["query", "c.cube", "dog", "--embedder", "minilm"], 6),
    ],
)
def test_bad_calls_end_in_their_code(chat: str, work: Path, memos: Memos, arguments: list[str], code: int) -> None:
    (work / "chat.jsonl.cube").write_text("not a folder")
    done = memos(*arguments)
    assert done.code == code, (done.out, done.err)
    assert done.err.startswith(("memos: ", "Usage"))


def test_forgotten_words_are_found_nowhere(chat: str, memos: Memos) -> None:
    (identity,) = (json.loads(line)["id"] for line in memos("list", chat, "--json").lines if "Lisbon" in line)
    assert memos("forget", chat, "--ids", identity[:8]).code == 0
    found = memos("query", chat, "Lisbon", "--json").json
    assert identity not in [hit["id"] for hit in found["hits"]]
    assert not [hit for hit in found["hits"] if hit["signals"].get("near", 0) > 0 or hit["signals"].get("wide", 0) > 0]
    assert memos("forget", chat, "--ids", identity).code == 3


@pytest.mark.long
def test_a_forgotten_memory_stays_hidden_when_its_source_changes(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- Keep this.\n- Hide the pearl.\n")
    memos("ingest", "h.cube", "a.md", "--embedder", "none")
    memos("forget", "h.cube", "--where", "line=2")
    (work / "a.md").write_text("- Keep this.\n- Hide the pearl.\n- New one.\n")
    assert memos("ingest", "h.cube", "a.md", "--json").json["added"] == 1
    assert "pearl" not in memos("list", "h.cube").out
    assert "pearl" not in memos("query", "h.cube", "pearl").out


@pytest.mark.long
def test_an_edit_by_hand_outlives_its_source(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- The key is under the mat.\n- Another.\n")
    memos("ingest", "e.cube", "a.md", "--embedder", "none")
    identity = memos("list", "e.cube", "-q").lines[0]
    assert memos("edit", "e.cube", identity, "--text", "The key is with Ann.").code == 0
    (work / "a.md").write_text("- The key is under the mat.\n- Another.\n- Third.\n")
    memos("ingest", "e.cube", "a.md")
    assert "The key is with Ann." in memos("query", "e.cube", "where is the key?", "-k", "1").out
    assert "mat" not in memos("list", "e.cube").out


def test_text_from_a_memory_cannot_drive_the_terminal(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- Beware \x1b[31mred\x1b[0m and [bold]markup[/bold] \u202etxt\n")
    memos("ingest", "x.cube", "a.md", "--embedder", "none")
    for arguments in (["query", "x.cube", "beware"], ["query", "x.cube", "beware", "--json"], ["list", "x.cube"]):
        out = memos(*arguments).out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "[bold]markup[/bold]" in out
