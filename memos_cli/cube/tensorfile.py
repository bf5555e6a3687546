"""Safetensors files, written so that equal tensors give equal bytes, and read with suspicion.

A file is a length, a JSON header and raw tensors. Ours are stricter than the format asks, and any safetensors reader
opens them: the header is canonical JSON and holds the sha256 of the data and of itself, so that a flipped bit is seen;
tensors follow one another without a gap, the widest numbers first, each where its type may be mapped. All of it is
checked, within bounds, before a byte of a tensor is read. Reads and writes plain buffers: bf16 has no numpy type, so
it travels as uint16 under its name. Knows nothing of what the tensors are for.

What other programs write has no seals, begins its data anywhere and may hold single numbers. Such a file is read and
written with `sealed=False`; everything else is checked as before.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from memos_cli.cube.digest import canonical, encode
from memos_cli.errors import Damaged, NotFound

if TYPE_CHECKING:
    import numpy as np

HEADER_LIMIT_BYTES = 4 << 20
TENSOR_LIMIT = 8192
DIMENSION_LIMIT = 8
FILE_LIMIT_BYTES = 1 << 42
ALIGNMENT_BYTES = 64
DATA_SEAL = "memos.data_sha256"
HEADER_SEAL = "memos.header_sha256"
# Name in the file, bytes of a number, and the numpy type it is seen as.
DTYPES = {"F32": (4, "<f4"), "I32": (4, "<i4"), "F16": (2, "<f2"), "BF16": (2, "<u2"), "U8": (1, "|u1")}

_METADATA = "__metadata__"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}(?:\.[A-Za-z0-9_-]{1,64}){0,15}")
_LENGTH = struct.Struct("<Q")
_BLOCK_BYTES = 8 << 20


class Tensor(NamedTuple):
    """Numbers to be written: a name of `DTYPES`, the shape, and a contiguous little-endian buffer of them."""

    dtype: str
    shape: tuple[int, ...]
    data: Any


class Span(NamedTuple):
    """Where a tensor lies in its file: dtype, shape, and the range in bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Head:
    """The checked header of a file: its metadata, the span of every tensor in the file's order, where data begins."""

    path: Path
    metadata: dict[str, str]
    spans: dict[str, Span]
    data_offset: int
    size_bytes: int


class Mapped:
    """A file's tensors as views of the file itself: no copy, and a page is read when it is touched.

    The mapping is private: what is written into a view never reaches the file, yet other views of the same tensor
    show it, so treat views as read-only. The mapping lasts as long as any of them. Never shorten a file that is mapped.
    """

    def __init__(self, head: Head, stream: BinaryIO) -> None:
        self.head = head
        # ACCESS_COPY, not ACCESS_READ: torch warns of a buffer that it may not write.
        self._map = mmap.mmap(stream.fileno(), head.size_bytes, access=mmap.ACCESS_COPY)

    def buffer(self, name: str) -> memoryview:
        """The bytes of the tensor `name`."""
        span = self.head.spans[name]
        return memoryview(self._map)[span.offset : span.offset + span.size_bytes]

    def array(self, name: str) -> np.ndarray:
        """The tensor `name` in its shape; BF16 as uint16."""
        import numpy as np

        span = self.head.spans[name]
        return np.frombuffer(self.buffer(name), DTYPES[span.dtype][1]).reshape(span.shape)


def read_head(path: Path, *, sealed: bool = True) -> Head:
    """The header of the file at `path`, checked; no tensor is read. Raises NotFound, Damaged."""
    with _open(path) as stream:
        return _head(path, stream, sealed=sealed)


def open_mapped(path: Path, *, sealed: bool = True) -> Mapped:
    """The file at `path` with its header checked, mapped. Raises NotFound, Damaged."""
    with _open(path) as stream:
        return Mapped(_head(path, stream, sealed=sealed), stream)


def check_data(path: Path) -> None:
    """Hash the data of the file at `path` and raise Damaged unless it is what the header says."""
    with _open(path) as stream:
        head = _head(path, stream, sealed=True)
        stream.seek(head.data_offset)
        sha256 = hashlib.sha256()
        while block := stream.read(_BLOCK_BYTES):
            sha256.update(block)
    if sha256.hexdigest() != head.metadata[DATA_SEAL]:
        found = f"found {sha256.hexdigest()[:16]}: its tensors were changed"
        raise damaged(path, f"data with sha256 {head.metadata[DATA_SEAL][:16]}, {found}")


