"""memos query --explain, --time-scope and --reader, as a user sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memos_cli.interface import api
from tests.commands.test_query import CHAT
from tests.conftest import Begin, Memos, ok
from tests.runtime.server import Handler, serving

READ = {
    "intent": "place",
    "entities": [{"text": "Bob", "kind": "name"}],
    "time": None,
    "topic": "moving",
    "forms": ["plaintext"],
}


def talk(memos: Memos) -> None:
    lines = [json.dumps(dict(zip(("session", "speaker", "text", "time"), turn, strict=True))) for turn in CHAT]
    Path("chat.jsonl").write_text("\n".join(lines) + "\n")
    ok(memos("ingest", "c.cube", "chat.jsonl", "--embedder", "none"))


@pytest.fixture
def chat(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("MEMOS_READER", "MEMOS_BASE_URL", "MEMOS_API_KEY", "OPENAI_API_KEY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    begin(talk)
    return "c.cube"


def test_explain_shows_the_call_and_why_each_ranks_so(chat: str, memos: Memos) -> None:
    done = memos("query", chat, "Which dog did Bob mention in June 2024?", "-k", "1", "--explain")
    assert done.code == 0, done.err
    assert done.lines[0] == "asks for  fact, searched as: dog mention June 2024"
    assert "names     Bob (speaker)" in done.lines
    assert "time      'June 2024' = 2024-06-01 to 2024-06-30: what memories tell of; those rank higher" in done.lines
    whys = [line for line in done.lines if line.startswith("   why ")]
    assert "Bob said it +2.00" in whys[0]
    assert "has the words dog" in whys[0]
    assert any(line.startswith("the next of ") for line in done.lines)
    assert "behind the last one shown" in whys[1]
    assert "parse" in done.lines[-1]


def test_json_carries_the_call_always_and_candidates_on_request(chat: str, memos: Memos) -> None:
    words = ["query", chat, "Which dog did Bob mention in June 2024?", "-k", "1", "--json"]
    plain, told = memos(*words).json, memos(*words, "--explain").json
    assert plain["candidates"] == []
    assert told["prompt"] == plain["prompt"]
    time = told["prompt"]["time"]
    assert time["days"] == [{"first": "2024-06-01", "last": "2024-06-30"}]
    assert (time["relation"], time["effect"]) == ("at", "raised")
    assert [one["shown"] for one in told["candidates"]] == [True] + [False] * (len(told["candidates"]) - 1)
    assert [one["score"] for one in told["candidates"]] == sorted(
        (c["score"] for c in told["candidates"]), reverse=True
    )
    assert told["candidates"][0]["id"] == told["hits"][0]["id"]
    assert told["considered"] >= len(told["candidates"])


def test_what_is_not_shown_is_no_use_of_a_memory(chat: str, work: Path, memos: Memos) -> None:
    memos("query", chat, "dog", "-k", "1", "--explain")
    line = json.loads((work / chat / "log" / "access.jsonl").read_text().splitlines()[-1])
    assert len(line["memories"]) == 1


def test_only_what_is_of_the_time_is_shown_when_that_is_asked(chat: str, memos: Memos) -> None:
    done = memos("query", chat, "what did they say in March 2024?", "--time-scope", "only", "--json")
    assert {hit["time"][:7] for hit in done.json["hits"]} == {"2024-03"}
    assert "only what is of then or tells of then, as 'March 2024' says; --time-scope off asks all" in done.err
    none = memos("query", chat, "what did they say in 1999?", "--time-scope", "only")
    assert (none.code, none.out) == (0, "")
    assert memos("query", chat, "x", "--time-scope", "never").code == 2
    piped = memos("query", chat, "-", "--json", stdin='{"query": "dogs in 1999", "time_scope": "only"}\n')
    assert piped.json["hits"] == []


def test_as_of_in_the_words_is_as_of(chat: str, memos: Memos) -> None:
    done = memos("query", chat, "as of 2020, which dog?", "--json")
    assert done.json["hits"] == []
    assert done.json["as_of"].startswith("2020-12-31T23:59:59")
    assert "only what was known at the end of then, as 'as of 2020' says" in done.err


def ask(memos: Memos, chat: str, url: str, *more: str, model: str = "m") -> Any:
    return memos("query", chat, "which city is Bob moving to?", "--reader", model, "--base-url", url, *more)


def test_a_model_reads_the_prompt_and_sees_no_memory(chat: str, memos: Memos) -> None:
    with serving(lambda handler: handler.say(json.dumps(READ))) as server:
        told = ask(memos, chat, server.url, "--json").json
        sent = json.dumps(server.requests)
    assert (told["prompt"]["intent"], told["prompt"]["read_by"]) == ("place", "m")
    assert (told["prompt"]["topic"], told["prompt"]["forms"]) == ("moving", ["plaintext"])
    assert told["hits"]
    assert "which city is Bob moving to?" in sent
    assert "Lisbon" not in sent


def _down(handler: Handler) -> None:
    handler.fail(400, "out of order")


def _nonsense(handler: Handler) -> None:
    handler.say("I cannot do that.")


@pytest.mark.parametrize(("answer", "said"), [(_down, "without reader: "), (_nonsense, "no JSON object")])
def test_a_model_that_fails_leaves_the_rules_and_is_told(chat: str, memos: Memos, answer: Any, said: str) -> None:
    with serving(answer) as server:
        done = ask(memos, chat, server.url, "--json")
    assert done.code == 0, done.err
    assert said in done.err
    assert done.json["prompt"]["read_by"] == "rules"
    assert done.json["hits"]


def test_prompts_leave_this_machine_only_when_somebody_agrees(chat: str, memos: Memos) -> None:
    done = ask(memos, chat, "http://192.0.2.1/v1")
    assert done.code == 2
    assert "prompts leave this machine for 192.0.2.1" in done.err
    assert memos("query", chat, "x", "--reader", "no/such/folder/").code in (2, 3)
    assert memos("query", chat, "x", "--base-url", "http://127.0.0.1:9/v1").code == 2


def test_the_api_reads_with_a_model_too(chat: str, work: Path) -> None:
    with serving(lambda handler: handler.say(json.dumps(READ))) as server:
        found = api.query(work / chat, "which city is Bob moving to?", reads=api.Reads("m", api.Server(server.url)))
    assert found.prompt.intent == "place"
