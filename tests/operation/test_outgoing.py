"""Rows as lines of JSON are read as the same rows, and as items of MemOS they are what MemOS has, vectors too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.cube.losses import Losses
from memos_cli.cube.piece import Piece, storable
from memos_cli.cube.plaintext import EMPTY
from memos_cli.interface import sources
from memos_cli.interface.sources import carried
from memos_cli.operation import outgoing, outgoing_cube
from memos_cli.operation.context import Placed
from memos_cli.operation.ingest import Ingest
from memos_cli.operation.marking import Marks
from memos_cli.operation.naming import content_key
from memos_cli.operation.told import encode
from tests.interface import official

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
WORDS = st.text(max_size=20).map(storable)
SAID = st.text(min_size=1, max_size=20).map(storable).filter(lambda text: not text.isspace())
TIMES = st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))
COUNTS = st.none() | st.integers(0, 10**6)
ID = st.text("0123456789abcdef", min_size=20, max_size=20)
ROWS = st.fixed_dictionaries({
    "id": ID, "text": SAID, "source": SAID, "title": WORDS, "position": st.integers(0, 2**50), "type": WORDS,
    "topic": WORDS, "tags": st.lists(WORDS, max_size=3), "session": WORDS, "speaker": WORDS, "role": WORDS,
    "ref": WORDS, "line_start": COUNTS, "page": COUNTS, "turn": COUNTS, "time": TIMES, "event_time": TIMES,
    "time_note": WORDS,
    "state": st.sampled_from(["generated", "activated", "merged", "archived", "frozen"]), "valid_to": TIMES,
    "owner": WORDS, "read_scope": st.sampled_from(["", "owner", "anyone"]), "priority": st.integers(0, 9),
    "sensitivity": st.sampled_from(["public", "internal", "confidential"]), "expires_at": TIMES,
    "legal_hold": st.booleans(), "compliance": st.lists(WORDS, max_size=2), "supersedes": st.just("") | ID,
    "section": st.lists(SAID.filter(lambda word: " > " not in word), max_size=3),
    "extra": st.dictionaries(WORDS, WORDS | st.integers() | st.lists(WORDS, max_size=2), max_size=3),
})  # fmt: skip


def row(**said: Any) -> dict[str, Any]:
    """A row as the table gives it."""
    path = tuple(said.pop("section", ()))
    whole: dict[str, Any] = {
        **dict.fromkeys(outgoing.READ), **EMPTY, "kind": "memory", "source_digest": "", "valid_from": NOW,
        "created_at": NOW, "updated_at": NOW, "position": 0, **said, "section": " > ".join(path),
        "extra": encode(said.get("extra") or {}),
    }  # fmt: skip
    names = {name: whole[name] for name in ("text", "kind", "session", "speaker", "role")}
    return {**whole, "content_key": content_key(Piece(**names, section=path))}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=ROWS)
def test_a_line_is_read_as_the_row_it_was(tmp_path: Path, said: dict[str, Any]) -> None:
    before = row(**said)
    (tmp_path / "a.jsonl").write_text("".join(outgoing.lines([before], level="internal", losses=Losses())))
    (source,) = sources.expand(["a.jsonl"], base=tmp_path, stdin=None)
    assert source.format == "memos-jsonl"
    (piece,) = source.pieces()
    work = Ingest(None, None, Marks(), NOW + timedelta(days=1), {})
    after = work.row(source, "sha256:x", Placed(piece, 7, "", ""), key=content_key(piece))
    lacking = {name: EMPTY.get(name) for name in outgoing.SAID if name not in after}
    after = {**lacking, **after}
    assert {name: after[name] for name in outgoing.SAID} == {name: before[name] for name in outgoing.SAID}


def test_every_column_of_a_line_is_known_to_the_reader() -> None:
    known = {"text", "section", "extra", *carried.COLUMNS, *carried.PLACES}
    assert known == set(outgoing.SAID)


def written(rows: list[dict[str, Any]], shape: str) -> tuple[Any, Losses]:
    losses = Losses()
    writer = outgoing_cube.Writer(shape, "internal", losses, vectors=True)
    return json.loads("".join(writer.chunks(rows))), losses


def came(tmp_path: Path, shape: str) -> list[dict[str, Any]]:
    """Rows of an official cube, with vectors as an embedder gives them."""
    official.cube(tmp_path / "theirs", official.SHAPES[shape]())
    (source,) = sources.expand(["theirs"], base=tmp_path, stdin=None)
    rows = []
    for piece in source.pieces():
        names = {name: getattr(piece, name) for name in ("text", "section", "session", "ref", "time")}
        said = {**dict(piece.said), "extra": json.loads(piece.extra), "source": "theirs/textual_memory.json"}
        rows.append({**row(**names, **said), "vector": [0.25, 0.5]})
    return rows


def test_a_general_cube_has_vectors_and_payloads(tmp_path: Path) -> None:
    items, _ = written(came(tmp_path, "general"), "general")
    assert [item["vector"] for item in items] == [[0.25, 0.5]] * 2
    theirs = [{**item, "vector": [0.25, 0.5]} for item in official.general()]
    assert items == theirs


def test_a_tree_has_embeddings_copies_and_edges(tmp_path: Path) -> None:
    tree, _ = written(came(tmp_path, "tree"), "tree")
    assert (tree["total_nodes"], tree["total_edges"]) == (4, 1)
    assert tree["edges"] == official.tree()["edges"]
    assert [node["metadata"].get("embedding") for node in tree["nodes"]] == [[0.25, 0.5], None] * 2


def test_a_tree_in_another_shape_says_what_it_loses(tmp_path: Path) -> None:
    items, losses = written(came(tmp_path, "tree"), "naive")
    assert len(items) == 2
    lost = {loss.field: loss.count for loss in losses.told()}
    assert (lost["copies"], lost["edges"]) == (2, 1)


def test_two_memories_never_have_one_id() -> None:
    told = {"memos": {"shape": "naive", "metadata": {}}}
    rows = [row(id=f"{number:020x}", text=f"text {number}", source="a", ref="same", extra=told) for number in range(3)]
    items, _ = written(rows, "naive")
    assert len({item["id"] for item in items}) == 3
    assert items[0]["id"] == "same"
