"""Canaries in the table of a copy: as rows like their neighbours, each at the end of a source, marked nowhere.

What a row says of itself besides its words is what the last memory of that source says of itself. The table is written
anew with them in their places, so that no file or fragment has the canaries alone. Works in a folder that nobody else
reads; knows nothing of whom they are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.cube import rewriting
from memos_cli.cube.filters import quote
from memos_cli.cube.piece import Piece
from memos_cli.cube.plaintext import LIVE, Memories, table_of
from memos_cli.errors import Usage
from memos_cli.operation.naming import content_key, new_id
from memos_cli.operation.rewindow import rewindow

if TYPE_CHECKING:
    from memos_cli.operation.canaries import Canary
    from memos_cli.operation.ingest import Embedder

_SENTENCES = ("bullet", "paragraph", "turn")
_ANEW = {
    "supersedes": "", "superseded_by": "", "superseded_as": "", "uses": 0, "last_used": None, "heat": 0.0,
    "event_time": None, "time_note": "", "ref": "", "near": "", "wide": "",
}  # fmt: skip


def plant(directory: Path, canaries: Sequence[Canary], *, key: bytes, embedder: Embedder | None) -> int:
    """Puts the canaries into the table under `directory`; how many stand among other things than sentences.

    Where they go follows from `key`. The embedder is that of the table. Raises Usage when there is no memory to stand
    behind.
    """
    memories = Memories.open(directory)
    hosts = _hosts(memories, len(canaries), key)
    if not hosts:
        raise Usage("canaries stand behind memories, and none would be in this copy", hint="without --canaries")
    last: dict[str, dict[str, Any]] = {}
    after: dict[str, list[str]] = {}
    rows = []
    for number, canary in enumerate(canaries):
        host = hosts[number % len(hosts)]
        row = _behind(last.get(host["source"], host), canary.text)
        last[host["source"]] = row
        after.setdefault(host["id"], []).append(row["id"])
        rows.append(row)
    if embedder:
        for row, vector in zip(rows, embedder.embed([row["text"] for row in rows]), strict=True):
            row["vector"], row["near_vector"] = vector, vector
    fresh = table_of(rows, embedder=memories.embedder)
    memories.append(fresh.select(memories.schema.names))
    rewindow(memories, [host["source"] for host in hosts], embedder=embedder)
    rewriting.rewrite(directory, after=after)
    return sum(row["kind"] not in _SENTENCES for row in rows)


def _hosts(memories: Memories, count: int, key: bytes) -> list[dict[str, Any]]:
    """The last live memory of each of some sources, those of sentences first, in an order that only the key tells."""
    ranked = sorted(memories.narrowed(LIVE).uris(), key=lambda uri: hashlib.sha256(key + uri.encode()).digest())
    found: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for uri in ranked:
        rows = memories.rows(f"source = {quote(uri)} and {LIVE}", columns=["id", "position"]).sort_by("position")
        (host,) = memories.take([rows["id"][-1].as_py()]).to_pylist()
        (found if host["kind"] in _SENTENCES else others).append(host)
        if len(found) == count:
            break
    return (found or others)[:count]


def _behind(host: dict[str, Any], text: str) -> dict[str, Any]:
    """A row with this text, as one that follows `host` in its source."""
    section = tuple(host["section"].split(" > ")) if host["section"] else ()
    piece = Piece(
        text, kind=host["kind"], section=section, session=host["session"], speaker=host["speaker"], role=host["role"]
    )
    position, identity = host["position"] + 1, content_key(piece)
    line = host["line_end"] or host["line_start"]
    step = 1 if host["kind"] == "bullet" else 2
    return {
        **host, **_ANEW, "id": new_id(host["source"], identity, position), "text": text, "content_key": identity,
        "position": position, "words": len(text.split()), "line_start": line and line + step,
        "line_end": line and line + step, "turn": host["turn"] and host["turn"] + 1,
    }  # fmt: skip
