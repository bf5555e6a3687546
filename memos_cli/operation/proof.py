"""The proof that memories are gone: every file of a cube is looked through for their words, their parts and numbers.

What other memories say too is left out first, and told. Files are looked at as bytes and as what Lance has compressed
in them; the tables are then read through Lance, row by row. A look that sees nothing proves nothing: so it must also
find some of what is still there, or it is not trusted.

Changes nothing. Knows nothing of how anything was removed.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from memos_cli.cube import lancefile
from memos_cli.errors import MemosError
from memos_cli.infrastructure import versions as kept
from memos_cli.operation.needles import KINDS, TEXT, TOKENS, WORD, WORDY, Haystack, Needle, folded

BLOCK_BYTES = 16 << 20
CONTROLS = 8
ROWS_AT_ONCE = 1024
SHORTEST_CONTROL_BYTES = 12
# A single word proves nothing where tables have their columns' names; in the list of words of an index it does.
VOCABULARY = frozenset({WORD})
PLACES = frozenset(KINDS) - VOCABULARY
PLAINTEXT = "plaintext"
# What a memory says for itself; `near` and `wide` have its neighbours' words, and are looked through.
_SAID = ("text", "section", "session", "title", "source", "speaker", "topic")


@dataclass(frozen=True, slots=True)
class Trace:
    """Something that should be gone and is not: where, of which memory, and what it is."""

    place: str
    memory: str
    kind: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What was looked through, for what, and what was found; `sound` when nothing was, by a look that can see.

    `looked_for` counts needles by kind. `elsewhere` are other memories that say the very words: these stay, and so do
    the words. `controls` are texts of memories that are still there, of which `controls_seen` were found in their
    files: a look that finds fewer is blind. `unread` are files that could not be looked into.
    """

    sound: bool
    files: int
    bytes: int
    rows: int
    looked_for: dict[str, int]
    found: tuple[Trace, ...]
    elsewhere: tuple[str, ...]
    controls: int
    controls_seen: int
    unread: tuple[str, ...]

    def without(self, unseen: Collection[str]) -> Proof:
        """The proof for somebody from whom these memories are hidden: what they say is not told, and not weighed."""
        elsewhere = tuple(one for one in self.elsewhere if one not in unseen)
        sound = not (self.found or elsewhere or self.unread) and self.controls_seen == self.controls
        return replace(self, elsewhere=elsewhere, sound=sound)


class Look(NamedTuple):
    """What one look through a folder saw."""

    found: tuple[Trace, ...]
    unread: tuple[str, ...]
    files: int
    bytes: int


@dataclass(slots=True)
class _Seen:
    found: dict[Trace, None] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    inodes: set[tuple[int, int]] = field(default_factory=set)


Tokenise = Callable[[str], Sequence[int]]


def prove(root: Path, doomed: Iterable[Needle], *, tokenise: Tokenise | None = None) -> Proof:
    """Looks for needles in every file of the cube at `root`, and in every row of every version that is kept.

    `tokenise` is the model's whose token ids are among the needles.
    """
    haystack = Haystack(doomed)
    tables = [memories for _, memories in _tables(root)]
    haystack, elsewhere, rows = unshared(tables, haystack)
    looked = look(root, haystack)
    if tokenise and any(trace.kind == TOKENS for trace in looked.found):
        # Only now is it worth the time to find out which runs of tokens other memories have too.
        haystack, _, _ = unshared(tables, haystack, tokenise=tokenise)
        looked = look(root, haystack)
    controls = list(_controls(tables))
    seen = _controls_seen(root, controls)
    return Proof(
        sound=not (looked.found or elsewhere or looked.unread) and seen == len(controls),
        files=looked.files,
        bytes=looked.bytes,
        rows=rows,
        looked_for=haystack.counts(),
        found=looked.found,
        elsewhere=elsewhere,
        controls=len(controls),
        controls_seen=seen,
        unread=looked.unread,
    )


def look(top: Path, haystack: Haystack) -> Look:
    """The needles in the files below `top`, as bytes and as what Lance compressed; links are not followed."""
    seen = _Seen()
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            path = Path(folder, name)
            if not path.is_symlink():
                _look_into(path, top, haystack, seen)
    return Look(tuple(seen.found), tuple(seen.unread), seen.files, seen.bytes)


def tells(path: Path, haystack: Haystack) -> bool:
    """Whether one of the needles stands in this file, or it cannot be looked into."""
    seen = _Seen()
    _look_into(path, path.parent, haystack, seen)
    return bool(seen.found or seen.unread)


def _look_into(path: Path, top: Path, haystack: Haystack, seen: _Seen) -> None:
    place = path.relative_to(top).as_posix()
    _note(haystack, place.encode("utf-8", "replace"), f"the name of {place}", seen)
    try:
        facts = path.stat()
        if (facts.st_dev, facts.st_ino) in seen.inodes:
            return
        seen.inodes.add((facts.st_dev, facts.st_ino))
        for block in _blocks(path, haystack.reach):
            _note(haystack, block, place, seen)
        seen.files += 1
        seen.bytes += facts.st_size
        if path.suffix == ".lance" and facts.st_size:
            _look_inside(path, place, haystack, seen)
    except (OSError, ValueError) as error:
        seen.unread.append(f"{place}: {error}")


