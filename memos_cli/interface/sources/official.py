"""The textual memory of an official MemOS cube, in its four shapes: naive, general, tree and preferences.

What no column holds is kept with the memory as it came, so that an export gives it back: ids, sources, links, unknown
fields. Vectors are not: they are made anew. Of nodes with the same words one is the memory, and copies in the working
memory are noted with it. Sources are decoded, however often they were encoded, so that no round trip adds a layer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from memos_cli.cube.losses import Losses
from memos_cli.cube.piece import Piece
from memos_cli.interface.sources import carried
from memos_cli.interface.sources.dates import parse_time
from memos_cli.interface.sources.elements import Found, iterate_values
from memos_cli.interface.sources.foreign import PREFERENCES, Record
from memos_cli.interface.sources.limits import MIB, Malformed
from memos_cli.interface.sources.opened import Opened
from memos_cli.operation.told import encode

KEY = "memos"
NAIVE, GENERAL, TREE, PREFERENCE = "naive", "general", "tree", "preference"
WORKING = "WorkingMemory"
# A tree is one JSON value, with a vector at each node.
WHOLE_BYTES = 256 * MIB
LAYERS = 8
RULES = (
    "topic", "sensitivity", "read_scope", "write_scope", "share_scope", "priority", "expires_at", "decay_days",
    "legal_hold", "compliance",
)  # fmt: skip
STATES = {"activated": "activated", "resolving": "activated", "archived": "archived", "deleted": "archived"}
ORIGINS = {"conversation": "inference_extraction", "retrieved": "external_retrieval", "web": "external_retrieval"}
MADE_ANEW = "made anew by the embedder of the cube"
_TIMES = ("memory_time", "created_at", "updated_at")


def read(opened: Opened) -> Iterator[Piece]:
    """A piece for each memory. What is no memory goes to `opened.bad`; what is left behind is counted in losses."""
    limits = replace(opened.limits, element_bytes=max(opened.limits.element_bytes, WHOLE_BYTES))
    for found in iterate_values(opened.stream, encoding=opened.encoding, limits=limits):
        value = found.value
        if isinstance(value, dict) and "nodes" in value:
            yield from _tree(value, found, opened)
        elif isinstance(value, dict) and any(name in value for name in PREFERENCES):
            yield from _preferences(value, found, opened)
        elif item := _item(value, found, opened):
            yield item


def _item(value: Any, found: Found, opened: Opened) -> Piece | None:
    """An item of a list: naive, or general when its fields are in a payload."""
    if not isinstance(value, dict):
        _bad(value, found, opened)
        return None
    payload = value.get("payload")
    if not isinstance(payload, dict):
        return _piece(value, {"shape": NAIVE}, found, opened)
    opened.losses.add("memory", "vector", MADE_ANEW, 1 if value.get("vector") is not None else 0)
    metadata = payload.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {name: inner for name, inner in payload.items() if name not in ("id", "memory")}
    item = {"id": value.get("id") or payload.get("id"), "memory": payload.get("memory"), "metadata": metadata}
    return _piece(item, {"shape": GENERAL}, found, opened)


def _piece(item: Record, told: Record, found: Found, opened: Opened) -> Piece | None:
    """One memory, with all that is told of it."""
    text, metadata = item.get("memory"), item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if not isinstance(text, str) or not isinstance(item.get("id"), str):
        _bad(item, found, opened)
        return None
    kept = clean(metadata, opened.losses)
    key = metadata.get("key") or metadata.get("title")
    return Piece(
        text,
        kind="memory",
        section=(key,) if isinstance(key, str) and key.strip() else (),
        **found.place,
        session=_word(metadata.get("session_id")),
        ref=item["id"],
        time=next((time for name in _TIMES if (time := parse_time(metadata.get(name)))), None),
        said=tuple(_said(metadata)),
        extra=encode({KEY: {**told, "metadata": kept}}),
    )


def _said(metadata: Record) -> Iterator[tuple[str, Any]]:
    """The columns that metadata of MemOS names."""
    if word := _word(metadata.get("type")):
        yield "type", word
    tags = metadata.get("tags")
    if isinstance(tags, list) and tags:
        yield "tags", [tag for tag in tags if isinstance(tag, str)]
    if word := _word(metadata.get("user_id")):
        yield "owner", word
    if (state := STATES.get(_word(metadata.get("status")), "activated")) != "activated":
        yield "state", state
    if origin := ORIGINS.get(_word(metadata.get("source"))):
        yield "origin", origin
    rules = _rules(metadata)
    if metadata.get("visibility") == "private":
        rules = {"read_scope": "owner", "share_scope": "owner", **rules}
    yield from rules.items()


def _rules(metadata: Record) -> Record:
    """The rules that memos noted when it wrote this cube: a label that was high is so again."""
    info = metadata.get("info")
    noted = info.get(KEY) if isinstance(info, dict) else None
    if not isinstance(noted, dict):
        return {}
    return {name: carried.checked(noted, name) for name in RULES if name in noted and carried.is_right(noted, name)}


def clean(metadata: Record, losses: Losses) -> Record:
    """Metadata as it is kept: no vectors, no empty fields, and sources decoded."""
    kept = {name: value for name, value in metadata.items() if name != "embedding" and value is not None}
    if metadata.get("embedding"):
        losses.add("memory", "embedding", MADE_ANEW)
    if "sources" in kept:
        kept["sources"] = sources(kept["sources"])
    return kept


def sources(value: Any) -> list[Any]:
    """The origins of a memory, each an object where it is one under however many layers of encoding.

    A text that is no JSON in the end is the origin itself. One with a role and without a type is a chat's.
    """
    found = _decoded(value)
    return [_typed(_decoded(one)) for one in (found if isinstance(found, list) else [found])]


def _decoded(value: Any) -> Any:
    """What a text says as JSON, as often as it says a text; the text itself when it is no JSON object or list."""
    inner = value
    for _ in range(LAYERS):
        if not isinstance(inner, str):
            break
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            return inner
    return inner if isinstance(inner, dict | list) else value


def _typed(source: Any) -> Any:
    if isinstance(source, dict) and source.get("type") is None:
        return {**source, "type": "chat" if source.get("role") else "doc"}
    return source


def _tree(value: Record, found: Found, opened: Opened) -> Iterator[Piece]:
    held = value["nodes"] if isinstance(value["nodes"], list) else [value]
    nodes = []
    for node in held:
        if isinstance(node, dict) and isinstance(node.get("id"), str):
            nodes.append(node)
        else:
            _bad(node, found, opened)
    copies = _copies(nodes)
    noted = {copy["id"] for group in copies.values() for copy in group}
    opened.losses.add("node", WORKING, "the same words as another node: noted with it", len(noted))
    edges = _edges(value.get("edges"), {node["id"] for node in nodes}, opened)
    for node in nodes:
        if node["id"] in noted:
            continue
        group = copies.get(node["id"], [])
        told: Record = {"shape": TREE}
        if group:
            told["copies"] = [{"id": copy["id"], "metadata": clean(copy["metadata"], opened.losses)} for copy in group]
        if linked := [edge for one in (node, *group) for edge in edges.get(one["id"], [])]:
            told["edges"] = linked
        if piece := _piece(node, told, found, opened):
            yield piece


def _copies(nodes: list[Record]) -> dict[str, list[Record]]:
    """Nodes of the working memory by the node elsewhere that says the same, the first of them when there are more."""
    first: dict[str, Record] = {}
    for node in nodes:
        if isinstance(node.get("memory"), str) and _type(node) != WORKING:
            first.setdefault(node["memory"], node)
    copies: dict[str, list[Record]] = {}
    for node in nodes:
        if _type(node) == WORKING and (other := first.get(str(node.get("memory")))):
            copies.setdefault(other["id"], []).append(node)
    return copies


def _type(node: Record) -> str:
    metadata = node.get("metadata")
    return _word(metadata.get("memory_type")) if isinstance(metadata, dict) else ""


def _edges(value: Any, known: set[str], opened: Opened) -> dict[str, list[Record]]:
    """Links by the node they go out from."""
    found: dict[str, list[Record]] = {}
    for edge in value if isinstance(value, list) else []:
        if isinstance(edge, dict) and isinstance(edge.get("source"), str) and edge["source"] in known:
            found.setdefault(edge["source"], []).append(edge)
        else:
            opened.losses.add("edge", "source", "of no node in the file")
    return found


def _preferences(value: Record, found: Found, opened: Opened) -> Iterator[Piece]:
    for bucket in PREFERENCES:
        items = value.get(bucket)
        for item in items if isinstance(items, list) else []:
            if not isinstance(item, dict):
                _bad(item, found, opened)
                continue
            held = item.get("payload")
            payload: Record = held if isinstance(held, dict) else {}
            opened.losses.add("memory", "vector", MADE_ANEW, 1 if item.get("vector") is not None else 0)
            text = next((text for text in _wordings(item, payload) if isinstance(text, str) and text.strip()), None)
            told: Record = {"shape": PREFERENCE, "bucket": bucket}
            told |= {name: item[name] for name in ("memory", "original_text") if item.get(name) is not None}
            whole = {"id": item.get("id") or payload.get("id"), "memory": text, "metadata": payload}
            if piece := _piece(whole, told, found, opened):
                said = {"type": PREFERENCE, **dict(piece.said)}
                yield replace(piece, said=tuple(said.items()))


def _wordings(item: Record, payload: Record) -> Iterator[Any]:
    yield from (payload.get("preference"), item.get("memory"), payload.get("memory"), item.get("original_text"))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _bad(value: Any, found: Found, opened: Opened) -> None:
    has = ", ".join(sorted(map(str, value))[:8]) if isinstance(value, dict) else type(value).__name__
    opened.bad(
        Malformed(f"line {found.line_start}", f"no memory of MemOS: expected id, memory and metadata, found {has}")
    )
