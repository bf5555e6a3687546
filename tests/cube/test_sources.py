"""The catalogue of sources: what was read stays as it was read, what is touched is written, and order holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube import sources
from memos_cli.cube.sources import FILE, Catalogue, SourceState, column, encode, read
from memos_cli.errors import Damaged

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MANY = 100  # more than are made into states at a time


def state(number: int, *, memories: int = 1) -> SourceState:
    return SourceState(f"{number}.md", f"sha256:{number}", "markdown", "é", number, memories, NOW + timedelta(number))


def states(count: int) -> dict[str, SourceState]:
    return {each.uri: each for each in map(state, range(count))}


@pytest.fixture
def kept(tmp_path: Path) -> Catalogue:
    (tmp_path / FILE).write_bytes(encode(states(MANY)))
    return read(tmp_path)


def test_what_was_written_is_read(kept: Catalogue) -> None:
    assert dict(kept) == states(MANY)
    assert list(kept) == list(states(MANY))
    assert kept["77.md"] == state(77)
    assert column(kept, "size_bytes") == column(states(MANY), "size_bytes") == list(range(MANY))


def test_there_may_be_none(tmp_path: Path) -> None:
    assert len(read(tmp_path)) == 0
    assert encode(Catalogue()) == encode({})


def test_a_file_that_is_something_else_is_damaged(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no Arrow")
    with pytest.raises(Damaged, match="does not read as an Arrow file"):
        read(tmp_path)


def test_a_copy_is_equal_until_one_of_them_differs(kept: Catalogue) -> None:
    twin = kept.copy()
    assert twin == kept
    twin["5.md"] = replace(twin["5.md"])
    assert twin == kept  # said again, and the same
    twin["5.md"] = state(5, memories=9)
    assert twin != kept
    assert kept["5.md"] == state(5)
    gone = kept.copy()
    del gone["5.md"]
    assert gone != kept


def test_few_states_are_made_when_few_are_touched(kept: Catalogue) -> None:
    kept["new.md"] = replace(state(0), uri="new.md")
    del kept["3.md"]
    assert kept["4.md"] == state(4)
    encode(kept)
    assert sum(map(len, kept._made.values())) == sources._BLOCK_ROWS


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["set", "del", "again"]), st.integers(0, 50)), max_size=12))
def test_whatever_is_done_the_bytes_are_those_of_the_plain_states(changes: list[tuple[str, int]]) -> None:
    plain = states(40)
    catalogue = Catalogue(Catalogue(None).table().schema.empty_table())
    catalogue.update(plain)
    catalogue = Catalogue(catalogue.table())
    for what, number in changes:
        uri = f"{number}.md"
        for each in (plain, catalogue):
            if what == "set" or (what == "again" and uri not in each):
                each[uri] = state(number, memories=7)
            elif what == "again":
                each[uri] = each.pop(uri)
            else:
                each.pop(uri, None)
    assert list(catalogue) == list(plain)
    assert column(catalogue, "memories") == column(plain, "memories")
    assert encode(catalogue) == encode(plain)
    assert dict(catalogue) == plain
