"""The catalogue of a vault: a fingerprint of each of its cubes, in one file of the home.

    catalogue/cubes     a line of magic, a checksum, a line of JSON that says what follows, then arrays as they are

It is derived and never the truth: an entry is for the version whose name it has, and whoever reads it compares that
with where the cube's `current` leads now. What is damaged, stale or of another program counts as absent. It is written
whole, under a lock, and only with entries that are fresh at that moment: nothing that was forgotten meanwhile comes
back. Mode 0600. Knows nothing of what fingerprints mean.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np  # noqa: TID253  this file holds arrays

from memos_cli.errors import Locked
from memos_cli.infrastructure import disk
from memos_cli.infrastructure.vault import Vault

FOLDER, FILE, LOCK = "catalogue", "cubes", "lock"
MAGIC = b"memos catalogue 1\n"
LOCK_SECONDS, _PAUSE_SECONDS = 5.0, 0.01
_HEADER_LIMIT_BYTES = 64 << 20
_ARRAYS = {"centres": np.float16, "words": np.uint32, "places": np.uint32, "counts": np.uint16}


@dataclass(frozen=True, slots=True)
class Entry:
    """A cube: its name, the `version` it was looked at in, and what was found.

    `rows` memories are described; `embedder` is the identity of its vectors as JSON ("" for none), of which it has so
    many `centres` of so many numbers (`dim`); `until` is when the first of the memories ends (0 for never); `closed`
    says that the actor may not ask it.
    """

    name: str
    version: str
    rows: int = 0
    embedder: str = ""
    centres: int = 0
    dim: int = 0
    until: float = 0.0
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """An entry with its arrays: centres float16 [centres, dim], words uint32 ascending, counts uint16."""

    entry: Entry
    centres: np.ndarray
    words: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of them: `centres` flat in the order of entries; `words` ascending, each with its entry and count."""

    whose: str
    entries: tuple[Entry, ...]
    centres: np.ndarray
    words: np.ndarray
    places: np.ndarray
    counts: np.ndarray

    @classmethod
    def empty(cls, whose: str) -> Catalogue:
        """One without cubes."""
        return cls(whose, (), *(np.empty(0, kind) for kind in _ARRAYS.values()))

    def fresh(self, there: Mapping[str, str], *, now: float) -> dict[str, Entry]:
        """The entries that still hold, of the cubes that are `there` (their current versions by name)."""
        return {
            each.name: each for each in self.entries
            if there.get(each.name) == each.version and not 0 < each.until <= now
        }  # fmt: skip

    def starts(self) -> list[int]:
        """Where the centres of each entry begin, and at last where all of them end."""
        found = [0]
        for each in self.entries:
            found.append(found[-1] + each.centres * each.dim)
        return found

    def changed(self, *, keep: Collection[str], more: Collection[Record]) -> Catalogue:
        """The entries named in `keep` and those of `more`, which go before entries of the same name."""
        new = {each.entry.name for each in more}
        kept = [i for i, each in enumerate(self.entries) if each.name in keep and each.name not in new]
        starts = self.starts()
        place = np.full(len(self.entries), -1, np.int64)
        place[kept] = np.arange(len(kept))
        stays = place[self.places] >= 0 if len(self.entries) else np.empty(0, bool)
        parts = [(self.words[stays], place[self.places[stays]].astype(np.uint32), self.counts[stays])]
        for number, each in enumerate(more, len(kept)):
            parts.append((each.words, np.full(len(each.words), number, np.uint32), each.counts))
        words, places, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.argsort(words, kind="stable")
        centres = [self.centres[starts[i] : starts[i + 1]] for i in kept]
        centres += [each.centres.reshape(-1) for each in more]
        entries = (*(self.entries[i] for i in kept), *(each.entry for each in more))
        joined = np.concatenate(centres) if centres else np.empty(0)
        return replace(
            self, entries=entries, centres=joined.astype(np.float16), words=words[order], places=places[order],
            counts=counts[order],
        )  # fmt: skip


def path_of(home: Path) -> Path:
    """The file, whether or not there is one."""
    return home / FOLDER / FILE


_read: dict[Path, tuple[tuple[int, int, int], Catalogue]] = {}


