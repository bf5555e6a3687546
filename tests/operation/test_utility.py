"""Whether memories helped: gains folded into a bounded value, and what that is worth in a ranking."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.infrastructure import trail
from memos_cli.infrastructure.uses import accesses
from memos_cli.operation import holding, indicators
from memos_cli.operation.recall import Recalled, Scoped, recall
from memos_cli.operation.utility import LARGEST, WEIGHT, fold
from tests.cube.rows import make_table, turn

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_gains_are_folded_into_a_value_that_has_to_be_earned() -> None:
    once, often = fold([{"a": 2.0}]), fold([{"a": 2.0}] * 20)
    assert 0 < once["a"] < often["a"] < 1
    assert fold([{"a": -2.0}] * 20)["a"] == -often["a"]
    assert fold([{"a": 1.0}, {"a": -1.0}])["a"] == 0
    assert fold([{"a": 1e9}]) == fold([{"a": LARGEST}])
    assert fold([]) == {}


@pytest.fixture
def table(tmp_path: Path) -> list[Scoped]:
    texts = ["the boiler hums at night", "the boiler hums by day", "bins go out on Tuesday"]
    rows = [turn(n, "", text, kind="paragraph", session="") for n, text in enumerate(texts)]
    holding.let_go()
    return [Scoped("t", make_table(tmp_path, rows).table)]


def ids(told: Recalled) -> list[int]:
    return [int(hit.id, 16) for hit in told.hits]


def test_what_helped_stands_a_little_higher_and_no_more(table: list[Scoped], monkeypatch: pytest.MonkeyPatch) -> None:
    question: dict[str, Any] = {"text": "the boiler hums", "now": NOW}
    assert ids(recall(table, **question))[:2] == [0, 1]
    helped = {f"{1:020x}": 0.9, f"{2:020x}": 1.0, "no-such": 1.0}
    told = recall(table, **question, helped=helped)
    assert ids(told)[:2] == [1, 0]
    assert told.hits[0].signals["use"] == pytest.approx(0.9 * WEIGHT)
    assert ids(recall(table, **question, helped={f"{0:020x}": -1.0}))[:2] == [1, 0]
    assert ids(recall(table, text="bins", now=NOW, helped={f"{0:020x}": 1.0}))[0] == 2
    monkeypatch.setattr(holding, "HELD_ROWS", 1)
    holding.let_go()
    assert ids(recall(table, **question, helped=helped))[:2] == [1, 0]
    holding.let_go()


@pytest.mark.parametrize(
    "gains", [{"a": "x", "b": True, "c": float("nan"), "d": float("inf")}, [1], None, {"a": [1]}, "a", 3]
)
def test_what_a_log_says_of_gains_is_read_with_suspicion(gains: object, tmp_path: Path) -> None:
    options: dict[str, Any] = {"home": tmp_path, "cube_id": "x", "actor": {"key": "ed25519:0", "user": "ana"}}
    trail.append(tmp_path, verb="query", version=1, memories=["a"], facts={"gains": gains}, **options)
    path = trail.append(tmp_path, verb="query", version=1, memories=["a"], facts={"gains": {"a": 1.5}}, **options)
    found = accesses([path])
    assert [dict(one.gains) for one in found] == [{}, {"a": 1.5}]
    assert set(indicators.utility(found)) == {"a"}
