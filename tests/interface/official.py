"""Official MemOS cubes as folders, made by hand after the description of their format; no real one was at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = "memos.configs.mem_cube.GeneralMemCubeConfig"
ONE, TWO, THREE = (f"a18c2ce3-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))


def slot(backend: str, name: str, **config: Any) -> dict[str, Any]:
    return {"backend": backend, "config": {"memory_filename": name, **config}}


def config(text: str = "naive_text", **slots: Any) -> dict[str, Any]:
    none = {"backend": "uninitialized", "config": {}}
    return {
        "model_schema": SCHEMA, "config_filename": "config.json", "user_id": "alice", "cube_id": "alice/cube",
        "text_mem": slot(text, "textual_memory.json"), "act_mem": none, "para_mem": none, **slots,
    }  # fmt: skip


def cube(
    folder: Path, textual: Any, *, said: dict[str, Any] | None = None, files: dict[str, bytes] | None = None
) -> Path:
    """A cube in `folder` with this textual memory."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config() if said is None else said))
    (folder / "textual_memory.json").write_text(json.dumps(textual, indent=1))
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
    return folder


def layers(value: Any, count: int) -> Any:
    """A value as JSON in JSON, so many times."""
    for _ in range(count):
        value = json.dumps(value)
    return value


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"type": "chat", "role": role, "content": content, "chat_time": "2026-01-13T20:51:00", **more}


def naive() -> list[dict[str, Any]]:
    metadata = {
        "user_id": "u1", "status": "activated", "type": "event", "tags": ["sport"], "version": 1, "history": [],
        "updated_at": "2026-11-20T22:07:55.107080", "colour": {"of": "no known field"},
    }  # fmt: skip
    return [
        {"id": ONE, "memory": "User plays tennis.", "metadata": metadata},
        {"id": TWO, "memory": "User played squash.", "metadata": {"status": "archived", "visibility": "private"}},
    ]


def general() -> list[dict[str, Any]]:
    said = {
        "user_id": "user_123", "session_id": "0c3d", "status": "activated", "type": "opinion", "source": "conversation",
        "memory_time": "2025-06-03", "confidence": 100.0, "entities": ["Eiffel Tower"], "tags": ["opinions"],
        "visibility": "session", "updated_at": "2025-06-03T00:00:00",
    }  # fmt: skip
    items = {ONE: "The user loves the Eiffel Tower.", TWO: "The user is a Chinese man."}
    return [
        {"id": key, "vector": [0.5] * 8, "payload": {"id": key, "memory": text, "metadata": said}}
        for key, text in items.items()
    ]  # fmt: skip


def tree(count: int = 2) -> dict[str, Any]:
    """Two memories, each also in the working memory, with sources under so many layers of encoding."""
    nodes = []
    for number, text in enumerate(("On January 13, 2026, the user tried it out.", "The user likes long walks.")):
        for place, kind in ((0, "UserMemory"), (1, "WorkingMemory")):
            said = [turn("user", f"words {number}"), turn("assistant", f"answer {number}", extra=1)]
            nodes.append({
                "id": f"c1e2000{place}-0000-4000-8000-00000000000{number}", "memory": text,
                "metadata": {
                    "memory_type": kind, "key": "Trying Out", "confidence": 0.99, "embedding": [0.1, 0.2],
                    "sources": [layers(one, count) for one in said], "usage": [], "background": "why", "file_ids": [],
                    "created_at": "2026-01-13T20:51:42.394870000+00:00", "status": "activated",
                },
            })  # fmt: skip
    edge = {"source": nodes[0]["id"], "target": nodes[2]["id"], "type": "PARENT"}
    return {"nodes": nodes, "edges": [edge], "total_nodes": 4, "total_edges": 1}


def preferences() -> dict[str, Any]:
    item = {
        "id": ONE, "vector": [0.5] * 4, "memory": "a talk about food", "original_text": "user: no meat please",
        "payload": {"preference_type": "explicit_preference", "preference": "eats no meat", "dialog_id": "d1"},
    }  # fmt: skip
    other = {
        "id": TWO, "vector": [0.5] * 4,
        "payload": {"preference_type": "implicit_preference", "preference": "likes it brief"},
    }  # fmt: skip
    return {"explicit_preference": [item], "implicit_preference": [other]}


SHAPES: dict[str, Any] = {"naive": naive, "general": general, "tree": tree, "preference": preferences}
