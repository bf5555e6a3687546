"""The archive that a packed cube travels in: USTAR with one kind of entry, written and read with no freedom at all.

Each entry is a regular file of one of three names (`oci-layout`, `index.json`, `blobs/sha256/<64 hex>`), mode 0644,
with no owner and no time. A reader makes the header again from name and size and compares the bytes: so links, devices,
long names, other owners and every extension of the format are refused without being understood. Knows nothing of what
the entries mean.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

from memos_cli.errors import Damaged

BLOCK_BYTES = 512
# Eleven octal digits.
SIZE_LIMIT_BYTES = 8**11 - 1
ENTRY_LIMIT = 20_000
END = bytes(2 * BLOCK_BYTES)

_NAME = re.compile(rb"(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})\0*")
_SIZE = re.compile(rb"[0-7]{11}\0")


class Entry(NamedTuple):
    """A file in an archive: its name, and where its bytes begin and how many they are."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a file's own; equal arguments give equal bytes. The size is at most SIZE_LIMIT_BYTES."""
    assert 0 <= size <= SIZE_LIMIT_BYTES
    fields = (
        name.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size,
        b"00000000000\0", b" " * 8, b"0", bytes(100), b"ustar\0", b"00", bytes(64), b"0000000\0", b"0000000\0",
    )  # fmt: skip
    block = b"".join(fields).ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> bytes:
    """The zeros after a file of `size` bytes."""
    return bytes(-size % BLOCK_BYTES)


def scan(stream: BinaryIO, *, place: Path | str) -> dict[str, Entry]:
    """The entries of the archive in a stream that can seek, by name, in their order; no content is read.

    Raises Damaged for anything that `header` would not have written, and when the archive is shorter or longer than
    its entries.
    """
    whole = stream.seek(0, 2)
    found: dict[str, Entry] = {}
    offset = 0
    while True:
        block = _read(stream, offset, BLOCK_BYTES, whole, place)
        if block == END[:BLOCK_BYTES]:
            _check_end(stream, offset, whole, place)
            return found
        entry = _entry(block, offset, place)
        if entry.name in found:
            raise _damaged(place, f"each entry once, found {entry.name} again")
        if len(found) >= ENTRY_LIMIT:
            raise _damaged(place, f"at most {ENTRY_LIMIT:,} entries, found more")
        offset = entry.offset + entry.size
        if any(_read(stream, offset, len(padding(entry.size)), whole, place)):
            raise _damaged(place, f"zeros after {entry.name}, found other bytes")
        offset += len(padding(entry.size))
        found[entry.name] = entry


def _entry(block: bytes, offset: int, place: Path | str) -> Entry:
    name, size = _NAME.fullmatch(block[:100]), _SIZE.fullmatch(block[124:136])
    if name is None:
        raise _damaged(place, f"oci-layout, index.json or blobs/sha256/<64 hex> as a name, found {block[:100]!r:.60}")
    if size is None:
        raise _damaged(place, f"a size of eleven octal digits, found {block[124:136]!r}")
    entry = Entry(name[1].decode("ascii"), offset + BLOCK_BYTES, int(block[124:135], 8))
    if header(entry.name, entry.size) != block:
        raise _damaged(place, f"a plain file without owner, time or link as {entry.name}, found another header")
    return entry


def _read(stream: BinaryIO, offset: int, size: int, whole: int, place: Path | str) -> bytes:
    if offset + size > whole:
        raise _damaged(place, f"at least {offset + size:,} bytes, found {whole:,}: it was cut short")
    stream.seek(offset)
    return stream.read(size)


def _check_end(stream: BinaryIO, offset: int, whole: int, place: Path | str) -> None:
    if _read(stream, offset, len(END), whole, place) != END or whole != offset + len(END):
        raise _damaged(place, "an end of 1,024 zeros and nothing after it")


def _damaged(place: Path | str, expected: str) -> Damaged:
    return Damaged(f"{place}: expected {expected}", hint="fetch the archive again, or ask its sender for its digest")
