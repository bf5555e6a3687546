"""Writers that are killed at any moment: what was acknowledged is there, and the cube is always sound."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memos_cli.infrastructure import faults, vault
from memos_cli.operation.audit import audit
from tests.torture import jobs
from tests.torture.nest import Nest

WRITERS = ("ada", "ben")
VERBS = ("ingest", "edit", "forget", "rollback", "reindex", "gc", "named")
KINDS = ("kill", "enospc", "eio")
# The points that a change of an existing cube passes, whichever it is.
POINTS = (*faults.COMMIT_POINTS, *faults.SWEEP_POINTS, *faults.TAG_POINTS, *faults.TRAIL_POINTS, "ingest_batch")
# Text, state, tags, versions: what must be wholly old or wholly new.
State = tuple[frozenset[tuple[str, str]], tuple[tuple[str, int], ...], str]


def replay(before: set[str], lines: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    """The texts that a writer's memories must have: without, and with, the change that it may have died in."""
    sure, maybe = set(before), set(before)
    for line in lines:
        maybe = set(sure)
        if line["op"] in ("edit", "forget"):
            maybe.discard(line["text"])
        if line["op"] in ("edit", "add"):
            maybe.add(line["fresh"])
        if line["kind"] == "ack":
            sure = set(maybe)
    return sure, maybe


def torture(nest: Nest, cube: Path, *, kills: int, longest: float, seed: int) -> dict[str, int]:
    """Kills writers of one cube, one after another, and looks after each kill; what was done, in numbers."""
    chance = random.Random(seed)
    jobs.add(str(cube), "the first note")
    counts = {"kills": 0, "acknowledged": 0, "in the middle of a change": 0, "of these kept": 0}
    journals: dict[str, list[Path]] = {name: [] for name in WRITERS}
    running: dict[str, int] = {}
    base: dict[str, set[str]] = {name: set() for name in WRITERS}

    def launch(name: str) -> None:
        path = cube.parent / f"{name}-{len(journals[name])}.jsonl"
        journals[name].append(path)
        arguments = {"cube": str(cube), "name": name, "journal": str(path), "seed": chance.randrange(10**9)}
        running[name] = nest.start("write", **arguments)

    for name in WRITERS:
        launch(name)
    while counts["kills"] < kills:
        time.sleep(chance.uniform(0, longest))
        name = chance.choice(WRITERS)
        os.kill(running[name], signal.SIGKILL)
        assert nest.wait(running[name]) == signal.SIGKILL
        counts["kills"] += 1
        check(cube, name, journals[name][-1], base, counts, deep=counts["kills"] % 10 == 0)
        launch(name)
    for name in WRITERS:
        os.kill(running[name], signal.SIGKILL)
        nest.wait(running[name])
        check(cube, name, journals[name][-1], base, counts, deep=True)
    return counts


def check(
    cube: Path, name: str, journal: Path, base: dict[str, set[str]], counts: dict[str, int], *, deep: bool
) -> None:
    """What one writer was told is written is there, and nothing else of it but the change it was killed in."""
    lines = jobs.read_journal(journal)
    counts["acknowledged"] += sum(line["kind"] == "ack" for line in lines)
    sure, maybe = replay(base[name], lines)
    found = set(jobs.live(str(cube), f"{name} "))
    assert found in (sure, maybe), f"lost {sure - found}, unasked {found - sure - maybe}"
    if lines and lines[-1]["kind"] == "try" and sure != maybe:
        counts["in the middle of a change"] += 1
        counts["of these kept"] += found == maybe
    base[name] = found
    damage = [finding for finding in audit(cube, deep=deep).findings if finding.severity != "notice"]
    assert not damage


def state(cube: Path) -> State:
    """All of a cube that a reader sees."""
    rows = frozenset((text, memory.state) for text, memory in jobs.live(str(cube)).items())
    return rows, tuple(vault.tags(cube).items()), ",".join(str(version.number) for version in vault.versions(cube))


def test_a_few_kills_lose_nothing(nest: Nest, tmp_path: Path) -> None:
    counts = torture(nest, tmp_path / "a.cube", kills=6, longest=0.8, seed=3)
    assert counts["kills"] == 6


@pytest.mark.slow
def test_five_hundred_kills_lose_nothing(nest: Nest, tmp_path: Path, figure: Callable[[str], None]) -> None:
    begin = time.monotonic()
    counts = torture(nest, tmp_path / "a.cube", kills=500, longest=0.8, seed=5)
    assert counts["acknowledged"] > 100
    assert counts["in the middle of a change"] > 50
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    figure(f"{told}; 0 lost, 0 audits with damage; {time.monotonic() - begin:.0f} s")


def build(cube: Path) -> None:
    """Four versions, and a tag to move."""
    for number in range(4):
        jobs.add(str(cube), f"note {number}", f"and note {number}")
    vault.tag(cube, "named", 3)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_fault_in_every_change_lands_on_the_old_or_the_new(
    verb: str, nest: Nest, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    build(tmp_path / "old.cube")
    old = state(tmp_path / "old.cube")
    shutil.copytree(tmp_path / "old.cube", tmp_path / "new.cube", symlinks=True)
    assert nest.wait(nest.start("change", cube=str(tmp_path / "new.cube"), verb=verb)) == 0
    new = state(tmp_path / "new.cube")
    assert new != old or verb == "reindex"
    landed = {"old": 0, "new": 0}
    for point in POINTS:
        for kind in KINDS:
            cube = tmp_path / f"{verb}-{point}-{kind}.cube"
            shutil.copytree(tmp_path / "old.cube", cube, symlinks=True)
            fault = {"MEMOS_FAULT": f"{point}:{kind}:{2 if point.startswith('write_') else 1}"}
            status = nest.wait(nest.start("change", cube=str(cube), verb=verb, variables=fault))
            assert status in (0, signal.SIGKILL, 1 << 8), (point, kind, status)
            found = state(cube)
            # a sweep that was cut short has taken some of the versions that it was to take
            swept = verb == "gc" and (found[0], found[1]) == (old[0], old[1])
            assert found in (old, new) or swept, (point, kind)
            landed["new" if found == new else "old"] += 1
            assert not [one for one in audit(cube, deep=True).findings if one.severity == "damage"], (point, kind)
            assert nest.wait(nest.start("change", cube=str(cube), verb="ingest")) == 0, (point, kind)
            assert not os.listdir(cube / "staging"), (point, kind)
            assert not audit(cube, deep=True).findings, (point, kind)
            shutil.rmtree(cube)
    figure(f"{verb}: {len(POINTS)} points x {len(KINDS)} faults, {landed['old']} old, {landed['new']} new, 0 other")
