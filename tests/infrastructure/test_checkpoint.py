"""Rotation of the access log, signed checkpoints, and that every edit, deletion and truncation is found."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.errors import Damaged
from memos_cli.infrastructure import checkpoint, faults, trail, vault
from memos_cli.operation.audit_log import against
from tests.infrastructure.cubes import STAMP, commit, fill, in_child, make

ACTOR = {"key": "ed25519:00", "user": "tester"}


@pytest.fixture(autouse=True)
def _forget_hits() -> Iterator[None]:
    faults.reset()
    yield
    faults.reset()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cube of three versions with nine lines in its log."""
    root = tmp_path / "a.cube"
    make(root, commits=2)
    for number in range(9):
        add(root, facts={"n": number})
    return root


def home_of(root: Path) -> Path:
    return root.parent / "home"


def add(root: Path, **fields: Any) -> Path:
    values: dict[str, Any] = {"cube_id": "abc", "actor": ACTOR, "verb": "query", "version": 3, **fields}
    return trail.append(root, home=home_of(root), **values)


def codes(root: Path) -> list[str]:
    return [problem.code for problem in trail.verify(trail.path_of(root))]


def compared(root: Path, before: checkpoint.Checkpoint) -> list[str]:
    found = against(root, before, trusted={before.key}, place="checkpoint.json")
    return [finding.code for finding in found if finding.severity != "notice"]


def test_a_large_log_is_put_aside_and_the_chain_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "ROTATE_BYTES", 1500)
    for number in range(30):
        path = add(root, facts={"n": 9 + number}, durable=number % 7 == 0)
    assert len(trail.segments(path)) > 3
    assert [line["facts"]["n"] for line in trail.entries(path)] == list(range(39))
    assert [line["seq"] for line in trail.entries(path)] == list(range(39))
    assert codes(root) == []
    assert trail.head(path)[0] == 39
    os.unlink(trail.segments(path)[1])
    assert {"chain", "order"} <= set(codes(root))


def test_the_first_file_that_is_gone_is_missed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "ROTATE_BYTES", 1500)
    path = add(root)
    add(root)
    os.unlink(trail.segments(path)[0])
    assert set(codes(root)) == {"chain", "order"}


def test_processes_that_write_while_it_is_put_aside_keep_the_chain(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "ROTATE_BYTES", 2000)
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(40):
                    add(root)
            finally:
                os._exit(0)
        pids.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    assert len(list(trail.entries(trail.path_of(root)))) == 129
    assert codes(root) == []


def test_a_kill_between_two_files_loses_no_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "ROTATE_BYTES", 1500)
    with monkeypatch.context() as patch:
        patch.setenv(faults.VARIABLE, "trail_rotated:kill")
        assert in_child(lambda: add(root)) == signal.SIGKILL
    assert not trail.path_of(root).exists()
    assert trail.head(trail.path_of(root))[0] == 9
    add(root)
    assert [line["seq"] for line in trail.entries(trail.path_of(root))] == list(range(10))
    assert codes(root) == []


def test_a_checkpoint_is_of_the_version_and_the_end_of_the_log(root: Path) -> None:
    made = checkpoint.make(root, home=home_of(root))
    assert made.is_signed
    assert (made.version, made.lines) == (3, 9)
    assert made.head == list(trail.entries(trail.path_of(root)))[-1]["hash"]
    assert checkpoint.decode(checkpoint.encode(made), place="x") == made


def test_what_is_added_later_agrees_with_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoint.make(root, home=home_of(root))
    assert compared(root, before) == []
    monkeypatch.setattr(trail, "ROTATE_BYTES", 1500)
    for _ in range(20):
        add(root)
    commit(root)
    assert compared(root, before) == []
    for _ in range(12):
        commit(root, keep=2)
    assert compared(root, before) == []


