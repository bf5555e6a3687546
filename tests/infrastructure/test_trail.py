"""The audit trail: chained lines, two writers, torn tails, read-only cubes, and what verify finds."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, MemosError
from memos_cli.infrastructure import faults, trail
from tests.infrastructure.cubes import in_child

ACTOR = {"key": "ed25519:00", "user": "tester"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a cube."""
    folder = tmp_path / "a.cube"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def _forget_hits() -> Iterator[None]:
    faults.reset()
    yield
    faults.reset()


def add(root: Path, **fields: Any) -> Path:
    """One line in the trail of a cube."""
    values: dict[str, Any] = {"cube_id": "abc", "actor": ACTOR, "verb": "query", "version": 3, **fields}
    return trail.append(root, home=root.parent / "home", **values)


def codes(path: Path) -> list[tuple[int, str]]:
    return [(problem.line, problem.code) for problem in trail.verify(path)]


def test_a_line_says_who_did_what(root: Path) -> None:
    path = add(root, memories=["a" * 20, "b" * 20], query="where is the key?", facts={"seconds": 0.25})
    (line,) = trail.entries(path)
    assert path == root / "log" / "access.jsonl" == trail.path_of(root)
    assert (line["seq"], line["prev"]) == (0, "0" * 64)
    assert line["actor"] == ACTOR
    assert (line["verb"], line["version"], line["outcome"]) == ("query", 3, "ok")
    assert (line["memories"], line["count"]) == (["a" * 20, "b" * 20], 2)
    assert line["facts"] == {"seconds": 0.25}
    assert line["time"].endswith("Z")
    assert "where is the key?" not in path.read_text()