def read(home: Path, *, whose: str) -> Catalogue:
    """The catalogue of `home` as it was made for `whose`; an empty one when there is none that can be used."""
    path = path_of(home)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return Catalogue.empty(whose)
    with open(descriptor, "rb") as stream:
        facts = os.fstat(stream.fileno())
        stamp = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if path in _read and _read[path][0] == stamp:
            found = _read[path][1]
        else:
            try:
                found = decode(stream.read())
            except (OSError, ValueError, KeyError, TypeError):
                return Catalogue.empty(whose)
            _read.clear()
            _read[path] = (stamp, found)
    return found if found.whose == whose else Catalogue.empty(whose)


def encode(catalogue: Catalogue) -> bytes:
    """The bytes of the file."""
    arrays = [getattr(catalogue, name).astype(kind, copy=False).tobytes() for name, kind in _ARRAYS.items()]
    body = b"".join(arrays)
    header = {
        "whose": catalogue.whose, "entries": [list(asdict(each).values()) for each in catalogue.entries],
        "sizes": [len(each) for each in arrays], "crc32": zlib.crc32(body),
    }  # fmt: skip
    line = json.dumps(header, separators=(",", ":")).encode()
    # the header is checked too: a flipped bit in a number is JSON all the same
    return b"".join((MAGIC, b"%08x\n" % zlib.crc32(line), line, b"\n", body))


def decode(data: bytes) -> Catalogue:
    """The catalogue in a file's bytes. Raises ValueError, KeyError, TypeError for anything else."""
    begin = len(MAGIC) + 9
    end = data.find(b"\n", begin)
    if not data.startswith(MAGIC) or not 0 < end - begin < _HEADER_LIMIT_BYTES:
        raise ValueError("not a catalogue")
    line, body = data[begin:end], memoryview(data)[end + 1 :]
    if data[len(MAGIC) : begin] != b"%08x\n" % zlib.crc32(line):
        raise ValueError("its header is damaged")
    header = json.loads(line)
    if sum(header["sizes"]) != len(body) or zlib.crc32(body) != header["crc32"]:
        raise ValueError("its arrays are damaged")
    arrays, at = {}, 0
    for (name, kind), size in zip(_ARRAYS.items(), header["sizes"], strict=True):
        arrays[name] = np.frombuffer(bytes(body[at : at + size]), kind)
        at += size
    found = Catalogue(header["whose"], tuple(Entry(*each) for each in header["entries"]), **arrays)
    beyond = found.places.size and found.places.max() >= len(found.entries)
    if beyond or found.starts()[-1] != len(found.centres):
        raise ValueError("its entries and arrays do not belong together")
    return found


def publish(home: Path, whose: str, more: Collection[Record], *, now: float) -> Catalogue:
    """The catalogue with what was found of some cubes, and without those that are gone or have changed since.

    Where the home cannot be written, or somebody else holds it for long, it is so for this process only.
    """
    try:
        with _alone(home):
            there = Vault(home).pointers()
            fresh = [each for each in more if there.get(each.entry.name) == each.entry.version]
            before = read(home, whose=whose)
            after = before.changed(keep=before.fresh(there, now=now).keys(), more=fresh)
            _write(home, after)
            return after
    except (OSError, Locked):
        before = read(home, whose=whose)
        return before.changed(keep=before.fresh(Vault(home).pointers(), now=now).keys(), more=more)


def prune(home: Path) -> None:
    """Takes out of the file what is known of versions that are no cube's current one any more.

    Raises Locked when somebody holds the catalogue for long, and OSError when the disk does not let go of it.
    """
    path = path_of(home)
    if not path.exists():
        return
    with _alone(home):
        try:
            before = decode(path.read_bytes())
        except (ValueError, KeyError, TypeError):
            path.unlink()
            return
        kept = before.fresh(Vault(home).pointers(), now=0).keys()
        if len(kept) < len(before.entries):
            _write(home, before.changed(keep=kept, more=()))


def _write(home: Path, catalogue: Catalogue) -> None:
    path = path_of(home)
    disk.write_bytes(path, encode(catalogue), mode=0o600)
    _read.pop(path, None)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """The only writer's place. Raises Locked, OSError."""
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / LOCK, flags, 0o600)
    try:
        _wait(descriptor, folder)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


def _wait(descriptor: int, folder: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise Locked(f"the catalogue in {folder} is being written", hint="run the command again") from None
            time.sleep(_PAUSE_SECONDS)
