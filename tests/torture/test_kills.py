"""Writers that are killed at any moment: what was acknowledged is there, and the cube is always sound."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from memos_cli.infrastructure import drops, faults, origin, vault
from memos_cli.operation.audit import audit
from tests.torture import jobs
from tests.torture.nest import Nest

WRITERS = ("ada", "ben")
VERBS = ("ingest", "edit", "forget", "rollback", "reindex", "gc", "named", "purge", "govern", "tidy")
KINDS = ("kill", "enospc", "eio")
# The points that a change of an existing cube passes, whichever it is.
POINTS = (
    *faults.COMMIT_POINTS, *faults.SWEEP_POINTS, *faults.DROP_POINTS, *faults.TAG_POINTS, *faults.TRAIL_POINTS,
    "ingest_batch", "purged",
)  # fmt: skip
# Some of the matrix, before and after the commit point of each change; a purge has its own in test_forgetting.
SHORT = {
    "edit": (("write_half", "enospc"), ("sealed", "eio"), ("published", "kill")),
    "rollback": (("cloned", "eio"), ("pointer_written", "enospc"), ("committed", "kill")),
    "tidy": (("write_half", "kill"), ("cloned", "enospc"), ("committed", "kill")),
    "reindex": (("manifest_written", "kill"), ("versions_synced", "enospc"), ("root_synced", "eio")),
    "gc": (("sweep_before", "enospc"), ("sweep_moved", "kill"), ("sweep_removed", "eio")),
    "named": (("tag_written", "kill"), ("tag_written", "enospc"), ("tag_moved", "eio")),
}
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
def test_five_hundred_kills_lose_nothing(
    nest: Nest, tmp_path: Path, figure: Callable[[str], None], scaled: Callable[[int], int]
) -> None:
    begin = time.monotonic()
    kills = scaled(500)
    counts = torture(nest, tmp_path / "a.cube", kills=kills, longest=0.8, seed=5)
    assert counts["acknowledged"] > kills // 5
    assert counts["in the middle of a change"] > kills // 10
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    figure(f"{told}; 0 lost, 0 audits with damage; {time.monotonic() - begin:.0f} s")


def build(cube: Path) -> None:
    """Four versions, the last with something that is said twice, and a tag to move."""
    for number in range(4):
        twice = ["what is said twice"] * 2 if number == 3 else []  # noqa: PLR2004  the last
        jobs.add(str(cube), f"note {number}", f"and note {number}", *twice)
    vault.tag(cube, "named", 3)


def changed(nest: Nest, folder: Path, verb: str) -> tuple[State, State]:
    """What is seen of `old.cube` in the folder, and of the same after a change."""
    shutil.copytree(folder / "old.cube", folder / f"{verb}.cube", symlinks=True)
    assert nest.wait(nest.start("change", cube=str(folder / f"{verb}.cube"), verb=verb)) == 0
    old, new = state(folder / "old.cube"), state(folder / f"{verb}.cube")
    assert new != old
    return old, new


def is_on_the_way(verb: str, found: State, old: State, new: State) -> bool:
    """Whether some of the versions that a sweep or a purge takes, with their tags, are there still, all else being old
    or new."""
    if verb not in ("gc", "purge"):
        return False
    either = set(old[2].split(",")) | set(new[2].split(","))
    return found[0] in (old[0], new[0]) and found[1] in (old[1], new[1]) and set(found[2].split(",")) <= either


def land(nest: Nest, folder: Path, verb: str, point: str, kind: str, states: tuple[State, State]) -> str:
    """Makes the change with this fault; on which state it landed. The next change goes through and mends all."""
    old, new = states
    cube = folder / f"{verb}-{point}-{kind}.cube"
    shutil.copytree(folder / "old.cube", cube, symlinks=True)
    fault = {"MEMOS_FAULT": f"{point}:{kind}:{2 if point.startswith('write_') else 1}"}
    status = nest.wait(nest.start("change", cube=str(cube), verb=verb, variables=fault))
    assert status in (0, signal.SIGKILL, 1 << 8), (point, kind, status)
    found = state(cube)
    assert found in (old, new) or is_on_the_way(verb, found, old, new), (point, kind)
    assert not [one for one in audit(cube, deep=True).findings if one.severity == "damage"], (point, kind)
    assert nest.wait(nest.start("change", cube=str(cube), verb="ingest")) == 0, (point, kind)
    assert not os.listdir(cube / "staging"), (point, kind)
    assert not drops.pending(cube), (point, kind)
    assert not audit(cube, deep=True).findings, (point, kind)
    shutil.rmtree(cube)
    return "new" if found[0] == new[0] and found != old else "old"


@pytest.mark.long
def test_some_faults_in_each_change_land_on_the_old_or_the_new(nest: Nest, tmp_path: Path) -> None:
    build(tmp_path / "old.cube")
    for verb, faulty in SHORT.items():
        states = changed(nest, tmp_path, verb)
        landed = [land(nest, tmp_path, verb, point, kind, states) for point, kind in faulty]
        assert landed[0] == "old", (verb, landed)
        assert (landed[-1] == "new") == (verb != "edit"), (verb, landed)


# --- a cube that is made of two others: it is not there, or whole; the two are never touched

Tree = dict[str, bytes]
FUSE_POINTS = (*faults.COMMIT_POINTS, *faults.CREATE_POINTS, *faults.TRAIL_POINTS)
SHORT_FUSE = (
    ("create_marked", "kill"), ("write_half", "enospc"), ("published", "kill"), ("pointer_written", "eio"),
    ("committed", "kill"),
)  # fmt: skip


def tree(cube: Path) -> Tree:
    """All of a cube but its log, which tells who read it, by path."""
    files = (path for path in sorted(cube.rglob("*")) if path.is_symlink() or path.is_file())
    named = ((str(path.relative_to(cube)), path) for path in files)
    return {
        name: os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for name, path in named if not name.startswith(("log/", ".lock"))
    }  # fmt: skip


def made(cube: Path) -> tuple[frozenset[tuple[str, str]], bool] | None:
    """What a cube says, and whether it may be taken as its holder's own word; None where there is no cube."""
    if not (cube / "current").is_symlink():
        return None
    came = origin.read(cube)
    return state(cube)[0], came is None or came.trusted


