"""Columns whose rows all say the same are found, and are known without being read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import alike, search
from memos_cli.cube.plaintext import Memories
from tests.cube.rows import make_table, turn

COLUMNS = ("kind", "role", "section", "speaker", "position", "page", "words", "time", "tags", "priority")


@pytest.fixture
def table(tmp_path: Path) -> Any:
    rows = [turn(i, "Ann", f"it's turn {i}", section="a 'quoted' head", words=4) for i in range(8)]
    return make_table(tmp_path, [*rows, turn(8, "Bo", "the last", section="a 'quoted' head", words=4)]).table


def test_what_all_rows_say_is_found(table: Any) -> None:
    same = alike.alike(table, COLUMNS)
    assert {name: same[name].as_py() for name in ("kind", "section", "page", "words")} == {
        "kind": "turn", "section": "a 'quoted' head", "page": None, "words": 4,
    }  # fmt: skip
    assert not {"speaker", "position", "time", "tags"} & set(same)


def test_a_row_far_behind_is_seen(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "LOOKED_AT", 2)
    assert "speaker" not in alike.alike(table, COLUMNS)
    assert alike.alike(table, COLUMNS)["section"].as_py() == "a 'quoted' head"


def test_one_null_among_values_makes_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "LOOKED_AT", 2)
    pages = [turn(i, "Ann", "hello", page=None if i == 5 else 1) for i in range(7)]
    assert "page" not in alike.alike(make_table(tmp_path / "a", pages).table, ["page"])
    nulls = [turn(i, "Ann", "hello", page=1 if i == 5 else None) for i in range(7)]
    assert "page" not in alike.alike(make_table(tmp_path / "b", nulls).table, ["page"])


def test_a_take_gives_the_same_with_what_is_known(table: Any) -> None:
    rowids = search.scan(table, ["id"])["_rowid"].to_pylist()[2:5]
    plain = search.take(table, rowids, COLUMNS).select([*COLUMNS, "_rowid"])
    known = alike.take(table, rowids, COLUMNS, same=alike.alike(table, COLUMNS)).select([*COLUMNS, "_rowid"])
    assert known.schema.types == plain.schema.types
    assert known.to_pylist() == plain.to_pylist()


def test_no_columns_and_no_rows_say_nothing(tmp_path: Path, table: Any) -> None:
    assert alike.alike(table, []) == {}
    Memories.create(tmp_path / "empty", embedder=None)
    assert alike.alike(Memories.open(tmp_path / "empty").table, COLUMNS) == {}
