"""The catalogue's file: what it keeps, who may read it, damage, and two who write at once."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import numpy as np  # noqa: TID253  arrays are what is tested
import pytest

from memos_cli.errors import Locked
from memos_cli.infrastructure import catalogue
from memos_cli.infrastructure.catalogue import Catalogue, Entry, Record
from tests.infrastructure import cubes

NOW = 1_000.0


def make(home: Path, name: str) -> Record:
    """A cube with a name, and a record of it as it is."""
    if not (home / "cubes" / f"{name}.cube").exists():
        (home / "cubes").mkdir(parents=True, exist_ok=True)
        cubes.make(home / "cubes" / f"{name}.cube")
    return record(home, name)


def record(home: Path, name: str, *, seed: int | None = None, until: float = 0.0) -> Record:
    rng = np.random.default_rng(len(name) if seed is None else seed)
    version = os.readlink(home / "cubes" / f"{name}.cube" / "current").rpartition("/")[2]
    words = np.unique(rng.integers(0, 2**32, 20, dtype=np.uint32))
    entry = Entry(name, version, rows=5, embedder="e", centres=2, dim=4, until=until)
    return Record(entry, rng.normal(size=(2, 4)).astype(np.float16), words, np.ones(len(words), np.uint16))


def same(one: Catalogue, other: Catalogue) -> bool:
    arrays = ("centres", "words", "places", "counts")
    return (one.whose, one.entries) == (other.whose, other.entries) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = catalogue.publish(tmp_path, "me", [make(tmp_path, "a"), make(tmp_path, "bb")], now=NOW)
    assert [each.name for each in made.entries] == ["a", "bb"]
    assert same(catalogue.decode(catalogue.encode(made)), made)
    assert same(catalogue.read(tmp_path, whose="me"), made)
    assert (np.diff(made.words.astype(np.int64)) >= 0).all()


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        catalogue.publish(tmp_path, "me", [make(tmp_path, "a")], now=NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(catalogue.path_of(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(catalogue.path_of(tmp_path).parent.stat().st_mode) == 0o700


def test_another_key_or_policy_reads_nothing(tmp_path: Path) -> None:
    catalogue.publish(tmp_path, "me", [make(tmp_path, "a")], now=NOW)
    assert catalogue.read(tmp_path, whose="somebody else").entries == ()


def test_every_damaged_byte_counts_as_no_catalogue(tmp_path: Path) -> None:
    catalogue.publish(tmp_path, "me", [make(tmp_path, "a")], now=NOW)
    data = catalogue.path_of(tmp_path).read_bytes()
    for place in range(len(data)):
        broken = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        with pytest.raises((ValueError, KeyError, TypeError)):
            catalogue.decode(broken)
    for end in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises((ValueError, KeyError, TypeError)):
            catalogue.decode(data[:end])


@pytest.mark.parametrize("data", [b"", b"memos catalogue 1\n", b"\0" * 100, b"memos catalogue 9\n" + b"x" * 50])
def test_what_is_no_catalogue_is_written_anew(tmp_path: Path, data: bytes) -> None:
    one = make(tmp_path, "a")
    catalogue.path_of(tmp_path).parent.mkdir()
    catalogue.path_of(tmp_path).write_bytes(data)
    assert catalogue.read(tmp_path, whose="me").entries == ()
    catalogue.publish(tmp_path, "me", [one], now=NOW)
    assert len(catalogue.read(tmp_path, whose="me").entries) == 1


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    made = catalogue.publish(tmp_path, "me", [make(tmp_path, "a")], now=NOW)
    path = catalogue.path_of(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert catalogue.read(tmp_path, whose="me").entries == ()
    assert same(catalogue.decode((tmp_path / "elsewhere").read_bytes()), made)


def test_a_record_of_a_version_that_is_no_more_is_not_written(tmp_path: Path) -> None:
    stale = make(tmp_path, "a")
    cubes.commit(tmp_path / "cubes" / "a.cube")
    made = catalogue.publish(tmp_path, "me", [stale, make(tmp_path, "bb")], now=NOW)
    assert [each.name for each in made.entries] == ["bb"]


def test_what_changed_or_is_gone_falls_out(tmp_path: Path) -> None:
    catalogue.publish(tmp_path, "me", [make(tmp_path, name) for name in ("a", "bb", "ccc")], now=NOW)
    cubes.commit(tmp_path / "cubes" / "a.cube")
    (tmp_path / "cubes" / "bb.cube").rename(tmp_path / "away")
    made = catalogue.publish(tmp_path, "me", [], now=NOW)
    assert [each.name for each in made.entries] == ["ccc"]
    assert set(made.places.tolist()) == {0}
    assert len(made.centres) == 8


def test_what_has_ended_is_stale(tmp_path: Path) -> None:
    make(tmp_path, "a")
    made = catalogue.publish(tmp_path, "me", [record(tmp_path, "a", until=NOW + 5)], now=NOW)
    there = {"a": made.entries[0].version}
    assert made.fresh(there, now=NOW)
    assert not made.fresh(there, now=NOW + 5)


def test_what_was_known_of_an_earlier_version_is_taken_out(tmp_path: Path) -> None:
    one, other, away = (make(tmp_path, name) for name in ("a", "bb", "ccc"))
    catalogue.publish(tmp_path, "me", [one, other, away], now=NOW)
    cubes.commit(tmp_path / "cubes" / "a.cube")
    (tmp_path / "cubes" / "ccc.cube").rename(tmp_path / "elsewhere.cube")
    catalogue.prune(tmp_path)
    left = catalogue.read(tmp_path, whose="me")
    assert [each.name for each in left.entries] == ["bb"]
    assert np.array_equal(left.words, other.words)
    data = catalogue.path_of(tmp_path).read_bytes()
    assert other.centres.tobytes() in data
    assert one.centres.tobytes() not in data
    assert away.centres.tobytes() not in data
    catalogue.prune(tmp_path / "no-home")


def test_a_damaged_one_is_removed_whole(tmp_path: Path) -> None:
    catalogue.publish(tmp_path, "me", [make(tmp_path, "a")], now=NOW)
    catalogue.path_of(tmp_path).write_bytes(b"?" * 500)
    catalogue.prune(tmp_path)
    assert not catalogue.path_of(tmp_path).exists()


def test_two_who_write_at_once_lose_nothing(tmp_path: Path) -> None:
    records = [make(tmp_path, f"cube{i:02}") for i in range(12)]
    threads = [
        threading.Thread(target=lambda one=one: catalogue.publish(tmp_path, "me", [one], now=NOW)) for one in records
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = catalogue.read(tmp_path, whose="me")
    assert {each.name for each in found.entries} == {each.entry.name for each in records}
    assert [path.name for path in (tmp_path / "catalogue").iterdir() if path.suffix == ".tmp"] == []


def test_who_waits_for_long_goes_on_without_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make(tmp_path, "a")
    monkeypatch.setattr(catalogue, "LOCK_SECONDS", 0.02)
    with catalogue._alone(tmp_path):
        made = catalogue.publish(tmp_path, "me", [one], now=NOW)
        assert [each.name for each in made.entries] == ["a"]
        assert not catalogue.path_of(tmp_path).exists()
    catalogue.publish(tmp_path, "me", [one], now=NOW)
    with catalogue._alone(tmp_path), pytest.raises(Locked, match="catalogue"):
        catalogue.prune(tmp_path)


def test_a_home_that_cannot_be_written_is_searched_all_the_same(tmp_path: Path) -> None:
    one = make(tmp_path, "a")
    (tmp_path / "catalogue").write_text("a file in the place of the folder")
    made = catalogue.publish(tmp_path, "me", [one], now=NOW)
    assert [each.name for each in made.entries] == ["a"]
