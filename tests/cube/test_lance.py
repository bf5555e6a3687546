"""The light ways into lancedb: they give what lancedb gives, and leave it usable."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  this file computes
import pytest

from memos_cli.cube import lance, rewriting, search
from memos_cli.cube.native import open_native
from memos_cli.cube.plaintext import TABLE, Memories, table_of
from memos_cli.cube.plaintext import schema as schema_of
from memos_cli.errors import Damaged, NotFound

TEXTS = [f"the {name} ring of {place}" for name in ("gold", "iron", "lost") for place in ("Ann", "Bo", "Cy", "Di")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of twelve memories with text indexes."""
    memories = Memories.create(tmp_path, embedder=None)
    rows = [
        {"id": f"{i:020x}", "text": text, "near": text, "wide": text, "position": i} for i, text in enumerate(TEXTS)
    ]
    memories.append(table_of(rows, embedder=None))
    search.ensure_indexes(memories.table)
    return tmp_path


def reads(table: Any) -> list[Any]:
    """What both ways are asked, as plain values."""
    rows = search.scan(table, ["id", "text"], where="position > 2")
    ids = rows["_rowid"].to_pylist()
    return [
        table.version,
        table.schema,
        search.count(table, "text like '%Ann'"),
        search.indexed_columns(table),
        search.text_list(table, "gold ring AND Bo?", column="near", limit=5).to_pydict(),
        search.text_list(table, "lost", column="wide", limit=5, where="position < 10").to_pydict(),
        rows.to_pydict(),
        search.scan(table, ["id"], limit=2).to_pydict(),
        search.take(table, ids[:3], ["text"]).to_pydict(),
        search.take(table, [], ["text"]).schema,
        [row["id"] for batch in table.search().select(["id"]).to_batches(5) for row in batch.to_pylist()],
    ]


def test_reads_give_what_lancedb_gives(folder: Path) -> None:
    whole = lance.Table(folder, TABLE)
    assert reads(open_native(folder, TABLE)) == reads(whole) == reads(lance.open_table(folder, TABLE))
    assert whole.whole is not None


def test_rows_near_a_vector_are_those_that_lancedb_finds(tmp_path: Path) -> None:
    import pyarrow as pa

    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8)
    lance.load().connect(str(tmp_path)).create_table("v", pa.table({"vector": column, "n": list(range(50))}))
    found = [
        search.vector_list(table, vectors[7], column="vector", limit=4, where="n > 3").to_pydict()
        for table in (lance.Table(tmp_path, "v"), open_native(tmp_path, "v"))
    ]
    assert found[0] == found[1]
    assert found[0]["_rowid"][0] == 7


def test_what_only_lancedb_can_do_is_left_to_it_from_then_on(folder: Path) -> None:
    memories = Memories.open(folder)
    before = memories.table.version
    memories.change([f"{0:020x}"], topic="rings")
    assert memories.table.version > before
    assert memories.count("topic = 'rings'") == 1
    assert search.text_list(memories.table, "gold", column="near", limit=9).num_rows == 4


def test_a_release_that_was_not_checked_is_used_the_plain_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    light = reads(lance.open_table(folder, TABLE))
    monkeypatch.setattr(lance, "CHECKED_RELEASES", ("0.0.",))
    assert reads(lance.open_table(folder, TABLE)) == light


def test_tables_are_read_inside_a_running_loop_and_in_threads(folder: Path) -> None:
    table = open_native(folder, TABLE)

    async def ask() -> int:
        return table.count_rows()

    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(table.count_rows())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [asyncio.run(ask()), *counts] == [12] * 5


def test_a_missing_or_broken_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        lance.open_table(tmp_path, TABLE)
    (tmp_path / f"{TABLE}.lance").mkdir()
    with pytest.raises(Damaged):
        lance.open_table(tmp_path, TABLE)


@pytest.mark.long
@pytest.mark.many(1)
@pytest.mark.parametrize("way", ["light", "plain", "native first"])
def test_lancedb_is_whole_after_it_was_imported_light(way: str, folder: Path) -> None:
    program = {
        "light": "from memos_cli.cube import lance; lance.load()",
        "plain": "import lancedb",
        "native first": f"from memos_cli.cube import lance; lance.open_table(Path({str(folder)!r}), 'memories')",
    }[way]
    after = (
        f"import lancedb, lancedb.query; table = lancedb.connect({str(folder)!r}).open_table('memories')\n"
        "print(table.count_rows(), table.search('gold', query_type='fts').limit(9).to_arrow().num_rows)\n"
        "import overrides; assert overrides.overrides.__module__.startswith('overrides')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from pathlib import Path\n{program}\n{after}"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "12 4\n"), done.stderr


def test_a_table_that_asks_for_a_model_is_refused_and_written_anew_without(tmp_path: Path) -> None:
    """As lancedb's registry of embedding functions makes them: to write to one would import and run what it names."""
    asks = json.dumps([{"name": "sentence-transformers", "model": {"name": str(tmp_path / "model")},
                        "source_column": "text", "vector_column": "vector"}])  # fmt: skip
    place = tmp_path / "theirs"
    schema = schema_of(None).with_metadata({"embedding_functions": asks, "kept": "1"})
    lance.load().connect(str(place)).create_table(TABLE, schema=schema)
    with pytest.raises(Damaged, match="embedding_functions"):
        lance.open_table(place, TABLE)
    with pytest.raises(Damaged, match="embedding_functions"):
        Memories.open(place)
    as_it_lies = lance.Table(place, TABLE, native=open_native(place, TABLE))
    assert rewriting.write(as_it_lies, tmp_path / "ours") == 0
    assert lance.open_table(tmp_path / "ours", TABLE).schema.metadata == {b"kept": b"1"}
    assert Memories.open(tmp_path / "ours").count() == 0
