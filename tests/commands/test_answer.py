"""memos query --answer and --remember, as a user sees them, with small real models that always say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from memos_cli.cube import exchanges
from tests.conftest import Begin, Done, Memos, ok
from tests.runtime.decoders import save_parrot

NOTES = "# House\n\n- Boiler code: 4711\n- Bins go out on Tuesday.\n\n# Ana\n\nAna moved to Lindau in May.\n"
CODE = "what is the boiler code?"


def three_notes(memos: Memos) -> None:
    Path("n.md").write_text(NOTES)
    ok(memos("ingest", "n.cube", "n.md", "--embedder", "none"))


@pytest.fixture
def notes(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MEMOS_MODEL", raising=False)
    begin(three_notes)
    return "n.cube"


Ask = Callable[..., Done]


@pytest.fixture
def ask(notes: str, memos: Memos, work: Path) -> Ask:
    """Asks for an answer of a model that always says `says`."""

    def run(question: str | None, *more: str, says: str = "4711", reader: str = "span", **options: Any) -> Done:
        folder = work / "models" / f"parrot-{len(list(work.glob('models/*')))}"
        save_parrot(folder, says, reader=reader)
        words = [question] if question else []
        return memos("query", notes, *words, "--answer", "--model", folder, *more, **options)

    return run


def validate(value: Any) -> None:
    from schemas import generate

    jsonschema.validate(value, generate.schema_of(generate.OUTPUTS["query-answer"]))


def test_an_answer_comes_with_the_memory_that_holds_it(ask: Ask) -> None:
    done = ask(CODE)
    assert done.code == 0, done.err
    assert done.lines == ["4711", "[1] n.md:3"]


def test_json_tells_who_answered_from_what(ask: Ask) -> None:
    told = ask(CODE, "--json").json
    validate(told)
    assert (told["answer"], told["reason"], told["cited_by"]) == ("4711", "", "span")
    (citation,) = told["citations"]
    assert (citation["number"], citation["place"], citation["cube"]) == (1, "n.md:3", "n.cube")
    assert (told["form"], told["model"], told["remembered"]) == ("plaintext", "parrot-0", None)
    assert told["prompt_tokens"] > 5
    assert told["answer_tokens"] == 1
    stages = {"parse", "retrieve", "closeness", "prompt", "load", "rotate", "recompute", "question", "first_token"}
    assert stages | {"imports", "weights", "ttft", "write", "total"} == set(told["seconds"])
    assert abs(sum(told["seconds"][stage] for stage in stages) - told["seconds"]["ttft"]) < 1e-4
    assert told["forms"][0]["why"] == "it was not converted"


def test_a_model_that_does_not_know(ask: Ask) -> None:
    done = ask(CODE, says="unknown")
    assert (done.code, done.lines) == (0, ["not in memory"])
    assert "parrot-0 does not find it" in done.err
    told = ask(CODE, "--json", says="unknown").json
    validate(told)
    assert (told["answer"], told["reason"], told["citations"]) == (None, "model", [])


def test_what_a_reader_made_up_is_no_answer(ask: Ask) -> None:
    done = ask(CODE, says="Reykjavik")
    assert (done.code, done.lines) == (0, ["not in memory"])
    assert "wrote what is in none of the" in done.err
    told = ask(CODE, "--json", says="Reykjavik").json
    assert (told["answer"], told["reason"], told["answer_tokens"]) == (None, "unfounded", 1)


def test_below_the_floor_no_model_is_asked(ask: Ask) -> None:
    comet = "a comet near Jupiter, Saturn, Neptune, Pluto, Venus, Mars, Mercury, Ceres and Lindau"
    done = ask(comet, "--json")
    told = done.json
    validate(told)
    assert (done.code, told["answer"], told["reason"], told["prompt_tokens"]) == (0, None, "floor", 0)
    assert "weights" not in told["seconds"]
    assert ask(comet, "--json", "--floor", "0", says="Lindau").json["answer"] == "Lindau"
    assert ask(CODE, "--json", "--floor", "1").json["reason"] == "floor"


@pytest.mark.long
def test_an_empty_cube_has_no_answer(memos: Memos, work: Path) -> None:
    memos("init", "e.cube", "--embedder", "none")
    save_parrot(work / "parrot", "4711")
    done = memos("query", "e.cube", CODE, "--answer", "--model", "parrot", "--floor", "0")
    assert (done.code, done.lines) == (0, ["not in memory"])


def test_any_other_model_names_the_memory(ask: Ask) -> None:
    told = ask(CODE, "--json", says="The code is 4711 [1].", reader="instructed").json
    assert (told["answer"], told["cited_by"]) == ("The code is 4711 [1].", "model")
    assert [citation["number"] for citation in told["citations"]] == [1]
    done = ask(CODE, says="The code is 4711 [9].", reader="instructed")
    assert "names none of the memories" in done.err


@pytest.mark.long
def test_how_many_memories_a_model_is_given(ask: Ask) -> None:
    assert len(ask("boiler bins Lindau", "--json", says="x").json["hits"]) == 3
    assert len(ask("boiler bins Lindau", "--json", "-k", "1", says="x").json["hits"]) == 1
    assert len(ask("boiler bins Lindau", "--json", "--budget", "5", says="x").json["hits"]) == 1


def test_many_prompts_share_one_model(ask: Ask) -> None:
    lines = json.dumps({"id": "a", "query": CODE, "k": 1}) + f"\n{CODE}\nwhich comet passed Jupiter?\n"
    done = ask(None, "--json", stdin=lines)
    told = [json.loads(line) for line in done.lines]
    for each in told:
        validate(each)
    assert [each["answer"] for each in told] == ["4711", "4711", None]
    assert (told[0]["id"], len(told[0]["hits"])) == ("a", 1)
    assert "weights" not in told[1]["seconds"]


@pytest.mark.long
def test_ids_only(ask: Ask, memos: Memos) -> None:
    done = ask(CODE, "-q")
    assert (done.err, done.lines) == ("", [memos("query", "n.cube", CODE, "-k", "1", "-q").lines[0]])


@pytest.mark.parametrize(
    "flags", [["--remember"], ["--floor", "0.5"], ["--answer", "--context", "1"], ["--answer", "--floor", "2"]]
)
def test_flags_that_do_not_go_together(notes: str, memos: Memos, flags: list[str]) -> None:
    assert memos("query", notes, CODE, *flags).code == 2


def test_a_model_that_is_none(notes: str, memos: Memos) -> None:
    done = memos("query", notes, CODE, "--answer", "--model", "./no-model")
    assert done.code == 3
    assert "expected a model in the folder ./no-model" in done.err


@pytest.mark.long
def test_the_model_of_the_settings(notes: str, memos: Memos, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_parrot(work / "parrot", "4711")
    monkeypatch.setenv("MEMOS_MODEL", "parrot")
    assert memos("query", notes, CODE, "--answer").lines[0] == "4711"
    monkeypatch.delenv("MEMOS_MODEL")
    (work / "memos.toml").write_text('[query]\nmodel = "./parrot"\n')
    assert memos("query", notes, CODE, "--answer").lines[0] == "4711"
    (work / "memos.toml").write_text("[query]\nremember = true\n")
    assert "for a person to decide" in memos("query", notes, CODE).err


def test_the_trail_says_which_model_read(ask: Ask, work: Path) -> None:
    ask(CODE)
    line = json.loads((work / "n.cube" / "log" / "access.jsonl").read_text().splitlines()[-1])
    injected = line["facts"].pop("injected")
    assert len(injected) == 1
    assert injected[0] in line["memories"]
    told = line["facts"]
    assert (told.pop("ranks"), told.pop("tokens") > 0, told.pop("seconds") > 0) == ([1], True, True)
    assert told == {"answered": True, "answered_by": "parrot-0", "form": "plaintext"}


# --- --remember


def waiting(memos: Memos) -> list[dict[str, Any]]:
    lines = memos("list", "n.cube", "--all", "--where", "state=generated", "--json").lines
    return [json.loads(line) for line in lines]


def test_an_exchange_is_written_back_and_waits(ask: Ask, memos: Memos, work: Path) -> None:
    done = ask(CODE, "--remember", "--json")
    assert done.code == 0, done.err
    told = done.json
    validate(told)
    (row,) = waiting(memos)
    assert (row["text"], row["section"], row["kind"]) == ("4711", CODE, "memory")
    assert (row["origin"], row["ref"], row["valid_from"]) == ("inference_extraction", "parrot-0", None)
    assert told["remembered"] == {"ids": [row["id"]], "number": 3, "fresh": True}
    assert "--accept" in done.err
    (exchange,) = exchanges.read(work / "n.cube" / "current" / "plaintext").values()
    assert (exchange.source, exchange.model, exchange.form) == (row["source"], "parrot-0", "plaintext")
    assert exchange.cited == (told["citations"][0]["id"],)
    assert exchange.read[0].endswith("@2")
    assert json.loads(memos("log", "n.cube", "--json").lines[0])["operation"] == "remember"
    assert memos("audit", "n.cube", "--deep").code == 0


def test_what_waits_is_not_recalled_until_accepted(ask: Ask, memos: Memos) -> None:
    ask("which number opens the boiler?", "--remember")
    (row,) = waiting(memos)
    found = memos("query", "n.cube", "which number opens the boiler?", "--json").json
    assert row["id"] not in [hit["id"] for hit in found["hits"]]
    assert memos("edit", "n.cube", row["id"], "--accept").code == 0
    found = memos("query", "n.cube", "which number opens the boiler?", "--json").json
    assert found["hits"][0]["id"] == row["id"]
    told = ask("which number opens the boiler?", "--json").json
    assert row["id"] in [citation["id"] for citation in told["citations"]]
    assert memos("audit", "n.cube", "--deep").code == 0


def test_what_is_accepted_is_linked_with_what_names_its_question(ask: Ask, memos: Memos, work: Path) -> None:
    (work / "talk.md").write_text("Somebody asked which number opens the boiler, and Ben knew.\n")
    memos("ingest", "n.cube", "talk.md")
    ask("which number opens the boiler?", "--remember")
    (row,) = waiting(memos)
    assert "mentions" not in {one["kind"] for one in memos("show", "n.cube", row["id"], "--json").json["links"]}
    memos("edit", "n.cube", row["id"], "--accept")
    told = memos("show", "n.cube", row["id"], "--json").json["links"]
    assert ("mentions", "from") in {(one["kind"], one["way"]) for one in told}


@pytest.mark.long
def test_the_same_exchange_is_not_written_twice(ask: Ask, memos: Memos) -> None:
    first = ask(CODE, "--remember", "--json").json["remembered"]
    again = ask(CODE.upper(), "--remember", "--json")
    assert again.json["remembered"] == {"ids": first["ids"], "number": 3, "fresh": False}
    assert "remembered already" in again.err
    memos("forget", "n.cube", "--ids", first["ids"][0])
    assert not ask(CODE, "--remember", "--json").json["remembered"]["fresh"]
    assert waiting(memos) == []


@pytest.mark.long
def test_many_exchanges_make_one_version(ask: Ask, memos: Memos) -> None:
    done = ask(None, "--remember", stdin=f"{CODE}\nwhich comet passed Jupiter?\nboiler code please\n{CODE}\n")
    assert done.code == 0, done.err
    assert [row["section"] for row in waiting(memos)] == [CODE, "boiler code please"]
    assert "version 3: remembered" in done.err


@pytest.mark.long
def test_no_answer_is_nothing_to_remember(ask: Ask, memos: Memos) -> None:
    done = ask(CODE, "--remember", says="unknown")
    assert done.code == 0
    assert "nothing to remember" in done.err
    assert len(memos("log", "n.cube").lines) == 2


def test_what_is_remembered_has_the_strictest_label_of_what_was_read(ask: Ask, memos: Memos) -> None:
    secret = memos("query", "n.cube", CODE, "-k", "1", "-q").lines[0]
    memos("edit", "n.cube", secret, "--sensitivity", "restricted", "--ttl", "7")
    ask(CODE, "--remember")
    (row,) = waiting(memos)
    assert row["sensitivity"] == "restricted"
    assert row["expires_at"] is not None


def test_who_may_only_read_gets_the_answer_and_a_clear_no(
    ask: Ask, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMOS_HOME", str(tmp_path / "another"))
    done = ask(CODE, "--remember", "--json")
    assert done.code == 5
    assert "remember of 'n' is not allowed" in done.err
    assert (done.json["answer"], done.json["remembered"]) == ("4711", None)
    last = json.loads((work / "n.cube" / "log" / "access.jsonl").read_text().splitlines()[-1])
    assert (last["verb"], last["outcome"]) == ("remember", "denied")
    assert ask(CODE, "--remember").lines[0] == "4711"


@pytest.mark.long
def test_an_exchange_outlives_an_ingest_with_prune(ask: Ask, memos: Memos, work: Path) -> None:
    ask(CODE, "--remember")
    (work / "n.md").write_text(NOTES + "\nThe roses want water.\n")
    assert memos("ingest", "n.cube", ".", "--prune", "--yes").code == 0
    assert [row["text"] for row in waiting(memos)] == ["4711"]
    assert memos("reindex", "n.cube").code == 0
    assert memos("audit", "n.cube", "--deep").code == 0


@pytest.mark.long
def test_several_cubes_are_read_and_one_is_written(ask: Ask, memos: Memos, work: Path) -> None:
    (work / "o.md").write_text("The boiler code was changed to 4711 by Bob.\n")
    memos("init", "o.cube", "--embedder", "none", "--sensitivity", "confidential")
    memos("ingest", "o.cube", "o.md")
    told = ask(CODE, "--with", "o.cube", "--remember", "--json").json
    assert {citation["cube"] for citation in told["citations"]} == {"n.cube", "o.cube"}
    (row,) = waiting(memos)
    assert row["sensitivity"] == "confidential"