def write(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor], *, sealed: bool = True) -> None:
    """Write `tensors` to a new file at `path`: beside it first, then renamed. Raises Damaged for what cannot be read.

    Equal arguments give equal bytes; both seals are added to `metadata`, unless it is not to be `sealed`, for a program
    that takes no other fields than its own. The caller makes it durable.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-DTYPES[item[1].dtype][0], item[0]))
    head = _encode(metadata, ordered, sealed=sealed)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(head)
            for _, tensor in ordered:
                stream.write(_bytes(tensor))
        # What a reader would refuse is never given its name.
        read_head(temporary, sealed=sealed)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def annotate(path: Path, field: str, text: str) -> None:
    """Puts a file in the place of the sealed one at `path`, with one more field in its header, the numbers the same.

    Raises as `read_head` and `write` do.
    """
    mapped = open_mapped(path)
    said = {name: value for name, value in mapped.head.metadata.items() if name not in (DATA_SEAL, HEADER_SEAL)}
    spans = mapped.head.spans.items()
    tensors = {name: Tensor(span.dtype, span.shape, mapped.buffer(name)) for name, span in spans}
    write(path, {**said, field: text}, tensors)


def damaged(place: Path | str, expected: str) -> Damaged:
    """The error of a file that is not as it should be."""
    return Damaged(f"{place}: expected {expected}", hint="delete the file and make this form of the memory again")


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.data).cast("B")


def _encode(metadata: Mapping[str, str], ordered: list[tuple[str, Tensor]], *, sealed: bool) -> bytes:
    """The length and the header of these tensors, in their order."""
    entries: dict[str, Any] = {}
    sha256, end = hashlib.sha256(), 0
    for name, tensor in ordered:
        data = _bytes(tensor)
        sha256.update(data)
        begin, end = end, end + data.nbytes
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    entries[_METADATA] = dict(metadata)
    if sealed:
        entries[_METADATA][DATA_SEAL] = sha256.hexdigest()
        entries[_METADATA][HEADER_SEAL] = hashlib.sha256(canonical(entries)).hexdigest()
    text = canonical(entries)
    text += b" " * (-(_LENGTH.size + len(text)) % ALIGNMENT_BYTES)
    return _LENGTH.pack(len(text)) + text


def _open(path: Path) -> BinaryIO:
    """The file at `path` for reading; never a link, a pipe or a folder."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"no file {path}") from error
    except OSError as error:
        raise damaged(path, f"a file that can be read, found otherwise ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise damaged(path, "an ordinary file")
    return os.fdopen(number, "rb")


def _head(path: Path, stream: BinaryIO, *, sealed: bool) -> Head:
    size_bytes = os.fstat(stream.fileno()).st_size
    text = _text(path, stream, size_bytes, sealed=sealed)
    value = _parse(path, text)
    metadata = _metadata(path, value, sealed=sealed)
    data_offset = _LENGTH.size + len(text)
    spans = _spans(path, value, data_offset, size_bytes, sealed=sealed)
    if sealed:
        _check_seal(path, text, {_METADATA: metadata, **value})
    return Head(path, metadata, spans, data_offset, size_bytes)


def _text(path: Path, stream: BinaryIO, size_bytes: int, *, sealed: bool) -> bytes:
    """The header's bytes; its length is believed only within bounds."""
    if not _LENGTH.size + 2 <= size_bytes <= FILE_LIMIT_BYTES:
        raise damaged(path, f"from 10 to {FILE_LIMIT_BYTES:,} bytes, found {size_bytes:,}")
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    if length > HEADER_LIMIT_BYTES:
        raise damaged(path, f"a header of at most {HEADER_LIMIT_BYTES:,} bytes, found one of {length:,}")
    if _LENGTH.size + length > size_bytes:
        raise damaged(path, f"a header of {length:,} bytes, found the file cut short at {size_bytes:,}")
    if sealed and (_LENGTH.size + length) % ALIGNMENT_BYTES:
        raise damaged(path, f"data at a multiple of {ALIGNMENT_BYTES}, found it at {_LENGTH.size + length:,}")
    return stream.read(length)


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_float=_no, parse_constant=_no)
    # Long numbers raise ValueError, deep nesting RecursionError.
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"a header of JSON, found otherwise ({error})"[:300]) from error
    if not isinstance(value, dict):
        raise damaged(path, f"an object as the header, found a {type(value).__name__}")
    if len(value) > TENSOR_LIMIT + 1:
        raise damaged(path, f"at most {TENSOR_LIMIT} tensors, found {len(value):,}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, inner in pairs:
        if name in value:
            raise ValueError(f"{name[:80]!r} is there twice")
        value[name] = inner
    return value


def _no(text: str) -> Any:
    raise ValueError(f"the number {text[:40]} is not whole")


def _metadata(path: Path, value: dict[str, Any], *, sealed: bool) -> dict[str, str]:
    """The metadata, taken out of `value`; texts only, with both seals where it is to be sealed, else perhaps none."""
    metadata = value.pop(_METADATA, None if sealed else {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise damaged(path, f"texts under {_METADATA}")
    for seal in (DATA_SEAL, HEADER_SEAL) if sealed else ():
        if not re.fullmatch(r"[0-9a-f]{64}", metadata.get(seal, "")):
            raise damaged(path, f"64 hex digits as {seal}, found {metadata.get(seal)!r:.80}")
    return metadata


def _check_seal(path: Path, text: bytes, value: dict[str, Any]) -> None:
    """Whether the header is canonical and is the one that was sealed. Its parts are checked, so only they are there."""
    try:
        plain = encode(value)
    except Damaged as error:
        raise damaged(path, f"a header that canonical JSON can hold ({error.message})"[:300]) from error
    if plain + b" " * (len(text) - len(plain)) != text or len(text) - len(plain) >= ALIGNMENT_BYTES:
        raise damaged(path, "canonical JSON (sorted, without spaces between) and fewer than 64 spaces after it")
    found = value[_METADATA][HEADER_SEAL]
    # the other seal stands before it, by name; quotation marks that are not escaped stand around members only
    before, _, after = plain.partition(f',"{HEADER_SEAL}":"{found}"'.encode())
    seal = hashlib.sha256(before + after).hexdigest()
    if seal != found:
        raise damaged(path, f"a header sealed with sha256 {seal[:16]}, found {found[:16]}: the header was changed")


def _spans(path: Path, value: dict[str, Any], data_offset: int, size_bytes: int, *, sealed: bool) -> dict[str, Span]:
    """Every tensor's place, in the order of the file; they must cover the data, none over another."""
    low = 1 if sealed else 0
    spans = {name: _span(path, name, entry, data_offset, low=low) for name, entry in value.items()}
    spans = dict(sorted(spans.items(), key=lambda item: item[1].offset))
    end = data_offset
    for name, span in spans.items():
        if span.offset + span.size_bytes > size_bytes:
            last = span.offset + span.size_bytes
            raise damaged(path, f"tensor {name} up to byte {last:,}, found the file cut short at {size_bytes:,}")
        if span.offset != end:
            word = "overlap" if span.offset < end else "leave a gap"
            raise damaged(path, f"tensor {name} at byte {end:,}, found it at {span.offset:,}: tensors {word}")
        if sealed and span.offset % DTYPES[span.dtype][0]:
            raise damaged(path, f"tensor {name} at a multiple of its number's size, found it at {span.offset:,}")
        end += span.size_bytes
    if end != size_bytes:
        raise damaged(path, f"{end:,} bytes, found {size_bytes:,}: there is something after the last tensor")
    return spans


def _span(path: Path, name: str, entry: Any, data_offset: int, *, low: int) -> Span:
    """A tensor's place, with at least `low` dimensions."""
    if _NAME.fullmatch(name) is None:
        raise damaged(path, f"plain names of tensors, found {name!r:.80}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise damaged(path, f"dtype, shape and data_offsets of tensor {name}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise damaged(path, f"one of {', '.join(DTYPES)} as the dtype of {name}, found {dtype!r:.40}")
    if not _are_whole(shape, 1) or not low <= len(shape) <= DIMENSION_LIMIT:
        raise damaged(path, f"from {low} to {DIMENSION_LIMIT} dimensions of tensor {name}, none of them 0")
    if not _are_whole(offsets, 0) or len(offsets) != 2:
        raise damaged(path, f"where tensor {name} begins and ends, found {offsets!r:.80}")
    size_bytes = math.prod(shape) * DTYPES[dtype][0]
    if offsets[1] - offsets[0] != size_bytes:
        found = f"found {offsets[1] - offsets[0]:,}"
        raise damaged(path, f"{size_bytes:,} bytes of tensor {name} ({dtype} {shape}), {found}")
    return Span(dtype, tuple(shape), data_offset + offsets[0], size_bytes)


def _are_whole(values: Any, low: int) -> bool:
    return isinstance(values, list) and all(type(value) is int and low <= value <= FILE_LIMIT_BYTES for value in values)