def test_a_checkpoint_that_was_changed_is_refused(root: Path) -> None:
    before = checkpoint.make(root, home=home_of(root))
    for changed in (
        replace(before, lines=4), replace(before, head="0" * 64), replace(before, version=1),
        replace(before, cube_id="x" * 32), replace(before, key="ed25519:" + "0" * 32),
        replace(before, signature="00" * 64), replace(before, public_key="zz"),
    ):  # fmt: skip
        assert compared(root, changed) == ["checkpoint-signature"]
    other = checkpoint.make(root, home=root.parent / "somebody")
    (finding,) = against(root, other, trusted={before.key}, place="x")
    assert (finding.severity, finding.code) == ("warning", "checkpoint-signer")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[1]", b'{"format":"memos-checkpoint-1"}', b"[" * 100_000, b"\xff" * 70_000]
)
def test_what_is_no_checkpoint_is_refused(text: bytes) -> None:
    with pytest.raises(Damaged, match="expected"):
        checkpoint.decode(text, place="x")


def test_fields_of_another_type_are_refused(root: Path) -> None:
    made = json.loads(checkpoint.encode(checkpoint.make(root, home=home_of(root))))
    for name, value in (("lines", "9"), ("lines", True), ("version", -1), ("head", None), ("extra", 1)):
        with pytest.raises(Damaged):
            checkpoint.decode(json.dumps({**made, name: value}).encode(), place="x")


@pytest.mark.parametrize("left", range(9))
def test_every_truncation_is_found_against_a_checkpoint(root: Path, left: int) -> None:
    before = checkpoint.make(root, home=home_of(root))
    path = trail.path_of(root)
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:left]))
    assert codes(root) == []  # the chain alone does not see it
    assert compared(root, before) == ["log-truncated"]
    for _ in range(12):
        add(root)  # nor once new lines stand where the old ones did
    assert codes(root) == []
    assert compared(root, before) == ["log-rewritten"]


def test_a_folder_that_was_put_back_to_an_earlier_day_is_found(root: Path) -> None:
    shutil.copytree(root, root.parent / "old", symlinks=True)
    commit(root)
    add(root)
    before = checkpoint.make(root, home=home_of(root))
    shutil.rmtree(root)
    shutil.copytree(root.parent / "old", root, symlinks=True)
    assert compared(root, before) == ["log-truncated", "version-behind"]


def test_another_history_of_as_many_versions_is_found(root: Path) -> None:
    shutil.copytree(root, root.parent / "old", symlinks=True)
    commit(root)
    before = checkpoint.make(root, home=home_of(root))
    shutil.rmtree(root)
    shutil.copytree(root.parent / "old", root, symlinks=True)
    for _ in range(2):
        with vault.draft(root, stamp=replace(STAMP, reason="another one")) as draft:
            fill(draft.path, 40)
            draft.commit()
    assert compared(root, before) == ["version-rewritten"]


def test_a_checkpoint_of_another_cube_is_told(root: Path, tmp_path: Path) -> None:
    make(tmp_path / "b.cube", commits=3)
    before = checkpoint.make(tmp_path / "b.cube", home=home_of(root))
    assert "checkpoint-cube" in compared(root, before)


# What can be done to a log of nine lines: each gives other bytes.
def _edited(lines: list[bytes], seed: int) -> list[bytes]:
    rng = random.Random(seed)
    lines = list(lines)
    at = rng.randrange(len(lines))
    how = rng.choice(("byte", "byte", "byte", "drop", "swap", "twice", "insert", "cut", "join"))
    if how == "byte":
        line = bytearray(lines[at])
        place = rng.randrange(len(line))
        line[place] ^= rng.randrange(1, 256)
        lines[at] = bytes(line)
    elif how == "drop":
        del lines[rng.randrange(len(lines) - 1)]  # the last one is a truncation
    elif how == "swap":
        other = (at + 1 + rng.randrange(len(lines) - 1)) % len(lines)
        lines[at], lines[other] = lines[other], lines[at]
    elif how == "twice":
        lines.insert(at, lines[at])
    elif how == "insert":
        lines.insert(at, b'{"a":1,"hash":"' + b"0" * 64 + b'"}\n')
    elif how == "cut":
        lines[at] = lines[at][: rng.randrange(1, len(lines[at]) - 1)] + b"\n"
    else:
        lines[at] = lines[at].rstrip(b"\n")
    return lines


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_edit_or_deletion_is_found(seed: int, root: Path) -> None:
    path = trail.path_of(root)
    whole = path.read_bytes()
    try:
        path.write_bytes(b"".join(_edited(whole.splitlines(True), seed)))
        assert path.read_bytes() == whole or codes(root)
    finally:
        path.write_bytes(whole)
