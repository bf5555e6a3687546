"""The links table: what is read is what was written, and what cannot be is damage."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_cli.cube import arrow, links
from memos_cli.cube.links import Link
from memos_cli.errors import Damaged


def test_links_are_read_as_they_were_written(tmp_path: Path) -> None:
    moments = (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(2026, 2, 28, 1, 2, 3, 4, UTC))
    made = [Link("a", str(i), "mentions", "Ana", 0.5, "ingest", moment) for i, moment in enumerate(moments)]
    (tmp_path / links.FILE).write_bytes(links.encode(reversed(made)))
    assert links.read(tmp_path) == made
    assert links.read(tmp_path, ids={"1"}) == made[1:]
    assert links.read(tmp_path, kind="contradicts") == []


@pytest.mark.parametrize("moment", [None, 1 << 62])
def test_a_link_without_a_moment_is_damage(moment: int | None, tmp_path: Path) -> None:
    import pyarrow as pa

    row = ("a", "b", "mentions", "", 1.0, "ingest", moment)
    columns = [pa.array([value], field.type) for value, field in zip(row, links.schema(), strict=True)]
    table = pa.Table.from_arrays(columns, schema=links.schema())
    (tmp_path / links.FILE).write_bytes(arrow.encode(table))
    with pytest.raises(Damaged, match=r"links\.arrow"):
        links.read(tmp_path)