def _look_inside(path: Path, place: str, haystack: Haystack, seen: _Seen) -> None:
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for texts in lancefile.texts(data):
            _note(haystack, texts, f"{place} (compressed)", seen)
        words = b"\n".join(lancefile.vocabulary(data))
        if words:
            _note(haystack, words, f"{place} (words of a text index)", seen, kinds=VOCABULARY)


def _note(haystack: Haystack, data: bytes, place: str, seen: _Seen, *, kinds: Collection[str] = PLACES) -> None:
    for number in haystack.find(data):
        needle = haystack.needles[number]
        if needle.kind in kinds:
            seen.found[Trace(place, needle.memory, needle.kind)] = None


def _blocks(path: Path, overlap: int) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        before = b""
        while block := stream.read(BLOCK_BYTES):
            block = before + block
            yield block
            before = block[-overlap:] if overlap else b""


def _tables(root: Path) -> Iterator[tuple[str, Any]]:
    """The open table of every version that is kept; one that cannot be opened is told by the look through its files."""
    from memos_cli.cube.plaintext import Memories

    for name in kept.version_names(root):
        directory = root / kept.VERSIONS / name / PLAINTEXT
        if directory.is_dir():
            try:
                yield name, Memories.open(directory)
            except MemosError:
                continue


def unshared(
    tables: Iterable[Any], haystack: Haystack, *, tokenise: Tokenise | None = None
) -> tuple[Haystack, tuple[str, ...], int]:
    """The needles that no memory in these tables has too, the memories that say a whole text, and the rows read."""
    shared: set[int] = set()
    elsewhere: dict[str, None] = {}
    rows = 0
    for memories in tables:
        names = [name for name in _SAID if name in memories.schema.names]
        for batch in memories.table.search().select(["id", *names]).to_batches(ROWS_AT_ONCE):
            columns = {name: batch.column(name).to_pylist() for name in ("id", *names)}
            rows += batch.num_rows
            said = [
                "\0".join(cell or "" for cell in cells).encode("utf-8", "replace")
                for cells in zip(*(columns[name] for name in names), strict=True)
            ]
            starts = list(accumulate((len(text) + 1 for text in said), initial=0))
            for i, places in haystack.find(b"\0".join(said)).items():
                shared.add(i)
                if haystack.needles[i].kind == TEXT:
                    elsewhere |= {columns["id"][bisect_right(starts, place) - 1]: None for place in places}
            words = folded(" ".join(text for text in columns["text"] if not text.isascii()))
            shared |= {i for i in haystack.find(words.encode("utf-8", "replace")) if haystack.needles[i].kind == WORD}
            for text in columns["text"] if tokenise else ():
                shared |= haystack.find(_integers(tokenise(text))).keys() if tokenise else set()
    alike = {haystack.needles[i].memory for i in shared if haystack.needles[i].kind == TEXT}
    # Of a text that somebody else says too, the vector and the tokens are theirs as well.
    shared |= {i for i, needle in enumerate(haystack.needles) if needle.memory in alike and needle.kind not in WORDY}
    return haystack.without(shared), tuple(elsewhere), rows


def _integers(ids: Sequence[int]) -> bytes:
    import numpy as np

    return np.asarray(ids, dtype="<i4").tobytes()


def _controls(tables: Iterable[Any]) -> Iterator[Needle]:
    """Texts that are still there, one needle each, from all over the newest table."""
    for memories in list(tables)[:1]:
        total = memories.count()
        step = max(1, total // CONTROLS)
        rows = memories.table.search().select(["id", "text"]).to_arrow().slice(0, total).to_pylist()[::step][:CONTROLS]
        for row in rows:
            text = row["text"].encode("utf-8", "replace").lower()
            if len(text) >= SHORTEST_CONTROL_BYTES:
                yield Needle(row["id"], TEXT, text[:200])


def _controls_seen(root: Path, controls: list[Needle]) -> int:
    """How many of them a look through the files of the current version finds in the table's data."""
    if not controls:
        return 0
    place = kept.current_version(root).path / PLAINTEXT / "memories.lance" / "data"
    return len({trace.memory for trace in look(place, Haystack(controls)).found})


def prove_by_hashes(root: Path, refuses: Callable[[str], bool]) -> Proof:
    """The proof when the words are no longer known: no row of any version says what is refused."""
    found, rows = [], 0
    for name, memories in _tables(root):
        for batch in memories.table.search().select(["id", "text", "near", "wide"]).to_batches(1024):
            for row in batch.to_pylist():
                rows += 1
                if any(refuses(row[column] or "") for column in ("text", "near", "wide")):
                    found.append(Trace(f"{kept.VERSIONS}/{name}", row["id"], TEXT))
    return Proof(not found, 0, 0, rows, {}, tuple(found), (), 0, 0, ())
