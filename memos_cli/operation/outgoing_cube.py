"""Memories as the textual memory of an official MemOS cube: naive, general, tree or preference.

What came from such a cube goes back as it came: under its id, with its metadata, sources, links and copies, and what
was changed here since. What was born here gets an id made of its own, and notes of ours under `info.memos`, which
MemOS keeps and does not heed. Knows nothing of files and of who asks.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from memos_cli.cube.losses import Losses
from memos_cli.operation.outgoing import moment
from memos_cli.operation.told import PART, decode, joined

NAIVE, GENERAL, TREE, PREFERENCE = SHAPES = ("naive", "general", "tree", "preference")
KEY = "memos"
Row = Mapping[str, Any]

_NAMES = uuid.UUID("6d656d6f-7300-5000-8000-000000000001")
# Rules that MemOS does not know: noted, and not kept there.
_RULES = (
    "sensitivity", "read_scope", "write_scope", "share_scope", "priority", "expires_at", "decay_days", "legal_hold",
    "compliance",
)  # fmt: skip
_NOTED = (
    "id", "source", "title", "section", "topic", "kind", "line_start", "line_end", "page", "turn", "speaker", "role",
    "ref", "event_time", "time_note", "supersedes", "superseded_by",
)  # fmt: skip
NOT_HEEDED = "a note in info.memos, which MemOS does not heed"


@dataclass(slots=True)
class Writer:
    """Writes items of one shape, each with an id of its own, and notes what is lost on the way."""

    shape: str
    level: str
    losses: Losses
    vectors: bool = False
    count: int = 0
    _ids: set[str] = field(default_factory=set)
    _edges: list[dict[str, Any]] = field(default_factory=list)

    def chunks(self, rows: Iterable[Row]) -> Iterator[str]:
        """The text of the file, piece by piece."""
        if self.shape == PREFERENCE:
            yield json.dumps(self._buckets(rows), ensure_ascii=False, indent=2) + "\n"
            return
        items = (item for group in wholes(rows) for item in self._items(group))
        yield '{"nodes": [' if self.shape == TREE else "["
        for number, item in enumerate(items):
            self.count += 1
            yield (",\n" if number else "\n") + json.dumps(item, ensure_ascii=False)
        if self.shape == TREE:
            edges = json.dumps(self._edges, ensure_ascii=False)
            yield f'\n], "edges": {edges}, "total_nodes": {self.count}, "total_edges": {len(self._edges)}}}\n'
        else:
            yield "\n]\n"

    def _items(self, group: list[Row]) -> Iterator[dict[str, Any]]:
        """A memory, and its copies in the working memory, as MemOS has them."""
        row, text = group[0], _text(group)
        came = _came(row)
        identity, metadata = self._identity(row), self._metadata(row)
        item = {"id": identity, "memory": text, "metadata": metadata}
        if self.shape == GENERAL:
            yield {"id": identity, "vector": _vector(row), "payload": item}
            return
        if self.shape == TREE:
            metadata.setdefault("memory_type", "LongTermMemory")
            if self.vectors and len(group) == 1 and row.get("vector") is not None:
                metadata["embedding"] = _vector(row)
            self._edges += [edge for edge in came.get("edges", []) if edge not in self._edges]
        yield item
        for copy in came.get("copies", []) if self.shape == TREE else []:
            self._ids.add(copy["id"])
            yield {"id": copy["id"], "memory": text, "metadata": copy["metadata"]}
        if self.shape != TREE:
            for name in ("edges", "copies"):
                self.losses.add("memory", name, f"only a tree has them, this is {self.shape}", len(came.get(name, [])))

    def _buckets(self, rows: Iterable[Row]) -> dict[str, list[dict[str, Any]]]:
        buckets: dict[str, list[dict[str, Any]]] = {"explicit_preference": [], "implicit_preference": []}
        for group in wholes(rows):
            row, text, came = group[0], _text(group), _came(group[0])
            payload = self._metadata(row)
            item = {"id": self._identity(row), "vector": _vector(row), "payload": payload}
            item |= {name: came[name] for name in ("memory", "original_text") if name in came}
            # the words as they are now, where they were taken from
            if payload.get("preference") or "memory" not in item:
                payload["preference"] = text
            else:
                item["memory"] = text
            buckets.setdefault(str(came.get("bucket", "explicit_preference")), []).append(item)
            self.count += 1
        return buckets

    def _identity(self, row: Row) -> str:
        """The id it had in MemOS, once; else one that is made of its own, always the same."""
        if _came(row) and row["ref"] and row["ref"] not in self._ids:
            identity = str(row["ref"])
        else:
            identity = str(uuid.uuid5(_NAMES, str(row["id"])))
        self._ids.add(identity)
        return identity

    def _metadata(self, row: Row) -> dict[str, Any]:
        came = _came(row)
        metadata = dict(came["metadata"]) if came else self._born(row)
        notes = {name: _plain(row[name]) for name in _RULES if row[name] not in (None, "", 0, False, [])}
        if came and metadata.get("visibility") == "private":
            notes = {name: value for name, value in notes.items() if (name, value) not in _PRIVATE}
        if not came:
            notes |= {name: _plain(row[name]) for name in _NOTED if row[name] not in (None, "")}
        else:
            metadata |= _changed(row, metadata)
        for name in _RULES:
            if name in notes:
                self.losses.add("memory", name, NOT_HEEDED)
        if rank_of(row, self.level) and "sensitivity" not in notes:
            self.losses.add("memory", "sensitivity", "that of the cube, which MemOS has not")
        if notes:
            metadata["info"] = {**(metadata.get("info") or {}), "memos": notes}
        return metadata

    def _born(self, row: Row) -> dict[str, Any]:
        """Metadata of a memory that never was in MemOS."""
        said = {
            "user_id": row["owner"], "session_id": row["session"], "status": status(row), "type": row["type"],
            "key": row["section"], "tags": list(row["tags"] or []),
            "source": "conversation" if row["kind"] == "turn" else "file",
            "memory_time": row["time"] and moment(row["time"]), "created_at": moment(row["created_at"]),
            "updated_at": moment(row["updated_at"]),
        }  # fmt: skip
        if self.shape == TREE:
            said["sources"] = [_source(row)]
        return {name: value for name, value in said.items() if value}


_PRIVATE = {("read_scope", "owner"), ("share_scope", "owner")}


def rank_of(row: Row, level: str) -> bool:
    """Whether a memory is guarded by more than the label that all have by default."""
    return (row["sensitivity"] or level) != "internal"


def status(row: Row) -> str:
    """A state as MemOS has it."""
    return "activated" if row["state"] in ("activated", "merged", "frozen") and row["valid_to"] is None else "archived"


def shape_of(extras: Iterable[str]) -> str:
    """The shape that all came in, when it is one; else naive, which needs nothing but the words."""
    found = {str(decode(extra).get(KEY, {}).get("shape", "")) if extra else "" for extra in extras}
    # parts of a memory say nothing of the whole
    only = found - ({""} if len(found) > 1 and found - {""} else set())
    return only.pop() if len(only) == 1 and found <= {*SHAPES} else NAIVE


def wholes(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows one by one, and the parts of what was cut together, when all of them are there in their order."""
    waiting: list[Row] = []
    for row in rows:
        note = decode(row["extra"]).get(PART)
        if waiting and not _follows(waiting, row, note):
            yield from ([one] for one in waiting)
            waiting = []
        if not note or (not waiting and note["at"] != 0):
            yield [row]
            continue
        waiting.append(row)
        if len(waiting) == note["of"]:
            yield waiting
            waiting = []
    yield from ([one] for one in waiting)


