"""The reading side of the table, and the light import of lancedb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np  # noqa: TID253
import pyarrow as pa  # noqa: TID253
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.cube import lance, search
from memos_cli.cube.metadata import EmbedderIdentity
from memos_cli.cube.plaintext import Memories, table_of
from memos_cli.errors import Damaged, NotFound
from tests.cube.rows import make_table, turn, unit_rows

WORDS = ["the cat sat on the mat", "a dog's day", "cats and dogs and mice", "nothing of the kind", "the mouse ran"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> object:
    rows = [turn(i, "Ann", text) for i, text in enumerate(WORDS)]
    return make_table(tmp_path_factory.mktemp("table"), rows).table


def files_of(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_any_word_is_enough_and_endings_do_not_matter(table: object) -> None:
    found = search.text_list(table, "cat elephant", column="text", limit=10)
    assert found["_rowid"].to_pylist() == [0, 2] or found["_rowid"].to_pylist() == [2, 0]
    assert found["_score"].to_pylist() == sorted(found["_score"].to_pylist(), reverse=True)


def test_a_condition_applies_before_ranking(table: object) -> None:
    found = search.text_list(table, "the", column="near", limit=1, where="position = 4")
    assert found.num_rows <= 1
    found = search.text_list(table, "mouse mice cat", column="text", limit=1, where="position = 4")
    assert found["_rowid"].to_pylist() == [4]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60) | st.sampled_from(['"', "a AND (", "NOT x*", "near:cat^3", "\\", "'; drop", "{}[]~?"]))
def test_no_question_is_an_operator_or_raises(table: object, words: str) -> None:
    assert search.text_list(table, words, column="near", limit=5).num_rows <= 5


def test_rows_are_taken_by_place_and_absent_ones_left_out(table: object) -> None:
    found = search.take(table, [3, 1, 1, 999], ["text"])
    assert sorted(zip(found["_rowid"].to_pylist(), found["text"].to_pylist(), strict=True)) == [
        (1, WORDS[1]), (3, WORDS[3]),
    ]  # fmt: skip
    assert search.take(table, [], ["text"]).num_rows == 0
    assert search.scan(table, ["id"], where="position >= 3")["_rowid"].to_pylist() == [3, 4]
    assert search.count(table, "position >= 3") == 2


def test_text_columns_are_indexed_and_small_tables_have_no_vector_index(tmp_path: Path) -> None:
    identity = EmbedderIdentity(name="x", digest="sha256:0", dim=16, window=8, precision="f")
    vectors = unit_rows(300, dim=16)
    rows = [{**turn(i, "Ann", f"word{i}"), "vector": vectors[i], "near_vector": vectors[i]} for i in range(300)]
    memories = Memories.create(tmp_path, embedder=identity)
    search.ensure_indexes(memories.table)  # nothing to index yet
    memories.append(table_of(rows, embedder=identity))
    search.ensure_indexes(memories.table)
    assert search.indexed_columns(memories.table) == {"near", "wide", "text"}
    assert search.vector_columns(memories.table) == ("vector", "near_vector")
    found = search.vector_list(memories.table, vectors[7], column="vector", limit=3)
    assert found["_rowid"].to_pylist()[0] == 7


def test_a_large_table_gets_an_index_that_finds_what_a_scan_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "INDEXED_ROWS", 4_000)
    count, dim = 4_000, 64
    identity = EmbedderIdentity(name="x", digest="sha256:0", dim=dim, window=8, precision="f")
    vectors = unit_rows(count, dim=dim)
    rows = [{**turn(i, "Ann", "word"), "vector": vectors[i]} for i in range(count)]
    memories = Memories.create(tmp_path, embedder=identity)
    memories.append(table_of(rows, embedder=identity))
    search.ensure_indexes(memories.table)
    assert {"vector", "id", "source"} <= search.indexed_columns(memories.table)
    assert "near_vector" not in search.indexed_columns(memories.table)  # null everywhere
    questions = unit_rows(20, dim=dim, seed=1)
    shares = []
    for question in questions:
        exact = set(np.argsort(-(vectors @ question))[:10].tolist())
        found = search.vector_list(memories.table, question, column="vector", limit=100)["_rowid"].to_numpy()
        best = found[np.argsort(-(vectors[found] @ question))[:10]]  # recall ranks the candidates exactly
        shares.append(len(exact & set(best.tolist())) / 10)
    assert np.mean(shares) >= 0.98


@pytest.mark.long
def test_many_small_commits_stay_few_files_and_no_old_version_is_left(tmp_path: Path) -> None:
    memories = make_table(tmp_path, [turn(i, "Ann", f"word{i} again") for i in range(200)])
    search.compact(memories.table)
    before, most = len(files_of(tmp_path)), 0
    for number in range(200, 260):
        memories = Memories.open(tmp_path)
        memories.append(table_of([turn(number, "Bob", f"word{number} again")], embedder=None))
        search.compact(memories.table)
        search.ensure_indexes(memories.table)
        most = max(most, len(files_of(tmp_path)))
        assert len(list((tmp_path / "memories.lance" / "_versions").glob("*.manifest"))) == 1
    assert most < before + 4 * search.MOST_FRAGMENTS + 60
    memories = Memories.open(tmp_path)
    assert memories.count() == 260
    assert search.text_list(memories.table, "word255", column="near", limit=3)["_rowid"].to_pylist()
    assert search.text_list(memories.table, "word3", column="near", limit=3)["_rowid"].to_pylist()


def test_rows_that_are_in_no_index_yet_are_found(tmp_path: Path) -> None:
    memories = make_table(tmp_path, [turn(0, "Ann", "the first")])
    memories.append(table_of([turn(1, "Bob", "a zebra")], embedder=None))
    assert search.text_list(memories.table, "zebra", column="text", limit=3).num_rows == 1


def test_a_table_that_asks_to_run_code_is_refused(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())], metadata={b"embedding_functions": b"[]", b"kept": b"1"})
    with pytest.raises(Damaged, match="embedding_functions"):
        lance.refuse_unsafe(schema, where="here")
    assert lance.strip_unsafe(schema).metadata == {b"kept": b"1"}
    with pytest.raises(NotFound):
        lance.open_table(tmp_path, "memories")
    (tmp_path / "memories.lance").mkdir()
    with pytest.raises(Damaged):
        lance.open_table(tmp_path, "memories")


PROGRAM = """
import sys
from pathlib import Path
from memos_cli.cube import lance, search
table = lance.open_table(Path(sys.argv[1]), "memories")
for column in ("near", "text"):
    found = search.text_list(table, "cats and a mouse?", column=column, limit=5)
    print([(r["_rowid"], round(r["_score"], 4)) for r in found.to_pylist()])
print(search.scan(table, ["text"], where="position > 1").to_pylist(), table.count_rows(), sorted(table.schema.names))
table.add(table.to_arrow().slice(0, 1))
print(table.count_rows(), "lance_namespace_urllib3_client" in sys.modules, "pandas" in sys.modules, file=sys.stderr)
"""


@pytest.mark.long
def test_the_light_import_and_the_plain_one_give_the_same(tmp_path: Path) -> None:
    seen = {}
    for plain in ("", "1"):
        folder = tmp_path / f"plain{plain}"
        make_table(folder, [turn(i, "Ann", text) for i, text in enumerate(WORDS)])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder)],
            capture_output=True, text=True, check=True, env={**os.environ, "MEMOS_PLAIN_LANCEDB": plain},
        )  # fmt: skip
        seen[plain] = (done.stdout, done.stderr.split())
    assert seen[""][0] == seen["1"][0] != ""
    assert seen[""][1] == ["6", "False", "False"]
    assert seen["1"][1][1] == "True"


def test_another_release_is_imported_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "CHECKED_RELEASES", ("9.9.",))
    assert not lance.is_checked()