def two(nest: Nest, folder: Path) -> tuple[Tree, Tree]:
    """Two cubes to make a third of, which say something the other does not; the second came from elsewhere."""
    build(folder / "a.cube")
    jobs.add(str(folder / "b.cube"), "note 1", "only here")
    origin.write(folder / "b.cube", origin.Origin("a.memcube", "b", "1", "", "", "", "2026-01-01T00:00:00Z"))
    fusing = nest.start("fuse", first=str(folder / "a.cube"), second=str(folder / "b.cube"), output=str(folder / "new"))
    assert nest.wait(fusing) == 0
    assert (made(folder / "new") or ((), True))[1] is False, "no more to be believed than the less trusted of the two"
    return tree(folder / "a.cube"), tree(folder / "b.cube")


def fuse(nest: Nest, folder: Path, point: str, kind: str, sides: tuple[Tree, Tree]) -> str:
    """Makes the third with this fault; whether it was there then. The next run makes it, or leaves it as it is."""
    first, second, output = (folder / f"{name}.cube" for name in "abc")
    words = {"first": str(first), "second": str(second), "output": str(output)}
    fault = {"MEMOS_FAULT": f"{point}:{kind}:{2 if point.startswith('write_') else 1}"}
    status = nest.wait(nest.start("fuse", **words, variables=fault))
    assert status in (0, signal.SIGKILL, 1 << 8), (point, kind, status)
    found, new = made(output), made(folder / "new")
    assert found in (None, new), (point, kind)
    if kind != "kill" and found is None:
        assert not output.exists(), (point, kind)
    # what is there is not made again
    assert nest.wait(nest.start("fuse", **words)) == (2 << 8 if found else 0), (point, kind)
    assert made(output) == new, (point, kind)
    assert nest.wait(nest.start("change", cube=str(output), verb="ingest")) == 0, (point, kind)
    assert not os.listdir(output / "staging"), (point, kind)
    assert not [one for one in audit(output, deep=True).findings if one.severity == "damage"], (point, kind)
    assert (tree(first), tree(second)) == sides, (point, kind)
    shutil.rmtree(output)
    return "new" if found else "old"


@pytest.mark.long
def test_some_faults_while_two_cubes_are_fused_leave_the_new_one_whole_or_not_at_all(
    nest: Nest, tmp_path: Path
) -> None:
    sides = two(nest, tmp_path)
    both = {text for name in ("a", "b") for text in jobs.live(str(tmp_path / f"{name}.cube"))}
    assert {text for text, _ in (made(tmp_path / "new") or ((), True))[0]} == both
    landed = [fuse(nest, tmp_path, point, kind, sides) for point, kind in SHORT_FUSE]
    assert (landed[:3], landed[-1]) == (["old"] * 3, "new")


@pytest.mark.slow
def test_every_fault_while_two_cubes_are_fused_leaves_the_new_one_whole_or_not_at_all(
    nest: Nest, tmp_path: Path, figure: Callable[[str], None], scaled: Callable[[int], int]
) -> None:
    sides = two(nest, tmp_path)
    every = list(product(FUSE_POINTS, KINDS))
    some = random.Random("fuse").sample(every, scaled(len(every)))
    landed = [fuse(nest, tmp_path, point, kind, sides) for point, kind in some]
    told = f"{len(some)} of {len(FUSE_POINTS)} points x {len(KINDS)} faults"
    figure(f"fuse: {told}, {landed.count('old')} without, {landed.count('new')} with the new cube, 0 other")


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_fault_in_every_change_lands_on_the_old_or_the_new(
    verb: str, nest: Nest, tmp_path: Path, figure: Callable[[str], None], scaled: Callable[[int], int]
) -> None:
    build(tmp_path / "old.cube")
    states = changed(nest, tmp_path, verb)
    every = list(product(POINTS, KINDS))
    some = random.Random(verb).sample(every, scaled(len(every)))
    landed = [land(nest, tmp_path, verb, point, kind, states) for point, kind in some]
    told = f"{len(some)} of {len(POINTS)} points x {len(KINDS)} faults"
    figure(f"{verb}: {told}, {landed.count('old')} old, {landed.count('new')} new, 0 other")
