"""Probes: strict rows, read by what they are, and gone with their memories."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa  # noqa: TID253  # tables that no writer makes
import pytest

from memos_cli.cube import lance, probes
from memos_cli.cube.probes import Probe
from memos_cli.errors import Damaged, Usage

WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)
A, B = "1fadeb599750299af612", "2fadeb599750299af612"


def probe(memory: str = A, number: int = 1, **fields: Any) -> Probe:
    values = {
        "memory_id": memory, "question": f"What is the code number {number}?", "answer": "4711", "kind": "template",
        "split": "train", "created": WHEN,
    }  # fmt: skip
    return Probe(**{**values, **fields})


ALL = [
    probe(),
    probe(number=2, split="dev", kind="cloze", evidence="The code is 4711."),
    probe(number=3, split="test", adapter="facts"),
    probe(B, answer='on Tuesday, he said: "it\'s"', split="test", content="sha256:" + "ab" * 32),
    probe("", question="What is the code of nothing?", answer="unknown", kind="decoy", split="test"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "plaintext"
    place.mkdir()
    return place


def test_what_is_added_is_read_by_what_it_is(directory: Path) -> None:
    assert probes.read(directory) == []
    assert probes.append(directory, ALL[:2]) == 2
    assert probes.append(directory, ALL) == 3
    assert probes.append(directory, ALL) == 0
    assert probes.read(directory) == ALL
    assert probes.count(directory) == 5
    assert probes.read(directory, split="test") == ALL[2:]
    assert probes.read(directory, split="test", kind="template") == [ALL[2], ALL[3]]
    assert probes.read(directory, memory_ids=[B]) == [ALL[3]]
    assert probes.read(directory, memory_ids=[]) == []
    assert probes.read(directory, adapter="facts", memory_ids=[A]) == ALL[:3]
    assert probes.read(directory, adapter="other", memory_ids=[A]) == ALL[:2]
    assert probes.memory_ids(directory) == {A, B}
    assert list(probes.faults(directory)) == []


def test_a_table_is_one_of_lance_that_other_programs_open(directory: Path) -> None:
    probes.append(directory, ALL)
    table = lance.load().connect(str(directory)).open_table("probes")
    assert table.schema.names == probes.schema().names
    assert table.count_rows() == 5


def words_in(directory: Path, word: bytes) -> list[str]:
    return [path.name for path in directory.rglob("*") if path.is_file() and word in path.read_bytes()]


def test_what_goes_is_gone_from_the_files(directory: Path) -> None:
    probes.append(directory, [*ALL, probe(B, 9, question="Where is the sapphire?", answer="sapphire-hoard")])
    assert words_in(directory, b"sapphire-hoard")
    assert probes.delete(directory, memory_ids=[B]) == 2
    assert words_in(directory, b"sapphire-hoard") == []
    assert probes.read(directory) == [ALL[0], ALL[1], ALL[2], ALL[4]]
    assert probes.delete(directory, memory_ids=[B]) == 0
    assert probes.delete(directory, adapters=["facts"]) == 1
    assert probes.delete(directory, memory_ids=[A]) == 2
    assert probes.read(directory) == [ALL[4]]
    assert [path.name for path in directory.iterdir()] == ["probes.lance"]


def test_when_all_go_there_is_no_table(directory: Path) -> None:
    probes.append(directory, ALL[:3])
    assert probes.delete(directory, memory_ids=[A, ""]) == 3
    assert list(directory.iterdir()) == []
    probes.append(directory, ALL[:1])
    assert probes.read(directory) == ALL[:1]


@pytest.mark.parametrize(
    "fields",
    [
        {"question": " "}, {"answer": ""}, {"split": "validation"}, {"kind": "Odd kind"}, {"memory_id": "a'b"},
        {"adapter": "../x"}, {"content": "abc"}, {"question": "x" * 9000}, {"kind": ""},
    ],
    ids=str,
)  # fmt: skip
def test_what_could_not_be_read_again_is_not_added(directory: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(Usage):
        probes.append(directory, [probe(), replace(probe(), **fields)])
    assert probes.read(directory) == []


def test_quotes_in_what_is_asked_for_are_no_sql(directory: Path) -> None:
    probes.append(directory, ALL)
    assert probes.read(directory, split="test' or '1' = '1") == []
    assert len(probes.read(directory, adapter="x') or ('1' = '1")) == 4


def test_another_schema_is_refused(directory: Path) -> None:
    lance.create_table(directory, "probes", schema=pa.schema([*probes.schema(), ("more", pa.string())]))
    with pytest.raises(Damaged, match="columns"):
        probes.read(directory)


def test_rows_that_no_writer_makes_are_told(directory: Path) -> None:
    probes.append(directory, ALL[:1])
    table = lance.open_table(directory, "probes")
    good = table.search().to_arrow().to_pylist()[0]
    bad = [{**good, "split": "odd"}, {**good, "answer": "4712"}, {**good, "answer": None}, good]
    table.add(pa.Table.from_pylist(bad, schema=probes.schema()))
    assert [wrong.split()[0:2] for _, wrong in probes.faults(directory)] == [
        ["has", "the"], ["has", "another"], ["has", "no"], ["is", "in"]
    ]  # fmt: skip
