"""query --answer --measure-use notes what each memory did for an answer, and --by-use ranks by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Memos

TOWN = "What is the home town of Ana?"


@pytest.fixture
def notes(work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("MEMOS_MODEL", "MEMOS_RUNTIME", "MEMOS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (work / "n.md").write_text("- The home town of Ana is Lindau.\n- The home town of Bo is Ghent.\n- Ana likes tea.\n")
    assert memos("ingest", "n.cube", "n.md", "--embedder", "none").code == 0
    return "n.cube"


def last(cube: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((Path(cube) / "log" / "access.jsonl").read_text().splitlines()[-1])["facts"]
    return facts


def test_the_memory_with_the_answer_gains_most(notes: str, memos: Memos) -> None:
    done = memos("query", notes, TOWN, "--answer", "-k", "3", "--measure-use")
    assert done.lines[0] == "Lindau"
    gains = last(notes)["gains"]
    best = max(gains, key=lambda one: gains[one])
    assert "Lindau" in memos("show", notes, best).out
    assert gains[best] > 0.5
    assert all(gain < gains[best] / 2 for one, gain in gains.items() if one != best)
    told = memos("query", notes, TOWN, "--by-use", "--json").json["hits"]
    assert told[0]["id"] == best
    assert 0 < told[0]["signals"]["use"] <= 0.5
    assert "use" not in memos("query", notes, TOWN, "--json").json["hits"][0]["signals"]


@pytest.mark.long
def test_nothing_is_measured_unless_asked(notes: str, memos: Memos) -> None:
    memos("query", notes, TOWN, "--answer")
    assert "gains" not in last(notes)
    memos("query", notes, "what is the airspeed of a swallow?", "--answer", "--measure-use", "--floor", "1")
    assert "gains" not in last(notes)
    assert memos("query", notes, TOWN, "--measure-use").code == 2
    same = memos("query", notes, TOWN, "--by-use", "--json").json["hits"]
    assert [hit["id"] for hit in same] == [hit["id"] for hit in memos("query", notes, TOWN, "--json").json["hits"]]