def test_lines_are_chained(root: Path) -> None:
    for _ in range(5):
        path = add(root)
    lines = list(trail.entries(path))
    assert [line["seq"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["prev"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert codes(path) == []


def test_ids_are_capped_and_counted(root: Path) -> None:
    (line,) = trail.entries(add(root, memories=[str(n) for n in range(500)]))
    assert len(line["memories"]) == trail.IDS_LIMIT
    assert line["count"] == 500


def test_facts_that_are_too_long_are_left_out(root: Path) -> None:
    path = add(root, facts={"text": "x" * 100_000})
    path = add(root)
    first, second = trail.entries(path)
    assert first["facts"]["left_out_bytes"] > 100_000
    assert codes(path) == []
    assert second["seq"] == 1


def test_a_query_is_a_keyed_hash_that_another_home_cannot_repeat(root: Path, tmp_path: Path) -> None:
    add(root, query="a secret")
    path = add(root, query="a secret")
    first, second = trail.entries(path)
    assert first["query"] == second["query"]
    assert first["query"].startswith("hmac-sha256:")
    assert trail.hash_query("a secret", home=tmp_path / "other") != first["query"]
    key = tmp_path / "home" / "keys" / "trail.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert os.listdir(key.parent) == ["trail.key"]


def test_a_key_of_the_wrong_size_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "keys").mkdir(parents=True)
    (tmp_path / "home" / "keys" / "trail.key").write_bytes(b"short")
    with pytest.raises(Damaged, match="expected 32 bytes"):
        add(root, query="x")


def test_odd_texts_stay_on_one_line(root: Path) -> None:
    path = add(root, facts={"text": "a\nb\u2028c\udcff\x1b[31m"}, outcome="ok\r\n")
    assert path.read_bytes().count(b"\n") == 1
    assert codes(add(root)) == []


def test_two_processes_at_once_keep_the_chain(root: Path) -> None:
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(60):
                    add(root)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    path = trail.path_of(root)
    assert len(list(trail.entries(path))) == 180
    assert codes(path) == []


@pytest.mark.parametrize("point", faults.TRAIL_POINTS)
def test_a_kill_while_writing_is_healed_by_the_next_line(
    point: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(root)
    with monkeypatch.context() as patch:
        patch.setenv(faults.VARIABLE, f"{point}:kill")
        assert in_child(lambda: add(root)) == signal.SIGKILL
    path = trail.path_of(root)
    torn = point == "trail_half"
    assert [code for _, code in codes(path)] == (["torn"] if torn else [])
    add(root)
    lines = list(trail.entries(path))
    assert codes(path) == []
    assert len(lines) == (2 if torn else 3)
    assert ("healed" in lines[-1]) == torn
    if torn:
        assert lines[-1]["healed"]["reason"] == "torn"


@pytest.mark.parametrize("durable", [False, True])
def test_a_full_disk_takes_the_line_back(durable: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = add(root)
    before = path.read_bytes()
    monkeypatch.setenv(faults.VARIABLE, "trail_half:enospc")
    if durable:
        with pytest.raises(MemosError, match="cannot be written"):
            add(root, durable=True)
    else:
        add(root)
    assert path.read_bytes() == before


def test_a_torn_first_line_and_an_empty_file_are_healed(root: Path) -> None:
    path = trail.path_of(root)
    path.parent.mkdir()
    path.write_bytes(b'{"actor"')
    add(root)
    (line,) = trail.entries(path)
    assert (line["seq"], line["healed"]) == (0, {"reason": "torn", "bytes": 8})
    path.write_bytes(b"")
    add(root)
    assert codes(path) == []


@pytest.mark.parametrize("size", [10, 5_000, 70_000])
def test_a_last_line_that_cannot_be_read_is_chained_over_and_named(root: Path, size: int) -> None:
    path = add(root)
    with path.open("ab") as stream:
        stream.write(b"x" * size + b"\n")
    add(root)
    add(root)
    assert codes(path) == [(2, "unreadable")]
    assert [line["seq"] for line in trail.entries(path)] == [0, 2, 3]


def test_every_edit_removal_and_insertion_is_found(root: Path) -> None:
    for number in range(5):
        path = add(root, facts={"n": number})
    lines = path.read_bytes().splitlines(keepends=True)

    def codes_of(changed: list[bytes]) -> set[str]:
        path.write_bytes(b"".join(changed))
        return {code for _, code in codes(path)}

    assert codes_of(lines) == set()
    assert codes_of([lines[0], lines[1].replace(b'"n":1', b'"n":7'), *lines[2:]]) == {"edited"}
    assert "chain" in codes_of([lines[0], *lines[2:]])
    assert "chain" in codes_of(lines[1:])
    assert "chain" in codes_of([lines[0], lines[2], lines[1], *lines[3:]])
    assert "chain" in codes_of([*lines[:2], lines[1], *lines[2:]])
    assert codes_of(lines[:-1]) == set()


def test_every_changed_byte_of_a_line_is_found(root: Path) -> None:
    add(root, memories=["a" * 20])
    path = add(root)
    whole = path.read_bytes()
    first = whole.index(b"\n")
    for place in range(0, first + 1, 7):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert codes(path), f"byte {place}"


def test_a_line_without_its_own_fields_does_not_stop_verify(root: Path) -> None:
    path = add(root)
    with path.open("ab") as stream:
        stream.write(b'{"seq":"x","hash":"' + b"0" * 64 + b'"}\n[1]\n' + b"[" * 100_000 + b"\n")
    assert {code for _, code in codes(path)} == {"edited", "chain", "order", "unreadable"}
    add(root)


@pytest.mark.parametrize("cube_id", ["abc-1", "../../etc/x", "a/b", "", "x" * 300, "\udcff"])
def test_a_cube_that_cannot_be_written_is_logged_in_the_home(root: Path, cube_id: str) -> None:
    root.chmod(0o555)
    try:
        path = add(root, cube_id=cube_id)
    finally:
        root.chmod(0o755)
    assert os.listdir(root) == []
    assert path.parent == root.parent / "home" / "log"
    assert path == trail.home_path(root.parent / "home", cube_id)
    assert len(list(trail.entries(path))) == 1


def test_a_link_in_the_place_of_the_trail_is_not_followed(root: Path, tmp_path: Path) -> None:
    (root / "log").mkdir()
    (tmp_path / "victim").write_text("mine")
    (root / "log" / "access.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(MemosError, match="cannot be written"):
        add(root)
    assert (tmp_path / "victim").read_text() == "mine"


def test_an_absent_trail_has_no_lines_and_no_problems(tmp_path: Path) -> None:
    assert list(trail.entries(tmp_path / "none")) == []
    assert list(trail.verify(tmp_path / "none")) == []


def test_appending_takes_the_same_time_whatever_came_before(root: Path) -> None:
    path = add(root)
    line = path.read_bytes()
    path.write_bytes(line * 100_000)
    seconds = []
    for _ in range(20):
        begin = time.perf_counter()
        add(root)
        seconds.append(time.perf_counter() - begin)
    assert sorted(seconds)[10] < 0.01


def test_the_tail_is_found_behind_a_long_line(root: Path) -> None:
    add(root, facts={"text": "x" * 20_000})
    path = add(root, facts={"text": "y" * 20_000})
    add(root)
    assert codes(path) == []
    assert json.loads(path.read_bytes().splitlines()[-1])["seq"] == 2
