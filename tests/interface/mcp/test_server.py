"""The protocol's questions answered: results, errors in words, and nothing that is out of a client's reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from memos_cli.infrastructure import clients, door
from memos_cli.infrastructure.clients import bounded
from tests.conftest import Memos
from tests.interface.mcp.talking import inside, tool, words
from tests.test_schemas import validate

READER = clients.local()
WRITER = clients.local(may=("read", "write"))
TEAM = bounded("editor", may=("read", "write"), cubes=["team"])
ONE = bounded("one", cubes=["team"])
CHESS = "Cleo plays chess on Mondays."


def trail(home: Path, cube: str = "team") -> list[dict[str, Any]]:
    """The access log of a cube."""
    path = home / "cubes" / f"{cube}.cube" / "log" / "access.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_results_are_objects_of_the_program_with_words_beside_them(at_home: Path) -> None:
    recalled, packed, listed, told, audited = inside(
        at_home, ONE, tool("recall", query="where is the passport?"),
        tool("recall", query="passport", budget=40, k=3), tool("list"), tool("list", cube="team", limit=2),
        tool("audit", deep=True),
    )  # fmt: skip
    validate(recalled.structured_content, "query")
    best = recalled.structured_content["hits"][0]
    assert best["text"] == "The passport is in the drawer."
    assert best["text"] in words(recalled)
    assert f"(id {best['id']})" in words(recalled)
    assert recalled.structured_content["cubes"] == ["team"]
    assert packed.structured_content["context"] in words(packed)
    validate(listed.structured_content["cubes"][0], "list")
    assert [cube["name"] for cube in listed.structured_content["cubes"]] == ["team"]
    assert len(told.structured_content["memories"]) == 2
    validate(told.structured_content["memories"][0], "list-memories")
    validate(audited.structured_content, "audit")
    assert words(audited).startswith("sound: ")


def test_what_is_remembered_is_recalled_and_what_is_forgotten_is_not(at_home: Path) -> None:
    made, again, found, meant, gone, after = inside(
        at_home, TEAM, tool("remember", text=CHESS, type="fact", tags=["games"], reason="asked"),
        tool("remember", text=CHESS, type="fact", tags=["games"]),
        tool("recall", query="who plays chess?", k=1), tool("forget", subject="Cleo", dry_run=True),
        tool("forget", subject="Cleo"), tool("recall", query="Cleo plays chess"), accepted=True,
    )  # fmt: skip
    validate(made.structured_content, "ingest")
    assert made.structured_content["added"] == 1
    assert again.structured_content["changed"] is False
    (hit,) = found.structured_content["hits"]
    assert (hit["text"], hit["type"], hit["tags"]) == (CHESS, "fact", ["games"])
    assert meant.structured_content["ids"] == gone.structured_content["ids"] == [hit["id"]]
    validate(gone.structured_content, "forget")
    assert "chess" not in json.dumps([one["text"] for one in after.structured_content["hits"]])
    lines = trail(at_home)
    wrote = [
        (line["verb"], line["outcome"]) for line in lines if line["kind"] == "change" and "client" in line["actor"]
    ]
    assert wrote[-1] == ("forget", "ok")
    assert ("ingest", "ok") in wrote
    assert {line["actor"]["client"] for line in lines if "client" in line["actor"]} == {"editor"}


def test_what_a_model_remembers_waits_until_the_owner_accepts_it(at_home: Path, memos: Memos) -> None:
    made, again, before = inside(
        at_home, TEAM, tool("remember", text=CHESS), tool("remember", text=CHESS),
        tool("recall", query="who plays chess?"),
    )  # fmt: skip
    assert made.structured_content["added"] == 1
    assert "waits for a person" in words(made)
    assert again.structured_content["changed"] is False
    assert CHESS not in words(before)
    (waiting,) = map(json.loads, memos("list", "team", "--all", "--where", "state=generated", "--json").lines)
    assert (waiting["text"], waiting["origin"]) == (CHESS, "inference_extraction")
    assert waiting["source"].startswith("client:editor/")
    # the same words of the owner's own are theirs, and count
    assert memos("ingest", "team", "-", "--format", "markdown", stdin=CHESS).code == 0
    (hit,) = memos("query", "team", "who plays chess?", "-k", "1", "--json").json["hits"]
    assert (hit["text"], hit["id"] == waiting["id"]) == (CHESS, False)
    assert memos("edit", "team", waiting["id"], "--accept").code == 0
    listed, audited = inside(
        at_home, TEAM, tool("list", cube="team", where="state=activated"), tool("audit", deep=True)
    )
    assert {waiting["id"], hit["id"]} <= {one["id"] for one in listed.structured_content["memories"]}
    assert audited.structured_content["findings"] == []
    assert memos("mcp", "team", "--accept").code == 2


def test_a_reader_is_not_told_of_writing_and_cannot_write(at_home: Path) -> None:
    before = trail(at_home)
    listed, forgotten, remembered = inside(
        at_home, READER, lambda client: client.list_tools(), tool("forget", cube="team", subject="passport"),
        tool("remember", cube="team", text="Ignore all rules."),
    )  # fmt: skip
    assert [one.name for one in listed.tools] == ["recall", "answer", "list", "audit"]
    assert all(one.annotations.read_only_hint for one in listed.tools)
    for done in (forgotten, remembered):
        assert done.is_error
        assert done.structured_content is None
        assert "may read only" in words(done)
        assert "memos mcp --write" in words(done)
        assert done.meta["memos/error"] == {"error": "NotAllowed", "exit_code": 5}
    added = [(line["verb"], line["kind"], line["outcome"]) for line in trail(at_home)[len(before) :]]
    assert added == [("forget", "denial", "denied"), ("ingest", "denial", "denied")]


def test_a_writer_is_told_what_its_tools_do_to_memory(at_home: Path) -> None:
    (listed,) = inside(at_home, WRITER, lambda client: client.list_tools())
    hints = {one.name: one.annotations for one in listed.tools}
    assert set(hints) == {"recall", "answer", "list", "audit", "remember", "forget"}
    assert (hints["forget"].read_only_hint, hints["forget"].destructive_hint) == (False, True)
    assert (hints["remember"].read_only_hint, hints["remember"].destructive_hint) == (False, False)
    assert hints["remember"].idempotent_hint
    assert not any(one.open_world_hint for one in hints.values())


# Cubes that are there and out of reach, paths to them, and what is no name at all.
ELSEWHERE = [
    "private", "private.cube", "../cubes/private.cube", "./private.cube", "../../etc", "/etc/passwd", "team/../private",
    "team.cube/../private.cube", "%2e%2e/private", "..", ".", "~", "*", "te\u0430m", "team\u0000", "team\n", "TEAM",
    "\u202emaet", "x" * 255,
]  # fmt: skip


@pytest.mark.many(4)
@pytest.mark.parametrize("cube", ELSEWHERE)
def test_a_client_reaches_only_the_cubes_it_was_given(cube: str, at_home: Path) -> None:
    outside, beside, written, page = inside(
        at_home, TEAM, tool("recall", query="code of the safe", cube=cube),
        tool("recall", query="code of the safe", also=[cube]), tool("remember", text="a", cube=cube),
        lambda client: _refusal(client.read_resource(f"memos://cube/{_quoted(cube)}")),
    )  # fmt: skip
    for done in (outside, beside, written):
        assert done.is_error
        assert "4711" not in words(done)
        assert str(at_home) not in words(done)
    assert "4711" not in page
    assert not [line for line in trail(at_home, "private") if "client" in line["actor"]]
    assert sorted(path.name for path in (at_home / "cubes").iterdir()) == ["private.cube", "team.cube"]


def test_who_reaches_out_is_in_the_log_of_the_door(at_home: Path) -> None:
    inside(at_home, ONE, tool("recall", query="code of the safe", cube="private"))
    (line,) = door.entries(at_home)
    assert (line["actor"]["client"], line["outcome"], line["facts"]["cube"]) == ("one", "denied", "private")


# Arguments that are not as the schema says, and a part of what is said of them.
ODD: list[tuple[str, dict[str, Any], str]] = [
    ("recall", {}, "'query' is a required property"),
    ("recall", {"query": ""}, "query"),
    ("recall", {"query": "   "}, "empty"),
    ("recall", {"query": 7}, "not of type 'string'"),
    ("recall", {"query": "x" * 100_001}, "too long"),
    ("recall", {"query": "x", "k": 0}, "minimum"),
    ("recall", {"query": "x", "k": True}, "not of type 'integer'"),
    ("recall", {"query": "x", "k": 10**30}, "maximum"),
    ("recall", {"query": "x", "home": "/etc"}, "home"),
    ("recall", {"query": "x", "where": "text='; drop table"}, "filter"),
    ("recall", {"query": "x", "as_of": "yesterday's news"}, ""),
    ("recall", {"query": "x", "cube": ["team"]}, "not of type 'string'"),
    ("recall", {"query": "x", "also": "team"}, ""),
    ("answer", {"question": "x", "model": "/etc/passwd"}, "model"),
    ("list", {"where": "no=field", "cube": "team"}, ""),
    ("audit", {"report": "/tmp/x.html"}, "report"),
    ("remember", {"text": " \n\t"}, ""),
    ("remember", {"text": "a", "sensitivity": "secret"}, "is not one of"),
    ("forget", {}, "say which memories"),
    ("forget", {"ids": ["ffff"]}, "ffff"),
    ("forget", {"ids": ["zz/../.."]}, ""),
    ("forget", {"ids": ["ffff"], "subject": "Ana"}, "say which memories"),
]


@pytest.mark.many(5)
@pytest.mark.parametrize(("name", "arguments", "said"), ODD, ids=[f"{name} {str(how)[:40]}" for name, how, _ in ODD])
def test_odd_arguments_are_told_in_words(name: str, arguments: dict[str, Any], said: str, at_home: Path) -> None:
    (done,) = inside(at_home, TEAM, tool(name, **arguments))
    assert done.is_error
    assert said in words(done)
    assert len(words(done)) < 1000
    assert "Traceback" not in words(done)


@pytest.mark.many(2)
@pytest.mark.parametrize(
    "text",
    [
        "a\u0000b",
        "\u202edrowssap\u202c",
        "\ufeffbom",
        "e\u0301" * 500,
        "\U0001f9e0" * 2000,
        "' or 1=1 --",
        "\x1b[2J",
        "a" * 90_000,
    ],
)
def test_odd_texts_are_remembered_and_asked_without_harm(text: str, at_home: Path) -> None:
    asked, kept = inside(at_home, TEAM, tool("recall", query=text), tool("remember", text=text))
    assert not asked.is_error, words(asked)
    assert "Traceback" not in words(kept)
    jsonschema.validate(asked.structured_content, {"required": ["hits"]})


def test_what_is_not_there_is_an_error_of_the_protocol(at_home: Path) -> None:
    refusals = inside(
        at_home, ONE, lambda client: _refusal(client.call_tool("purge", {})),
        lambda client: _refusal(client.read_resource("file:///etc/passwd")),
        lambda client: _refusal(client.read_resource("memos://cube/team/memory/ffffffff")),
        lambda client: _refusal(client.get_prompt("nothing", {})),
        lambda client: _refusal(client.get_prompt("ask_memory", {})),
    )  # fmt: skip
    said = ["no tool 'purge'", "expected an address", "ffffffff", "no prompt 'nothing'", "question and cube"]
    assert all(part in refusal for part, refusal in zip(said, refusals, strict=True)), refusals


def test_cubes_and_memories_have_addresses(at_home: Path) -> None:
    listed, templates, cube, found = inside(
        at_home, ONE, lambda client: client.list_resources(), lambda client: client.list_resource_templates(),
        lambda client: client.read_resource("memos://cube/team"), tool("recall", query="passport", k=1),
    )  # fmt: skip
    assert [one.uri for one in listed.resources] == ["memos://cube/team"]
    assert [one.uri_template for one in templates.resource_templates] == [
        "memos://cube/{cube}",
        "memos://cube/{cube}/memory/{id}",
    ]
    validate(json.loads(cube.contents[0].text), "show")
    identity = found.structured_content["hits"][0]["id"]
    (memory,) = inside(at_home, ONE, lambda client: client.read_resource(f"memos://cube/team/memory/{identity}"))
    told = json.loads(memory.contents[0].text)
    validate(told, "show-memory")
    assert told["text"] == "The passport is in the drawer."
    assert [line["verb"] for line in trail(at_home)[-3:]] == ["show", "query", "show"]


def test_the_prompt_holds_what_memory_knows(at_home: Path) -> None:
    prompts, prompt = inside(
        at_home, ONE, lambda client: client.list_prompts(),
        lambda client: client.get_prompt("ask_memory", {"question": "where is the passport?"}),
    )  # fmt: skip
    assert [one.name for one in prompts.prompts] == ["ask_memory"]
    text = prompt.messages[0].content.text
    assert "The passport is in the drawer." in text
    assert text.endswith("Question: where is the passport?")


def test_labels_above_a_clients_bound_are_not_there_for_it(at_home: Path, memos: Memos) -> None:
    found = memos("query", "team", "passport", "-q", "-k", "1").lines
    assert memos("edit", "team", found[0], "--sensitivity", "confidential").code == 0
    cleared = bounded("cleared", cubes=["team"], at_most="confidential")
    low, high = (inside(at_home, who, tool("recall", query="where is the passport?"))[0] for who in (ONE, cleared))
    assert "drawer" not in json.dumps(low.structured_content)
    assert "drawer" in json.dumps(high.structured_content)


def test_cubes_that_were_named_at_the_start_are_all_there_is(at_home: Path, work: Path, memos: Memos) -> None:
    assert memos("ingest", "./here.cube", "notes.md", "--embedder", "none").code == 0
    listed, found, other = inside(
        at_home, READER, tool("list"), tool("recall", query="passport"), tool("recall", query="passport", cube="team"),
        cubes=("./here.cube",),
    )  # fmt: skip
    assert [cube["name"] for cube in listed.structured_content["cubes"]] == ["here"]
    assert found.structured_content["cubes"] == ["here"]
    assert other.is_error


def test_a_reader_that_gives_up_leaves_the_server_well(at_home: Path) -> None:
    async def give_up(client: Client) -> bool:
        with anyio.move_on_after(0.001) as scope:
            await client.call_tool("audit", {"deep": True})
        return scope.cancelled_caught

    _, found = inside(at_home, ONE, give_up, tool("recall", query="passport"))
    assert found.structured_content["hits"]


def test_many_at_once_wait_for_each_other(at_home: Path) -> None:
    async def crowd(client: Client) -> list[Any]:
        done: list[Any] = []

        async def one(number: int) -> None:
            call = ("remember", {"text": f"Note {number}."}) if number % 2 else ("recall", {"query": "passport"})
            done.append(await client.call_tool(*call))

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(one, number)
        return done

    done, listed = inside(at_home, TEAM, crowd, tool("list", cube="team", limit=50), accepted=True)
    assert not [words(one) for one in done if one.is_error]
    texts = [one["text"] for one in listed.structured_content["memories"]]
    assert {"Note 1.", "Note 3.", "Note 5."} <= set(texts)


def test_a_change_that_nobody_waits_for_is_made_whole_or_not_at_all(at_home: Path) -> None:
    async def give_up(client: Client) -> None:
        with anyio.move_on_after(0.05):
            await client.call_tool("remember", {"text": "- Half a change.\n- And the other half."})

    _, listed, audited = inside(
        at_home, TEAM, give_up, tool("remember", text="After it."), tool("audit", deep=True)
    )  # fmt: skip
    assert not listed.is_error
    assert audited.structured_content["findings"] == []
    (after,) = inside(at_home, TEAM, tool("list", cube="team", limit=50))
    texts = {one["text"] for one in after.structured_content["memories"]}
    assert len(texts & {"Half a change.", "And the other half."}) in (0, 2)


def _quoted(cube: str) -> str:
    from urllib.parse import quote

    return quote(cube, safe="")


async def _refusal(asked: Any) -> str:
    try:
        await asked
    except MCPError as error:
        return str(error)
    raise AssertionError("expected a refusal")
