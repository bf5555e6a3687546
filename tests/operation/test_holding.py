"""Which turns stand beside each other when a question is compared with their meaning."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from memos_cli.cube.plaintext import Memories, table_of
from memos_cli.operation.holding import hold

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def turns(folder: Path, **second: object) -> list[tuple[int, int]]:
    """Three turns of one session, the second one changed: the places before and after each."""
    rows = [
        {
            "id": f"{i:020x}", "text": f"turn {i}", "near": "", "wide": "", "kind": "turn", "source": "s",
            "source_digest": "", "position": i, "session": "1", "speaker": "Ann", "words": 2, "content_key": str(i),
            "valid_from": NOW, "created_at": NOW, "updated_at": NOW, **(second if i == 1 else {}),
        }
        for i in range(3)
    ]  # fmt: skip
    memories = Memories.create(folder, embedder=None)
    memories.append(table_of(rows, embedder=None))
    before, after = hold(memories.table).rows.around
    return list(zip(before.tolist(), after.tolist(), strict=True))


def test_turns_of_a_session_stand_beside_each_other(tmp_path: Path) -> None:
    assert turns(tmp_path) == [(-1, 1), (0, 2), (1, -1)]


@pytest.mark.parametrize(
    "second",
    [
        {"sensitivity": "restricted"},
        {"owner": "bob"},
        {"read_scope": "owner"},
        {"session": "2"},
        {"state": "forgotten"},
    ],
)
def test_no_turn_is_met_by_the_meaning_of_one_it_may_not_touch(tmp_path: Path, second: dict[str, object]) -> None:
    assert turns(tmp_path, **second) == [(-1, -1)] * 3
