"""Memories of mem0, and the graph of the memory server of the Model Context Protocol (`memory.json`).

mem0: what `get_all` and `search` answer, and lists of memories. The graph: a memory for each observation, under the
name it is about, and one for each relation. What no column holds is kept with the memory as it came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.dates import parse_time
from memos_cli.interface.sources.elements import Found, read_values
from memos_cli.interface.sources.foreign import Record, is_graph, is_mem0, results
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.opened import Opened
from memos_cli.operation.told import encode


def read(opened: Opened) -> Iterator[Piece]:
    """A piece for each memory; what is none goes to `opened.bad`."""
    for found in read_values(opened):
        value = found.value
        if not isinstance(value, dict):
            _bad(value, found, opened)
        elif value.get("type") in ("entity", "relation") or is_graph(value):
            yield from _graph(value, found, opened)
        elif many := results(value):
            for one in many:
                yield from _memory(one, found, opened)
            yield from _relations(value.get("relations"), found, opened)
            for name in value.keys() - {"results", "memories", "relations", "count", "next", "previous"}:
                opened.losses.add("answer of mem0", str(name), "no memory")
        else:
            yield from _memory(value, found, opened)


def _memory(value: Any, found: Found, opened: Opened) -> Iterator[Piece]:
    if not isinstance(value, dict) or not is_mem0(value):
        _bad(value, found, opened)
        return
    said: dict[str, Any] = {}
    if owner := next((value[name] for name in ("user_id", "agent_id", "app_id") if _is_word(value.get(name))), ""):
        said["owner"] = owner
    categories = value.get("categories")
    if isinstance(categories, list) and categories:
        said["tags"] = [tag for tag in categories if isinstance(tag, str)]
    kept = {name: inner for name, inner in value.items() if name not in ("id", "memory", "score") and inner is not None}
    run = value.get("run_id")
    yield Piece(
        value["memory"],
        kind="memory",
        **found.place,
        session=str(run) if _is_word(run) else "",
        ref=value["id"],
        time=parse_time(value.get("created_at")),
        said=tuple(said.items()),
        extra=encode({"mem0": kept}) if kept else "",
    )


def _relations(value: Any, found: Found, opened: Opened) -> Iterator[Piece]:
    """The edges of mem0's graph, which have other names than those of memory.json."""
    for one in value if isinstance(value, list) else []:
        words = [one.get(name) for name in ("source", "relationship", "target")] if isinstance(one, dict) else []
        if words and words[2] is None:
            words[2] = one.get("destination")
        if not words or not all(_is_word(word) for word in words):
            opened.losses.add("relation", "source, relationship, target", "one of them is missing")
            continue
        yield _related(str(words[0]), str(words[1]), str(words[2]), found, {"mem0": {"relation": one}})


def _graph(value: Record, found: Found, opened: Opened) -> Iterator[Piece]:
    if value.get("type") == "entity":
        yield from _entity(value, found, opened)
    elif value.get("type") == "relation":
        yield from _relation(value, found, opened)
    else:
        for one in value["entities"]:
            yield from _entity(one, found, opened)
        for one in value["relations"]:
            yield from _relation(one, found, opened)


def _entity(value: Any, found: Found, opened: Opened) -> Iterator[Piece]:
    """An observation under the name it is about; a name of which nothing was observed by itself."""
    if not isinstance(value, dict) or not _is_word(value.get("name")):
        _bad(value, found, opened)
        return
    name, kind = value["name"], value.get("entityType")
    said = (("tags", [kind]),) if _is_word(kind) else ()
    observations = value.get("observations")
    texts = [text for text in observations if _is_word(text)] if isinstance(observations, list) else []
    if isinstance(observations, list) and len(texts) < len(observations):
        opened.losses.add("observation", "text", "empty, or not a text", len(observations) - len(texts))
    known = {inner: value[inner] for inner in value.keys() - {"type", "observations"}}
    for text in texts or [name]:
        told = {"graph": {**known, **({} if texts else {"observations": []})}}
        yield Piece(text, "memory", (name,) if texts else (), **found.place, said=said, extra=encode(told))


def _relation(value: Any, found: Found, opened: Opened) -> Iterator[Piece]:
    words = [value.get(name) for name in ("from", "relationType", "to")] if isinstance(value, dict) else []
    if not words or not all(_is_word(word) for word in words):
        _bad(value, found, opened)
        return
    told = {"graph": {"relation": {name: value[name] for name in value.keys() - {"type"}}}}
    yield _related(str(words[0]), str(words[1]), str(words[2]), found, told)


def _related(start: str, relation: str, end: str, found: Found, told: Record) -> Piece:
    words = f"{start} {relation.replace('_', ' ')} {end}"
    return Piece(words, "memory", (start,), **found.place, extra=encode(told))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _bad(value: Any, found: Found, opened: Opened) -> None:
    has = ", ".join(sorted(map(str, value))[:8]) if isinstance(value, dict) else type(value).__name__
    opened.bad(
        Malformed(
            f"line {found.line_start}",
            f"expected a memory (id, memory) or an entity or relation of a graph, found {has}",
        )
    )
