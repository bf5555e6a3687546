"""What the access log tells of uses: one record for each query, none lost, none made up."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memos_cli.infrastructure import trail, uses
from memos_cli.interface import api
from tests.conftest import Memos

ACTOR = {"key": "ed25519:0", "user": "ana"}


@pytest.fixture
def cube(work: Path, memos: Memos) -> str:
    (work / "a.md").write_text("- The badge opens the gate.\n- The alarm rings at ten.\n")
    assert memos("ingest", "a.cube", "a.md", "--embedder", "none").code == 0
    return "a.cube"


def records(home: Path) -> list[uses.Access]:
    return uses.accesses(uses.paths_of(Path("a.cube"), home=home, cube_id="x"))


def test_a_query_leaves_one_record_and_no_version(cube: str, home: Path) -> None:
    before = os.readlink("a.cube/current")
    found = api.query(cube, "who opens the gate?")
    (record,) = records(home)
    assert record.found == tuple(hit.id for hit in found.hits)
    assert record.ranks == tuple(hit.rank for hit in found.hits)
    assert (record.given, record.stored) == ((), ())
    assert record.seconds > 0
    assert record.prompt.startswith("hmac-sha256:")
    assert os.readlink("a.cube/current") == before


def test_an_answer_says_what_was_given_and_what_was_not_read(cube: str, home: Path) -> None:
    api.convert(cube)
    answered = api.answer(cube, "what does the badge open?")
    (record,) = records(home)
    assert record.given == tuple(hit.id for hit in answered.hits)
    assert record.stored == tuple(one.id for one in answered.forms if one.form == "activation")
    assert record.stored
    assert record.tokens == answered.prompt_tokens > 0


@pytest.mark.long
def test_two_who_ask_at_once_lose_nothing(cube: str, home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: api.query(cube, f"gate {number}"), range(24)))
    assert len(records(home)) == 24
    assert not list(trail.verify(Path("a.cube/log/access.jsonl")))


@pytest.mark.parametrize(
    "facts",
    [
        {"injected": 7, "ranks": "first", "tokens": [], "seconds": {}, "activation": None},
        {"injected": [1, None, "m1"], "ranks": [1, "2"], "tokens": True, "seconds": "soon"},
        {"seconds": float("inf"), "tokens": -1e400},
    ],
)
def test_odd_facts_are_left_out(facts: dict[str, object], tmp_path: Path, home: Path) -> None:
    path = trail.append(
        tmp_path, home=home, cube_id="x", actor=ACTOR, verb="query", version=1, memories=["m1", "m2"], facts=facts
    )
    (record,) = uses.accesses([path])
    assert record.found == ("m1", "m2")
    assert record.ranks == (1, 2)
    assert record.given in ((), ("m1",))
    assert (record.tokens, record.seconds) == (0, 0.0)


def test_what_is_no_use_is_none(tmp_path: Path, home: Path) -> None:
    options = {"home": home, "cube_id": "x", "actor": ACTOR, "version": 1, "memories": ["m1"]}
    trail.append(tmp_path, verb="show", **options)  # type: ignore[arg-type]
    trail.append(tmp_path, verb="query", outcome="denied", **options)  # type: ignore[arg-type]
    path = trail.append(tmp_path, verb="query", **options)  # type: ignore[arg-type]
    with path.open("ab") as file:
        file.write(b"not a line\n" + json.dumps({"verb": "query", "outcome": "ok"}).encode() + b"\n")
    assert len(uses.accesses([path])) == 1
    assert {one: count for one, (count, _) in uses.read([path]).items()} == {"m1": 1}


def test_a_log_that_grew_is_read_on_and_one_that_is_another_is_read_anew(tmp_path: Path, home: Path) -> None:
    options = {"home": home, "cube_id": "x", "actor": ACTOR, "verb": "query", "version": 1}
    path = trail.append(tmp_path, memories=["m1"], **options)  # type: ignore[arg-type]
    assert counted(path) == {"m1": 1}
    trail.append(tmp_path, memories=["m1", "m2"], **options)  # type: ignore[arg-type]
    assert counted(path) == counted(path) == {"m1": 2, "m2": 1}
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole.splitlines()[0][:40])
    # half a line is no use, and does not keep the next whole one from being read
    assert counted(path) == {"m1": 2, "m2": 1}
    trail.append(tmp_path, memories=["m3"], **options)  # type: ignore[arg-type]
    assert counted(path) == {"m1": 2, "m2": 1, "m3": 1}
    # the same file with other lines in it, longer or shorter
    other = trail.append(tmp_path / "other", memories=["m4"] * 1, **options)  # type: ignore[arg-type]
    for _ in range(9):
        trail.append(tmp_path / "other", memories=["m4"], **options)  # type: ignore[arg-type]
    path.write_bytes(other.read_bytes())
    assert counted(path) == {"m4": 10}
    path.write_bytes(whole)
    assert counted(path) == {"m1": 2, "m2": 1}
    path.write_bytes(b"")
    assert counted(path) == {}
    path.unlink()
    assert counted(path) == {}


def test_a_log_that_was_put_aside_is_read_with_the_new_one(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"home": home, "cube_id": "x", "actor": ACTOR, "verb": "query", "version": 1, "memories": ["m1"]}
    path = trail.append(tmp_path, **options)  # type: ignore[arg-type]
    assert counted(path) == {"m1": 1}
    monkeypatch.setattr(trail, "ROTATE_BYTES", 1)
    trail.append(tmp_path, **options)  # type: ignore[arg-type]
    assert len(trail.segments(path)) == 1
    assert counted(path) == {"m1": 2}


def counted(path: Path) -> dict[str, int]:
    return {one: count for one, (count, _) in uses.read([path]).items()}
