"""A Letta agent file (`.af`): the blocks of its memory, and what was said.

Blocks are memories under the agent's name and their label; messages are turns, of which tools, system prompts and
thoughts are left out and counted. So are tools, models and settings: they are the agent, not its memory. Values of
environment variables are never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.chats import TurnCounter, turn_piece
from memos_cli.interface.sources.elements import Found, iterate_values
from memos_cli.interface.sources.foreign import Record, is_agents
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.messages import as_message
from memos_cli.interface.sources.opened import Opened
from memos_cli.operation.told import encode

NO_MEMORY = "what the agent is made of, not what it remembers"
_SETTINGS = (
    "system", "llm_config", "embedding_config", "tool_rules", "tool_exec_environment_variables", "tools", "tool_ids",
    "response_format", "model_settings",
)  # fmt: skip
_PARTS = ("tools", "mcp_servers", "groups", "sources", "skills")


def read(opened: Opened) -> Iterator[Piece]:
    """A piece for each block with words and for each turn; anything but an agent file goes to `opened.bad`."""
    for found in iterate_values(opened.stream, encoding=opened.encoding, limits=opened.limits):
        value = found.value
        if not isinstance(value, dict) or not is_agents(value):
            opened.bad(Malformed(f"line {found.line_start}", "expected an agent file with agents and blocks"))
            continue
        agents = [one for one in value.get("agents") or [value] if isinstance(one, dict)]
        blocks = value.get("blocks") if "agents" in value else value.get("core_memory")
        for block in blocks if isinstance(blocks, list) else []:
            yield from _block(block, agents, found, opened)
        for agent in agents:
            yield from _talk(agent, found, opened)
            for name in _SETTINGS:
                if agent.get(name):
                    opened.losses.add("agent", name, NO_MEMORY)
        for file in value.get("files") or []:
            yield from _file(file, found, opened)
        if "agents" in value:
            for name in _PARTS:
                opened.losses.add("agent file", name, NO_MEMORY, len(value.get(name) or []))


def _block(block: Any, agents: list[Record], found: Found, opened: Opened) -> Iterator[Piece]:
    text = block.get("value") if isinstance(block, dict) else None
    if not isinstance(text, str) or not text.strip():
        opened.losses.add("block", "value", "empty")
        return
    identity, label = str(block.get("id") or ""), str(block.get("label") or "")
    owners = [str(one.get("name") or "") for one in agents if identity in (one.get("block_ids") or [])]
    owner = (owners or [str(agents[0].get("name") or "") if len(agents) == 1 else ""])[0]
    known = {name: inner for name, inner in block.items() if name != "value" and inner not in (None, "", {}, [])}
    yield Piece(
        text.strip(),
        kind="memory",
        section=tuple(filter(None, (owner, label))),
        **found.place,
        ref=identity,
        said=(("tags", [label]),) if label else (),
        extra=encode({"letta": {"block": known, **({"agents": owners} if len(owners) > 1 else {})}}),
    )


def _talk(agent: Record, found: Found, opened: Opened) -> Iterator[Piece]:
    """What the agent and its user said to each other."""
    session, counter = str(agent.get("id") or agent.get("name") or "1"), TurnCounter()
    name = str(agent.get("name") or session)
    for message in agent.get("messages") or []:
        text = _words(message, opened) if isinstance(message, dict) else None
        if text is None:
            continue
        said = as_message({**message, "content": text, "tool_calls": None, "name": None, "text": None})
        if said and said.text:
            yield turn_piece(said, counter=counter, session=session, section=name, found=found)


def _words(message: Record, opened: Opened) -> str | None:
    """What a message says to somebody; None, and a loss, when it says nothing."""
    role = message.get("role")
    text = _text(message.get("content") or message.get("text"))
    if role == "user":
        return _unpacked(text, opened)
    if role != "assistant":
        opened.losses.add("message", str(role), "of a tool or of the system: nobody said it")
        return None
    sent = []
    for call in message.get("tool_calls") or []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and function.get("name") == "send_message":
            sent.append(str(_object(function.get("arguments")).get("message") or ""))
        else:
            opened.losses.add("message", "tool_calls", "a tool was called: nobody said it")
    if not any(sent) and not message.get("tool_calls"):
        return text or None
    if text:
        opened.losses.add("message", "content", "thoughts beside a call: nobody said it")
    return "\n".join(filter(None, sent)) or None


def _unpacked(text: str, opened: Opened) -> str | None:
    """What a user said; it may be packed with its kind and time, and be no user's at all."""
    packed = _object(text)
    if not isinstance(packed.get("message", packed.get("reason")), str) or "type" not in packed:
        return text or None
    if packed["type"] == "user_message":
        return str(packed.get("message") or "") or None
    opened.losses.add("message", str(packed["type"]), "an event of the system: nobody said it")
    return None


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict)).strip()
    return content.strip() if isinstance(content, str) else ""


def _object(text: Any) -> Record:
    if isinstance(text, dict):
        return text
    try:
        value = json.loads(text) if isinstance(text, str) and text.lstrip().startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _file(file: Any, found: Found, opened: Opened) -> Iterator[Piece]:
    text = file.get("content") if isinstance(file, dict) else None
    if not isinstance(text, str) or not text.strip():
        opened.losses.add("file", "content", "not in the agent file")
        return
    name = str(file.get("file_name") or file.get("original_file_name") or file.get("id") or "")
    for paragraph in filter(str.strip, text.split("\n\n")):
        ref = str(file.get("id") or "")
        yield Piece(paragraph.strip(), "paragraph", (name,) if name else (), **found.place, ref=ref)
