"""Format versions: newer ones are refused, the draft layout is read, and its files are put aside, not deleted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import migrate
from memos_cli.errors import Damaged, NotFound
from memos_cli.infrastructure import vault
from tests.infrastructure.cubes import STAMP, content, fill

ROWS = [
    {"id": "a", "text": "Sam likes tea.", "source": "notes.md", "created": "2025-03-01T10:00:00Z"},
    {"id": "b", "text": "Ünal moved to Köln.", "source": "", "created": None},
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A cube in the draft layout."""
    root = tmp_path / "old.cube"
    root.mkdir()
    (root / "memcube.toml").write_text('format_version = 0\nname = "old"\ncreated = 2025-01-01T00:00:00Z\n')
    (root / "memories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return root


@pytest.mark.parametrize("found", [None, "1", 1.0, -1, True, [1]])
def test_what_is_no_format_version_is_refused(found: Any) -> None:
    with pytest.raises(Damaged, match="expected a format version"):
        migrate.check_format(found)


def test_newer_is_refused_with_an_upgrade_and_older_with_a_migration() -> None:
    assert migrate.check_format(migrate.FORMAT_VERSION) == migrate.FORMAT_VERSION
    with pytest.raises(Damaged, match="made by a newer memos") as newer:
        migrate.check_format(migrate.FORMAT_VERSION + 1)
    assert newer.value.hint == "pip install --upgrade memos"
    with pytest.raises(Damaged, match="older") as older:
        migrate.check_format(0)
    assert older.value.hint == "memos migrate CUBE"


def test_every_older_format_has_a_reader() -> None:
    assert sorted(migrate.READERS) == list(range(migrate.FORMAT_VERSION))


def test_the_draft_layout_is_read(old: Path) -> None:
    assert migrate.find_format(old) == 0
    metadata, rows = migrate.read_older(old)
    created = datetime(2025, 1, 1, tzinfo=UTC)
    assert metadata == {"format_version": 0, "name": "old", "description": "", "created": created}
    found = list(rows)
    assert [row["text"] for row in found] == ["Sam likes tea.", "Ünal moved to Köln."]
    assert [row["created"] for row in found] == [datetime(2025, 3, 1, 10, tzinfo=UTC), None]


def test_opening_the_draft_layout_names_the_migration(old: Path) -> None:
    with pytest.raises(Damaged, match="older format") as caught:
        vault.versions(old)
    assert caught.value.hint == f"memos migrate {old}"


def test_nothing_to_migrate_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        migrate.read_older(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "null",
        '{"id":"x"}',
        '{"id":"x","text":""}',
        '{"id":"x","text":7}',
        '{"id":"a","text":"again","source":""}',
        '{"id":"x","text":"t","created":"yesterday"}',
        '{"id":"x","text":"t","created":5}',
        '{"id":"x","text":"t","extra":1}',
        "[" * 100_000,
    ],
)
def test_a_malformed_row_is_named_by_its_line(old: Path, line: str) -> None:
    with (old / "memories.jsonl").open("a") as stream:
        stream.write(f"\n{line}\n")
    _, rows = migrate.read_format_0(old)
    with pytest.raises(Damaged, match=r"memories\.jsonl:4"):
        list(rows)


@pytest.mark.parametrize("text", ["format_version = 1\n", "name = 5\n", "created = 'x'\n", "not toml", "name = "])
def test_malformed_metadata_is_refused(old: Path, text: str) -> None:
    (old / "memcube.toml").write_text(text)
    with pytest.raises(Damaged):
        migrate.read_format_0(old)


def test_a_line_that_is_too_long_is_refused(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LINE_LIMIT_BYTES", 50)
    _, rows = migrate.read_format_0(old)
    with pytest.raises(Damaged, match="at most 50 bytes"):
        list(rows)


def test_the_old_files_are_the_cube_until_the_new_one_is_there_and_are_kept_after(old: Path) -> None:
    before = {name: (old / name).read_bytes() for name in migrate.FORMAT_0_FILES}
    with pytest.raises(Damaged, match="not been migrated"):
        migrate.set_aside(old)
    with pytest.raises(ValueError, match="cut short"):
        vault.create(old, stamp=STAMP, write=_fail, beside=migrate.FORMAT_0_FILES)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    vault.create(old, stamp=STAMP, write=lambda tree: fill(tree, 1), beside=migrate.FORMAT_0_FILES)
    assert migrate.find_format(old) == migrate.FORMAT_VERSION
    assert migrate.set_aside(old) == ["memcube.toml", "memories.jsonl"]
    assert migrate.set_aside(old) == []
    assert {path.name: path.read_bytes() for path in (old / "before-migration").iterdir()} == before
    assert content(old)["memcube.toml"] == b"1" * 700


def _fail(tree: Path) -> None:
    raise ValueError("cut short")