def _follows(waiting: list[Row], row: Row, note: Any) -> bool:
    same = all(row[name] == waiting[0][name] for name in ("source", "ref"))
    return bool(note) and same and note["at"] == len(waiting)


def _text(group: list[Row]) -> str:
    if len(group) == 1:
        return str(group[0]["text"])
    return joined([row["text"] for row in group], [decode(row["extra"])[PART] for row in group])


def _came(row: Row) -> dict[str, Any]:
    """What a memory brought along from MemOS; nothing when it was born here."""
    found = decode(row["extra"]).get(KEY)
    return found if isinstance(found, dict) and isinstance(found.get("metadata"), dict) else {}


def _changed(row: Row, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of a memory here since it came, in the words of MemOS."""
    changed: dict[str, Any] = {}
    if row["type"] != (metadata.get("type") or "") and metadata.get("preference_type") is None:
        changed["type"] = row["type"]
    if list(row["tags"] or []) != [tag for tag in metadata.get("tags") or [] if isinstance(tag, str)]:
        changed["tags"] = list(row["tags"] or [])
    if row["owner"] != (metadata.get("user_id") or ""):
        changed["user_id"] = row["owner"]
    was = "activated" if metadata.get("status", "activated") in ("activated", "resolving") else "archived"
    if status(row) != was:
        changed["status"] = status(row)
    return changed


def _source(row: Row) -> dict[str, Any]:
    said = {
        "type": "chat" if row["kind"] == "turn" else "doc",
        "role": row["role"] if row["role"] in ("user", "assistant", "system", "tool") else None,
        "chat_time": row["time"] and moment(row["time"]) if row["kind"] == "turn" else None,
        "message_id": row["ref"] if row["kind"] == "turn" else None, "doc_path": row["source"],
    }  # fmt: skip
    return {name: value for name, value in said.items() if value}


def _vector(row: Row) -> list[float] | None:
    found = row.get("vector")
    return None if found is None else [round(float(number), 7) for number in found]


def _plain(value: Any) -> Any:
    return moment(value) if hasattr(value, "isoformat") else list(value) if isinstance(value, list) else value


def config(shape: str, *, cube: str, embedder: str, dim: int) -> dict[str, Any]:
    """A config.json of MemOS for the file. It names models that whoever loads the cube puts their own for."""
    writer = {"backend": "ollama", "config": {"model_name_or_path": "qwen3:0.6b"}}
    embeds = {
        "backend": "sentence_transformer",
        "config": {"model_name_or_path": embedder or "all-MiniLM-L6-v2", "embedding_dims": dim or 384},
    }
    store = {
        "backend": "qdrant",
        "config": {"collection_name": cube, "vector_dimension": dim or 384, "distance_metric": "cosine"},
    }
    server = {"uri": "bolt://localhost:7687", "user": "neo4j", "password": "", "db_name": "neo4j"}
    graph = {"backend": "neo4j", "config": server}
    plain = {part: {"backend": "naive", "config": {}} for part in ("extractor", "adder", "retriever")}
    held: dict[str, Any] = {"memory_filename": "textual_memory.json", "extractor_llm": writer}
    settings: dict[str, tuple[str, dict[str, Any]]] = {
        NAIVE: ("naive_text", held),
        GENERAL: ("general_text", {**held, "vector_db": store, "embedder": embeds}),
        TREE: ("tree_text", {**held, "dispatcher_llm": writer, "graph_db": graph, "embedder": embeds}),
        PREFERENCE: ("pref_text", {**held, "vector_db": store, "embedder": embeds, **plain}),
    }  # fmt: skip
    none = {"backend": "uninitialized", "config": {}}
    backend, config = settings[shape]
    slots = {slot: none for slot in ("text_mem", "act_mem", "para_mem", "pref_mem")}
    slots["pref_mem" if shape == PREFERENCE else "text_mem"] = {"backend": backend, "config": config}
    return {
        "model_schema": "memos.configs.mem_cube.GeneralMemCubeConfig", "config_filename": "config.json",
        "user_id": "default", "cube_id": cube, **slots,
    }  # fmt: skip
