"""Memories as other programs keep and export them: which format a JSON value is in, told by its fields.

Read about: MemOS 1.x and 2.0 (`textual_memory.json`), mem0 1.x (`get_all`), Letta 0.12 (`.af`), the memory server of
the Model Context Protocol (`memory.json`, 2026). Knows nothing of files.
"""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]

CARRIED, OFFICIAL, MEM0, LETTA, GRAPH = "memos-jsonl", "memos-cube", "mem0", "letta", "memory-graph"
CLAUDE_MEMORY = "claude-memory"
PREFERENCES = ("explicit_preference", "implicit_preference")
# What mem0 keeps beside a memory, of which at least one is always there.
_OF_MEM0 = frozenset({"hash", "created_at", "updated_at", "user_id", "agent_id", "run_id", "app_id", "score"})
_OF_MEMOS = frozenset({
    "status", "visibility", "session_id", "memory_time", "memory_type", "version", "history", "confidence", "is_fast",
    "evolve_to", "working_binding", "sources", "embedding", "covered_history", "preference_type",
})  # fmt: skip


def shape(value: Any) -> str:
    """The format of exported memories that a value is in, "" for none."""
    if not isinstance(value, dict):
        return ""
    for name, holds in (
        (CARRIED, is_carried(value)),
        (OFFICIAL, is_official(value)),
        (MEM0, is_mem0(value) or bool(results(value))),
        (LETTA, is_agents(value)),
        (GRAPH, is_graph(value)),
        (CLAUDE_MEMORY, is_claude_memory(value)),
    ):
        if holds:
            return name
    return ""


def is_carried(value: Record) -> bool:
    """A line of `memos export --to jsonl`."""
    return type(value.get("memos")) is int and ("id" in value or "text" in value)


def is_official(value: Record) -> bool:
    """An item, or the whole, of the textual memory of an official MemOS cube."""
    if isinstance(payload := value.get("payload"), dict) and "id" in value:
        return isinstance(payload.get("memory"), str)
    if isinstance(value.get("nodes"), list) and isinstance(value.get("edges"), list):
        return all(isinstance(node, dict) and {"id", "memory"} <= node.keys() for node in value["nodes"][:5])
    if any(isinstance(value.get(name), list) for name in PREFERENCES):
        return True
    metadata = value.get("metadata")
    return value.keys() == {"id", "memory", "metadata"} and isinstance(metadata, dict) and is_metadata(metadata)


def is_metadata(metadata: Record) -> bool:
    """Whether metadata has a field that only MemOS writes."""
    return not _OF_MEMOS.isdisjoint(metadata)


def is_mem0(value: Record) -> bool:
    """A memory as mem0 gives it back."""
    if not (isinstance(value.get("id"), str) and isinstance(value.get("memory"), str)):
        return False
    return not _OF_MEM0.isdisjoint(value) or value.keys() <= {"id", "memory", "metadata"}


def results(value: Record) -> list[Record]:
    """The memories in what mem0 answers or exports; [] when it is none."""
    for name in ("results", "memories"):
        found = value.get(name)
        if isinstance(found, list) and found and all(isinstance(one, dict) and is_mem0(one) for one in found[:5]):
            return found
    return []


def is_agents(value: Record) -> bool:
    """A Letta agent file: of now, or of before 0.9, when it was the one agent itself."""
    agents = value.get("agents")
    if isinstance(agents, list) and agents and isinstance(agents[0], dict) and isinstance(value.get("blocks"), list):
        return True
    return isinstance(value.get("core_memory"), list) and isinstance(value.get("messages"), list)


def is_graph(value: Record) -> bool:
    """A line of memory.json, or its graph as one object."""
    if value.get("type") == "entity":
        return isinstance(value.get("name"), str) and isinstance(value.get("observations"), list)
    if value.get("type") == "relation":
        return {"from", "to", "relationType"} <= value.keys()
    both = value.get("entities"), value.get("relations")
    return all(isinstance(part, list) for part in both) and all(
        isinstance(one, dict) and "observations" in one for one in value["entities"][:5]
    )


def is_claude_memory(value: Record) -> bool:
    """What Claude's export says that it remembers."""
    return isinstance(value.get("conversations_memory"), str) or (
        "account_uuid" in value and isinstance(value.get("project_memories"), dict)
    )
