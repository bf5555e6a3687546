"""JSON, JSON lines and tables: an object, a setting and a row are memories of their own, with their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.errors import Damaged
from memos_cli.interface.sources import Limits
from tests.interface.samples import brief, json_lines, lines, read, source


def test_records_of_json_lines_read_alone(tmp_path: Path) -> None:
    text = json_lines(
        {"name": "Ann", "age": 31, "admin": True, "boss": None, "address": {"town": "Oslo"}, "tags": ["a", "b"]},
        {"id": "m7", "memory": "Likes tea.", "created_at": "2023-05-08", "embedding": [0.5] * 384},
        {"note": "x", "vector": [0.5] * 384},
        "just words",
        [1, 2],
    )
    pieces = read(tmp_path, "a.jsonl", text)
    assert [piece.text for piece in pieces] == [
        "name: Ann; age: 31; admin: true; address.town: Oslo; tags: a, b",
        "Likes tea.",
        "x",
        "just words",
        "1",
        "2",
    ]
    assert pieces[1].ref == "m7"
    assert f"{pieces[1].time:%Y-%m-%d}" == "2023-05-08"
    assert [piece.line_start for piece in pieces] == [1, 2, 3, 4, 5, 5]


def test_a_json_document_is_read_by_its_keys(tmp_path: Path) -> None:
    value = {
        "name": "web",
        "ports": [80, 443],
        "db": {"host": "h"},
        "users": [{"n": "Ann"}, {"n": "Bob"}],
        "none": None,
    }
    assert brief(read(tmp_path, "a.json", json.dumps(value))) == [
        ("pair", "name: web", ""),
        ("pair", "ports: 80, 443", ""),
        ("pair", "host: h", "db"),
        ("record", "n: Ann", "users"),
        ("record", "n: Bob", "users"),
    ]


def test_elements_of_an_array_have_their_lines(tmp_path: Path) -> None:
    text = '[\n {"a": 1},\n {\n  "a": 2\n }\n,{"a":3}]\n'
    assert lines(read(tmp_path, "a.json", text)) == [(2, 2), (3, 5), (6, 6)]


def test_a_notebook_is_read_by_its_cells(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Load\n", "\n", "Read the data."]},
        {"cell_type": "code", "source": "x = 1\n\ny = 2", "outputs": [{"text": "noise"}]},
    ]
    pieces = read(tmp_path, "a.ipynb", json.dumps({"nbformat": 4, "cells": cells}))
    assert brief(pieces) == [("paragraph", "Read the data.", "Load"), ("code", "x = 1\n\ny = 2", "Load")]
    assert [piece.page for piece in pieces] == [1, 2]


scalars = st.one_of(
    st.integers(-(10**9), 10**9), st.booleans(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
)
values = st.dictionaries(
    st.sampled_from(["aa", "bb", "cc"]), st.one_of(scalars, st.lists(scalars, max_size=3)), min_size=1
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(values, min_size=1, max_size=6), indent=st.sampled_from([None, 0, 2]))
def test_an_array_and_lines_of_the_same_records_read_alike(
    tmp_path: Path, records: list[dict[str, Any]], indent: int | None
) -> None:
    as_lines = [piece.text for piece in read(tmp_path, "a.jsonl", json_lines(*records))]
    as_array = [piece.text for piece in read(tmp_path, "a.json", json.dumps(records, indent=indent), format="json")]
    assert as_lines == as_array
    for record in records:
        for value in record.values():
            if isinstance(value, str) and value.strip():
                assert any(value.strip() in text for text in as_lines)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(values, min_size=1, max_size=6), chunk=st.integers(1, 40))
def test_an_array_reads_the_same_however_it_is_cut(tmp_path: Path, records: list[dict[str, Any]], chunk: int) -> None:
    import io

    from memos_cli.interface.sources.elements import iterate_values

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(chunk)

    stream = Slow(json.dumps([*records, 12345, -1.5, "é"], indent=1, ensure_ascii=False).encode())
    found = [one.value for one in iterate_values(stream, encoding="utf-8", limits=Limits())]
    assert found == [*records, 12345, -1.5, "é"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "Expecting property name"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": Infinity}', "Infinity is not JSON"),
        ('{"a": 1} x', "after the end of the value at column 9"),
        ("[" * 5000 + "]" * 5000, "nested"),
        ('{"a":' * 150 + "1" + "}" * 150, "nested deeper than 100 levels"),
        ("9" * 5000, "4300 digits"),
    ],
)
def test_a_malformed_line_is_named_or_left_out(tmp_path: Path, line: str, why: str) -> None:
    found = source(tmp_path, "a.jsonl", '{"a": 1}\n' + line + '\n{"a": 3}\n')
    with pytest.raises(Damaged, match=rf"a\.jsonl: line 2: not JSON: .*{why}"):
        list(found.pieces())
    bad: list[Any] = []
    assert [piece.text for piece in found.pieces(bad.append)] == ["a: 1", "a: 3"]
    assert [(one.uri, one.place, one.whole) for one in bad] == [("a.jsonl", "line 2", False)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"a": 1},\n {"a": }]', 2),
        ('[{"a": 1}\n {"a": 2}]', 2),
        ('[{"a": 1},\n', 2),
        ('{"a": 1,\n "b": NaN}', 1),
        ("[1]\n\n x", 3),
        ('{\n"a": 1}\n"x"', 3),
        ("", 0),
        ("[" * 3000, 1),
        ('[{"a":' + "[" * 200 + "]" * 200 + "}]", 1),
    ],
)
def test_a_broken_document_names_the_line(tmp_path: Path, text: str, line: int) -> None:
    found = source(tmp_path, "a.json", text)
    if not line:
        assert list(found.pieces()) == []
        return
    with pytest.raises(Damaged, match=rf"a\.json: line {line}: "):
        list(found.pieces())


def test_lone_surrogates_and_nuls_are_replaced(tmp_path: Path) -> None:
    (piece,) = read(tmp_path, "a.jsonl", '{"text": "a\\ud800b\\u0000c", "id": "\\udfff"}\n')
    assert (piece.text, piece.ref) == ("a\ufffdb\ufffdc", "\ufffd")


def test_rows_of_a_table_carry_their_column_names(tmp_path: Path) -> None:
    text = 'name,age,town\nAnn,31,Oslo\n"Bob\nB.",,"Rome, Italy"\n,,\nEve,7,Paris,extra\n'
    pieces = read(tmp_path, "a.csv", text)
    assert [piece.text for piece in pieces] == [
        "name: Ann; age: 31; town: Oslo",
        "name: Bob\nB.; town: Rome, Italy",
        "name: Eve; age: 7; town: Paris; extra",
    ]
    assert lines(pieces) == [(2, 2), (3, 4), (6, 6)]
    assert {piece.kind for piece in pieces} == {"row"}


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("name;age\nAnn;3\n", "name: Ann; age: 3"),
        ("name\tage\nAnn\t3\n", "name: Ann; age: 3"),
        ("1,2\n3,4\n", "1; 2"),
        ("only,header\n", "only; header"),
        ("a,a\n1,2\n", "a; a"),
    ],
)
def test_separators_and_headers_are_told(tmp_path: Path, text: str, first: str) -> None:
    assert read(tmp_path, "a.csv", text)[0].text == first


def test_a_table_of_messages_becomes_turns(tmp_path: Path) -> None:
    text = "Speaker,Text,Session,Time\nAnn,hi,s1,2023-05-08\nBob,I left yesterday,s1,2023-05-08\n"
    pieces = read(tmp_path, "a.csv", text)
    assert [(p.kind, p.speaker, p.text, p.turn, p.time_note) for p in pieces] == [
        ("turn", "Ann", "hi", 1, ""),
        ("turn", "Bob", "I left yesterday", 2, "yesterday = 2023-05-07"),
    ]


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_what_is_written_as_csv_is_read_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    import csv
    import io

    out = io.StringIO()
    csv.writer(out).writerows([("first", "second"), *rows])
    pieces = read(tmp_path, "a.csv", out.getvalue())
    assert [piece.text for piece in pieces] == [f"first: {one}; second: {two}" for one, two in rows]
