"""Memories of other programs: mem0, Letta, memory.json, and the archives of ChatGPT and Claude.

No real exports were at hand: these are made by hand after the formats' descriptions.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube.piece import Piece
from memos_cli.errors import Damaged
from memos_cli.interface.sources import Source
from memos_cli.operation.told import decode
from tests.interface.samples import json_lines, source
from tests.interface.test_sources_chats import SAID, chatgpt, claude, said


def lost(found: Source) -> dict[tuple[str, str], int]:
    return {(loss.kind, loss.field): loss.count for loss in found.losses.told()}


def texts(pieces: list[Piece]) -> list[tuple[str, str]]:
    return [(" > ".join(piece.section), piece.text) for piece in pieces]


MEM0: list[dict[str, Any]] = [
    {
        "id": "m1", "memory": "Likes tea", "hash": "h", "metadata": {"mood": "calm"}, "categories": ["drinks"],
        "created_at": "2025-06-01T10:00:00-07:00", "updated_at": None, "user_id": "alex", "run_id": "r1",
    },
    {"id": "m2", "memory": "Lives in Oslo", "hash": "i", "created_at": "2025-06-02T10:00:00Z", "agent_id": "helper"},
]  # fmt: skip
MEM0_FORMS: dict[str, Callable[[], str]] = {
    "what get_all answers": lambda: json.dumps({"results": MEM0, "count": 2, "next": None}),
    "a list": lambda: json.dumps(MEM0), "lines": lambda: json_lines(*MEM0),
    "a platform's export": lambda: json.dumps({"memories": MEM0}),
}  # fmt: skip


@pytest.mark.parametrize("form", MEM0_FORMS)
def test_mem0(tmp_path: Path, form: str) -> None:
    found = source(tmp_path, "mem0.json", MEM0_FORMS[form]())
    assert found.format == "mem0"
    first, second = found.pieces()
    assert (first.text, first.ref, first.session) == ("Likes tea", "m1", "r1")
    assert first.time is not None
    assert first.time.isoformat() == "2025-06-01T17:00:00+00:00"
    assert dict(first.said) == {"owner": "alex", "tags": ["drinks"]}
    assert decode(first.extra)["mem0"]["metadata"] == {"mood": "calm"}
    assert dict(second.said) == {"owner": "helper"}
    assert lost(found) == {}


def test_relations_of_mem0_are_memories_too(tmp_path: Path) -> None:
    edges = [{"source": "alex", "relationship": "lives_in", "target": "oslo"}, {"source": "alex"}]
    found = source(tmp_path, "mem0.json", json.dumps({"results": MEM0, "relations": edges, "other": 1}))
    pieces = list(found.pieces())
    assert texts(pieces)[2] == ("alex", "alex lives in oslo")
    assert decode(pieces[2].extra)["mem0"]["relation"] == edges[0]
    assert lost(found) == {("relation", "source, relationship, target"): 1, ("answer of mem0", "other"): 1}


ENTITY = {"type": "entity", "name": "Ana", "entityType": "person", "observations": ["Speaks Spanish", "Likes tea", ""]}
BARE = {"type": "entity", "name": "Lindau", "entityType": "town", "observations": []}
RELATION = {"type": "relation", "from": "Ana", "to": "Lindau", "relationType": "lives_in"}


@pytest.mark.parametrize("form", ["lines", "object"])
def test_memory_json(tmp_path: Path, form: str) -> None:
    one = json.dumps({"entities": [ENTITY, BARE], "relations": [RELATION]})
    found = source(tmp_path, "memory.json", json_lines(ENTITY, BARE, RELATION) if form == "lines" else one)
    assert found.format == "memory-graph"
    pieces = list(found.pieces())
    assert texts(pieces) == [
        ("Ana", "Speaks Spanish"), ("Ana", "Likes tea"), ("", "Lindau"), ("Ana", "Ana lives in Lindau"),
    ]  # fmt: skip
    assert dict(pieces[0].said) == {"tags": ["person"]}
    assert decode(pieces[3].extra)["graph"]["relation"]["relationType"] == "lives_in"
    assert lost(found) == {("observation", "text"): 1}


def agent_file() -> dict[str, Any]:
    packed = json.dumps({"type": "user_message", "message": "I moved to Oslo", "time": "x"})
    call = {"id": "c", "type": "function", "function": {"name": "send_message", "arguments": '{"message": "Nice!"}'}}
    tool = {"id": "d", "type": "function", "function": {"name": "core_memory_append", "arguments": "{}"}}
    part = [{"type": "text", "text": "thinking"}]
    messages = [
        {"id": "message-0", "role": "system", "content": [{"type": "text", "text": "You are Letta"}]},
        {"id": "message-1", "role": "user", "content": [{"type": "text", "text": packed}]},
        {"id": "message-2", "role": "assistant", "content": part, "tool_calls": [call]},
        {"id": "message-3", "role": "tool", "content": [{"type": "text", "text": "{}"}]},
        {"id": "message-4", "role": "assistant", "content": part, "tool_calls": [tool]},
        {"id": "message-5", "role": "user", "content": '{"type": "heartbeat", "reason": "again"}'},
        {"id": "message-6", "role": "assistant", "content": "Shall we talk?", "created_at": "2025-06-01T10:00:00Z"},
    ]
    agent = {
        "id": "agent-0",
        "name": "helper",
        "system": "You are Letta",
        "block_ids": ["block-0"],
        "messages": messages,
        "llm_config": {"model": "m"},
        "tool_exec_environment_variables": {"KEY": "sk-secret"},
    }
    blocks = [
        {"id": "block-0", "label": "human", "value": "Name: Ana\nLikes tea", "limit": 5000},
        {"id": "block-1", "label": "empty", "value": ""},
    ]
    return {"agents": [agent], "blocks": blocks, "files": [], "sources": [], "groups": [], "tools": [{"id": "tool-0"}]}


def test_a_letta_agent_file(tmp_path: Path) -> None:
    found = source(tmp_path, "helper.af", json.dumps(agent_file(), indent=1))
    assert found.format == "letta"
    block, *talk = found.pieces()
    assert (block.text, block.section, block.ref) == ("Name: Ana\nLikes tea", ("helper", "human"), "block-0")
    assert decode(block.extra)["letta"]["block"]["limit"] == 5000
    assert said(talk) == [("user", "I moved to Oslo"), ("assistant", "Nice!"), ("assistant", "Shall we talk?")]
    assert [piece.ref for piece in talk] == ["message-1", "message-2", "message-6"]
    assert lost(found) == {
        ("block", "value"): 1, ("message", "system"): 1, ("message", "content"): 2, ("message", "tool"): 1,
        ("message", "tool_calls"): 1, ("message", "heartbeat"): 1, ("agent", "system"): 1, ("agent", "llm_config"): 1,
        ("agent", "tool_exec_environment_variables"): 1, ("agent file", "tools"): 1,
    }  # fmt: skip
    assert "sk-secret" not in repr([block, *talk]) + repr(lost(found))


def test_a_letta_agent_file_of_before(tmp_path: Path) -> None:
    old = {
        "name": "helper", "agent_type": "memgpt_agent", "core_memory": [{"label": "human", "value": "Likes tea"}],
        "messages": [{"role": "user", "text": "Hello there"}], "system": "You are Letta",
    }  # fmt: skip
    found = source(tmp_path, "old.af", json.dumps(old))
    assert found.format == "letta"
    assert texts(list(found.pieces())) == [("helper > human", "Likes tea"), ("helper", "Hello there")]


def archive(parts: dict[str, Any], *, stored: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as file:
        for name, value in parts.items():
            file.writestr(name, value if isinstance(value, bytes | str) else json.dumps(value))
    return out.getvalue()


def test_the_archive_of_chatgpt(tmp_path: Path) -> None:
    parts = {
        "conversations.json": [chatgpt(SAID), chatgpt(SAID)], "user.json": {"email": "a@b.c"}, "chat.html": "<html>",
        "dalle-generations/a.webp": b"RIFF", "conversations-001.json": [chatgpt(SAID)],
    }  # fmt: skip
    found = source(tmp_path, "export.zip", archive(parts))
    assert found.format == "chat-archive"
    assert said(list(found.pieces())) == SAID * 3
    part = "part of the archive"
    assert lost(found) == {
        ("message", "mapping"): 3, (part, "user.json"): 1, (part, "chat.html"): 1, (part, ".webp"): 1,
    }  # fmt: skip


def test_the_archive_of_claude(tmp_path: Path) -> None:
    kept = [{
        "conversations_memory": "**Work**\n\nAna builds boats.\n\n- likes tea", "account_uuid": "u",
        "project_memories": {"p1": "The hull is red."},
    }]  # fmt: skip
    talk = claude(SAID)
    talk["chat_messages"][0]["attachments"] = [{"file_name": "a.pdf"}]
    found = source(
        tmp_path, "data.zip", archive({"conversations.json": [talk], "memories.json": kept, "users.json": []})
    )
    pieces = list(found.pieces())
    assert said([piece for piece in pieces if piece.kind == "turn"]) == SAID
    rest = [piece for piece in pieces if piece.kind != "turn"]
    assert {"Ana builds boats.", "likes tea", "The hull is red."} <= {piece.text for piece in rest}
    assert decode(rest[-1].extra) == {"claude-memory": {"project": "p1"}}
    assert lost(found) == {("message", "attachments"): 1, ("part of the archive", "users.json"): 1}
    alone = source(tmp_path, "memories.json", json.dumps(kept))
    assert alone.format == "claude-memory"
    assert [piece.text for piece in alone.pieces()] == [piece.text for piece in rest]


def bomb() -> bytes:
    return archive({"conversations.json": b"[" + b" " * (300 << 20)})


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "upwards": (lambda: archive({"conversations.json": [], "../x.json": "1"}), "names of parts below"),
    "absolute": (lambda: archive({"/etc/conversations.json": []}), "names of parts below"),
    "a drive": (lambda: archive({"C:/conversations.json": []}), "names of parts below"),
    "backwards": (lambda: archive({"conversations.json": [], "a\\b": "1"}), "names of parts below"),
    "unprintable": (lambda: archive({"conversations.json": [], "a\x1b[2J": "1"}), "names of parts below"),
    "a bomb": (bomb, "zip bomb"),
    "cut short": (lambda: archive({"conversations.json": [chatgpt(SAID)]})[:-30], "broken zip"),
    "no json": (lambda: archive({"conversations.json": "[{"}), "not JSON"),
    "another archive": (lambda: archive({"notes.txt": "hello"}), "no export of ChatGPT or Claude"),
    "many parts": (
        lambda: archive({"conversations.json": [], **{f"f{number}": "" for number in range(20_001)}}), "the cap is",
    ),
}  # fmt: skip


@pytest.mark.many(2)
@pytest.mark.parametrize("harm", HOSTILE)
def test_a_hostile_archive_is_refused_whole(tmp_path: Path, harm: str) -> None:
    make, expected = HOSTILE[harm]
    found = source(tmp_path, "export.zip", make())
    with pytest.raises(Damaged, match=expected):
        list(found.pieces())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("conversations.json", "[]")
        file.writestr("conversations.json", "[]")
    with pytest.raises(Damaged, match="each part once"):
        list(source(tmp_path, "export.zip", out.getvalue()).pieces())


@pytest.mark.parametrize("format", ["mem0", "memory-graph", "letta", "claude-memory", "memos-cube", "memos-jsonl"])
@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', '"x"', "[[]]", "{", "null"])
def test_what_is_none_of_it_is_refused_in_words(tmp_path: Path, format: str, text: str) -> None:
    found = source(tmp_path, "odd.json", text, format=format)
    with pytest.raises(Damaged, match="odd.json: line 1: (expected|no |not JSON)"):
        list(found.pieces())
