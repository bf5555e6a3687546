"""Sources that are back after they were dropped: found however many there are, each memory with an id of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube.piece import Piece
from memos_cli.cube.plaintext import Memories
from memos_cli.cube.sources import Catalogue
from memos_cli.operation.ingest import LOOKS, Ingest
from memos_cli.operation.marking import Marks

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Line:
    """A source of one line."""

    uri: str
    format: str = "text"
    title: str = "line"
    size: int = 10

    def digest(self) -> str:
        return f"sha256:{self.uri}"

    def pieces(self, on_bad: Any = None, on_notice: Any = None) -> Iterator[Piece]:
        yield Piece(text=f"words of {self.uri}", kind="paragraph")


def run(memories: Memories, catalogue: Catalogue) -> Ingest:
    return Ingest(memories, None, Marks(), NOW, catalogue)


@pytest.mark.many(2)
@pytest.mark.parametrize("count", [1, LOOKS, LOOKS + 1, 2 * LOOKS + 1])
def test_sources_that_are_back_are_known(tmp_path: Path, count: int) -> None:
    memories, catalogue = Memories.create(tmp_path, embedder=None), Catalogue()
    lines = [Line(f"{number}.txt") for number in range(count)]
    first = run(memories, catalogue)
    assert [first.take(line).status for line in lines] == ["added"] * count
    dropping = run(memories, catalogue)
    for line in lines:
        dropping.drop(line.uri)
    again = run(memories, catalogue)
    for line in [*lines, Line("new.txt")]:
        assert again.take(line).added == 1
    rows = memories.rows()
    assert rows.num_rows == len(set(rows["id"].to_pylist())) == 2 * count + 1
    assert memories.count("valid_to is null") == count + 1
