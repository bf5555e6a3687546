"""What stands in a Lance file besides what its bytes show: strings that were compressed, and the words of text indexes.

Lance compresses longer columns of text with FSST (a table of up to 255 symbols of one to eight bytes, one code each)
and keeps the words of a text index in a finite state transducer. So text that is in a file need not be found by looking
for its bytes. This reads just enough of the format (2.1 and 2.2) to see both, also of rows that were deleted and of
files that no table refers to. It is for looking, not for reading tables.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"LANC"
Buffer = bytes | mmap.mmap
_FOOTER = struct.Struct("<QQQIIHH")
_VERSIONS = ((2, 0), (2, 1), (2, 2))
_ESCAPE = 255
_TABLE = b"TSSF"
_SYMBOL_BYTES = 8
_BLOCK_BYTES = 1 << 20
_FST_START = struct.pack("<QQ", 3, 0)
_WORD_COLUMN, _SCHEMA_BYTES = b"_token_fst_bytes", 1 << 16
_FST_INDEXED = 32
# Bytes that the transducer packs into the state itself, by the number it gives them.
_COMMON = b"te/oasripcnw.hlm-du012g=:bf3y5&_4v9678k%?xCDASFIBEjPTzRNM+LOqHG"
_MOST_STEPS = 50_000_000


class Page(NamedTuple):
    """A page of a column: where its buffers lie, and how it says that it is encoded."""

    buffers: tuple[tuple[int, int], ...]
    encoding: bytes


def texts(data: Buffer) -> Iterator[bytes]:
    """The bytes of the file's compressed texts; nothing for another file.

    Raises ValueError for a file that says it is one and does not read.
    """
    if data[-4:] != MAGIC:
        return
    try:
        for page in pages(data):
            yield from _texts(data, page)
    except (IndexError, struct.error) as error:
        raise ValueError(f"does not read as a Lance file: {error}") from error


def vocabulary(data: Buffer) -> Iterator[bytes]:
    """The words of the text index in the file, in their order; nothing for a file without one. Raises ValueError."""
    if data[-4:] != MAGIC or _WORD_COLUMN not in data[-_SCHEMA_BYTES:]:
        return
    at = data.find(_FST_START)
    while at >= 8:
        (size,) = struct.unpack("<Q", data[at - 8 : at])
        if 36 < size <= len(data) - at:
            try:
                yield from words(data[at : at + size])
            except IndexError as error:
                raise ValueError("a text index that leads outside itself") from error
        at = data.find(_FST_START, at + 1)


def pages(data: Buffer) -> Iterator[Page]:
    """The pages of all columns of a Lance file. Raises ValueError, IndexError, struct.error."""
    _, offsets, _, _, columns, *version = _footer(data)
    if tuple(version) not in _VERSIONS:
        raise ValueError(f"a Lance file of format {version}")
    for column in range(columns):
        start, size = struct.unpack("<QQ", data[offsets + 16 * column : offsets + 16 * column + 16])
        for number, value in _fields(data[start : start + size]):
            if number == 2 and isinstance(value, bytes):
                yield _page(value)


def _footer(data: Buffer) -> tuple[int, ...]:
    return _FOOTER.unpack(data[-_FOOTER.size - 4 : -4])


def _page(message: bytes) -> Page:
    places: list[int] = []
    sizes: list[int] = []
    encoding = b""
    for number, value in _fields(message):
        if number in (1, 2):
            (places if number == 1 else sizes).extend(_numbers(value))
        elif number == 4 and isinstance(value, bytes):
            encoding = value
    return Page(tuple(zip(places, sizes, strict=True)), encoding)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a protocol buffer by number, nested ones as bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        yield key >> 3, message[at : at + size]
        at += size


def _numbers(value: bytes | int) -> list[int]:
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            return value, at
        shift += 7


def _texts(data: Buffer, page: Page) -> Iterator[bytes]:
    for match in re.finditer(_TABLE, page.encoding):
        start = match.start() - 4
        count = page.encoding[start] if start >= 0 else 0
        symbols = page.encoding[start + 8 : start + 8 + _SYMBOL_BYTES * count]
        lengths = page.encoding[start + 8 + _SYMBOL_BYTES * count :][:count]
        if count and len(lengths) == count and all(1 <= length <= _SYMBOL_BYTES for length in lengths):
            for place, size in page.buffers:
                yield from expand(data[place : place + size], symbols, lengths)


def expand(codes: bytes, symbols: bytes, lengths: bytes) -> Iterator[bytes]:
    """Codes of an FSST table as the bytes they stand for, in blocks that overlap; of what is no text, noise."""
    import numpy as np

    table = np.zeros((256, _SYMBOL_BYTES), np.uint8)
    table[: len(lengths)] = np.frombuffer(symbols, np.uint8).reshape(-1, _SYMBOL_BYTES)
    widths = np.zeros(256, np.int64)
    widths[: len(lengths)] = np.frombuffer(lengths, np.uint8)
    for start in range(0, len(codes), _BLOCK_BYTES):
        block = np.frombuffer(codes[max(0, start - 4096) : start + _BLOCK_BYTES], np.uint8)
        yield _expanded(block, table, widths)


def _expanded(codes: np.ndarray, table: np.ndarray, widths: np.ndarray) -> bytes:
    import numpy as np

    escapes = _escapes(codes)
    literal = np.zeros(len(codes), bool)
    literal[1:] = escapes[:-1]
    width = np.where(escapes, 0, np.where(literal, 1, widths[codes]))
    rows = table[codes]
    rows[literal, 0] = codes[literal]
    kept = np.arange(_SYMBOL_BYTES) < width[:, None]
    out: bytes = rows[kept].tobytes()
    return out


def _escapes(codes: np.ndarray) -> np.ndarray:
    """Which codes say that the next byte stands for itself: of a run of them every other one."""
    import numpy as np

    is_escape = codes == _ESCAPE
    place = np.arange(len(codes))
    before = np.maximum.accumulate(np.where(is_escape, -1, place))
    escapes: np.ndarray = is_escape & ((place - before) % 2 == 1)
    return escapes


def words(fst: bytes) -> Iterator[bytes]:
    """The keys of a finite state transducer as the Rust library `fst` writes it (version 3), in their order.

    Raises ValueError for one that leads in a circle or outside itself.
    """
    root = struct.unpack_from("<Q", fst, len(fst) - 12)[0]
    pending: list[tuple[int, bytes]] = [(root, b"")]
    steps = 0
    while pending:
        place, word = pending.pop()
        steps += 1
        if steps > _MOST_STEPS or place >= len(fst):
            raise ValueError("a text index that is larger than it can be")
        if place == 0:
            yield word
            continue
        final, arcs = _node(fst, place)
        if final:
            yield word
        for letter, target in arcs:
            if target >= place:
                raise ValueError("a text index that leads in a circle")
            pending.append((target, word + bytes((letter,))))


def _node(fst: bytes, place: int) -> tuple[bool, list[tuple[int, int]]]:
    """Whether a word ends at the node, and its arcs: a byte and the place it leads to. Nodes are read backwards."""
    state = fst[place]
    if state >> 6 == 3:
        common = state & 63
        letter = _COMMON[common - 1] if common else fst[place - 1]
        return False, [(letter, place - (0 if common else 1) - 1)]
    if state >> 6 == 2:
        common = state & 63
        letter = _COMMON[common - 1] if common else fst[place - 1]
        sizes_at = place - (0 if common else 1) - 1
        width, out = fst[sizes_at] >> 4, fst[sizes_at] & 15
        end = sizes_at - width - out
        return False, [(letter, _target(fst, sizes_at - width, width, end))]
    return _many(fst, place, state)


def _many(fst: bytes, place: int, state: int) -> tuple[bool, list[tuple[int, int]]]:
    final, count, at = bool(state & 64), state & 63, place
    if not count:
        at -= 1
        count = 256 if fst[at] == 1 else fst[at]
    at -= 1
    width, out = fst[at] >> 4, fst[at] & 15
    letters = at - (256 if count > _FST_INDEXED else 0) - count
    targets = letters - count * width
    end = targets - count * out - (out if final else 0)
    return final, [
        (fst[letters + count - 1 - i], _target(fst, targets + (count - 1 - i) * width, width, end))
        for i in range(count)
    ]


def _target(fst: bytes, at: int, width: int, end: int) -> int:
    step = int.from_bytes(fst[at : at + width], "little")
    return end - step if step else 0
