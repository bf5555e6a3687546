"""Packages with random damage: none crashes the reader, none leaves a file, and none is taken as what it is not.

The short runs are in every test run; `slow` makes 20,000 mutants (MEMOS_FUZZ sets another number).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from memos_cli.cube import archive
from memos_cli.cube.bundle import Contents
from memos_cli.cube.digest import digest_of, hash_file
from memos_cli.errors import Damaged, MemosError
from memos_cli.infrastructure import arrival, vault
from memos_cli.infrastructure.origin import Origin
from tests.infrastructure.hostile import Forger
from tests.infrastructure.test_hostile_packages import forger

__all__ = ["forger"]

LEVELS = ("version", "config", "image", "index")
MANY = int(os.environ.get("MEMOS_FUZZ", "20000"))

words = st.one_of(
    st.sampled_from(["", "../x", "/etc/x", "a\x00b", "\x1b[2J", "sha256:", "sha256:" + "0" * 64, "x" * 5000, "\u202e"]),
    st.text(max_size=20),
)
numbers = st.one_of(st.integers(), st.sampled_from([0, -1, 2**31, 2**53, 2**63, 2**64, 10**30]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)


@dataclass(frozen=True)
class Cut:
    """A change of bytes: at a place, so many are taken out and these put in."""

    place: float
    taken: int
    put: bytes

    def apply(self, data: bytes) -> bytes:
        at = int(self.place * len(data))
        return data[:at] + self.put + data[at + self.taken :]


cuts = st.builds(
    Cut,
    place=st.floats(min_value=0, max_value=1, exclude_max=True),
    taken=st.one_of(st.just(1), st.integers(0, 600), st.just(1 << 20)),
    put=st.one_of(st.binary(min_size=1, max_size=1), st.binary(max_size=40), st.just(b"\0" * 512)),
)


@dataclass(frozen=True)
class Graft:
    """A change of JSON: somewhere in it a value is replaced, removed, or put beside."""

    steps: tuple[int, ...]
    kind: int
    key: str
    value: Any

    def apply(self, held: Any) -> Any:
        whole = json.loads(json.dumps(held))
        place: Any = whole
        for step in self.steps:
            inner = self._inner(place, step)
            if not isinstance(inner, dict | list) or not inner:
                break
            place = inner
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        chosen = keys[self.steps[-1] % len(keys)]
        if self.kind == 0:
            del place[chosen]
        elif self.kind == 1 and isinstance(place, dict):
            place[self.key] = self.value
        else:
            place[chosen] = self.value
        return whole

    @staticmethod
    def _inner(place: Any, step: int) -> Any:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        return place[keys[step % len(keys)]]


grafts = st.builds(
    Graft,
    steps=st.lists(st.integers(0, 40), min_size=1, max_size=5).map(tuple),
    kind=st.integers(0, 4),
    key=words,
    value=values,
)


def origin(held: Contents) -> Origin:
    return Origin("file:///x", held.image.name, held.image.version, held.image.digest, "", "x", "2026-01-01T00:00:00Z")


def take(data: bytes, place: Path) -> Path | None:
    """The version that a package becomes in `place`; None when it is refused, and then nothing is there."""
    file, root = place / "x.memcube", place / "copy.cube"
    file.write_bytes(data)
    try:
        opened = archive.open_archive(file)
        version = arrival.receive(root, opened.manifest, opened.fetch, origin=origin)
    except Damaged:
        assert os.listdir(place) == ["x.memcube"]
        return None
    assert sorted(os.listdir(place)) == ["copy.cube", "x.memcube"]
    return version.path


def check(taken: Path, forger: Forger) -> None:
    """What was taken is whole: every file is what its manifest says, and all of them are those of the cube."""
    manifest = vault.read_manifest(taken)
    for entry in manifest.files:
        assert hash_file(taken / entry.path) == entry.sha256
    assert {entry.path: entry.sha256 for entry in manifest.files} == {
        entry.path: entry.sha256 for entry in forger.manifest.files
    }


def try_cuts(forger: Forger, whole: bytes, some: list[Cut], place: Path) -> None:
    data = whole
    for cut in some:
        data = cut.apply(data)
    taken = take(data, place)
    if taken is not None:
        # every byte of an archive counts
        assert data == whole
        check(taken, forger)
        shutil.rmtree(place / "copy.cube")


def try_grafts(forger: Forger, some: list[tuple[str, Graft]], place: Path) -> None:
    def change(level: str) -> Callable[[Any], Any]:
        return lambda held: _grafted(held, [graft for name, graft in some if name == level])

    try:
        data = forger.forge(**{level: change(level) for level in LEVELS})
    except MemosError:  # what cannot be written in canonical JSON cannot be forged by this forger
        return
    taken = take(data, place)
    if taken is not None:
        check(taken, forger)
        shutil.rmtree(place / "copy.cube")


def _grafted(held: Any, some: list[Graft]) -> Any:
    for graft in some:
        if isinstance(held, dict | list) and held:
            held = graft.apply(held)
    return held


quick = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
long = settings(quick, max_examples=MANY // 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is empty again after each mutant."""
    return tmp_path_factory.mktemp("mutants")


@pytest.fixture(scope="session")
def whole(forger: Forger) -> bytes:
    data = forger.forge()
    assert digest_of(data) == digest_of(forger.forge())
    return data


@quick
@given(some=st.lists(cuts, min_size=1, max_size=3))
def test_bytes(forger: Forger, whole: bytes, some: list[Cut], place: Path) -> None:
    try_cuts(forger, whole, some, place)


@pytest.mark.long
@quick
@given(some=st.lists(st.tuples(st.sampled_from(LEVELS), grafts), min_size=1, max_size=3))
def test_structure(forger: Forger, some: list[tuple[str, Graft]], place: Path) -> None:
    try_grafts(forger, some, place)


@pytest.mark.slow
@long
@given(some=st.lists(cuts, min_size=1, max_size=3))
def test_many_bytes(forger: Forger, whole: bytes, some: list[Cut], place: Path) -> None:
    try_cuts(forger, whole, some, place)


@pytest.mark.slow
@long
@given(some=st.lists(st.tuples(st.sampled_from(LEVELS), grafts), min_size=1, max_size=3))
def test_much_structure(forger: Forger, some: list[tuple[str, Graft]], place: Path) -> None:
    try_grafts(forger, some, place)
