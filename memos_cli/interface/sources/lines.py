"""Bytes to lines: encodings, byte order marks, long lines, gzip. Knows nothing of formats."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from memos_cli.errors import Damaged
from memos_cli.interface.sources.limits import MIB, Limits, Malformed, human

Notice = Callable[[str], None]
Line = tuple[int, str]
"""A line's number, counted from 1, and its text without the line break."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16", "utf-32")


def guess_encoding(head: bytes, *, whole: bool) -> str | None:
    """The encoding of a text that begins with `head`, or None when it is not text. `whole`: nothing follows it."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return _guess_legacy(head)
    return "utf-8"


def _guess_legacy(head: bytes) -> str | None:
    # More than a few control characters means code or pixels, for which a single-byte encoding would always "fit".
    controls = sum(byte < 9 or 13 < byte < 32 and byte != 27 for byte in head)
    if controls > len(head) / 200:
        return None
    from charset_normalizer import from_bytes

    best = from_bytes(head).best()
    return best.encoding if best else None


class Inflated(io.RawIOBase):
    """A gzip stream as plain bytes; Damaged when it is cut short, broken, or unpacks to more than the allowed ratio."""

    def __init__(self, packed: BinaryIO, *, packed_bytes: int, limits: Limits) -> None:
        self._plain = gzip.GzipFile(fileobj=packed)
        self._allowed = max(64 * MIB, packed_bytes * limits.gzip_ratio)
        self._ratio = limits.gzip_ratio
        self._taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._plain.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise Damaged(f"the gzip stream is broken ({error})") from error
        self._taken += len(data)
        if self._taken > self._allowed:
            raise Damaged(f"unpacks to more than {self._ratio} times its size, which memos refuses")
        buffer[: len(data)] = data
        return len(data)


def read_lines(
    stream: BinaryIO, *, encoding: str, limits: Limits, on_bad: Callable[[Malformed], None]
) -> Iterator[Line]:
    """The lines of a stream, each at most `limits.line_bytes`.

    A line in another encoding goes to `on_bad` and is left out. Raises Malformed for a line past the cap or with a
    NUL in it: what follows is then not worth reading.
    """
    if encoding.startswith(WIDE):
        yield from _read_wide(stream, encoding=encoding, limits=limits)
        return
    number = 0
    cap = limits.line_bytes
    start = encoding
    while raw := stream.readline(cap + 1):
        number += 1
        if len(raw) > cap:
            raise too_long(number, limits)
        if b"\0" in raw:
            raise Malformed(f"line {number}", "a NUL byte: this is not text")
        try:
            text = raw.decode(start)
        except UnicodeDecodeError as error:
            on_bad(Malformed(f"line {number}", f"not {encoding}: {error.reason} at byte {error.start} of the line"))
            continue
        finally:
            start = "utf-8" if start == "utf-8-sig" else start
        yield number, text.rstrip("\r\n")


def _read_wide(stream: BinaryIO, *, encoding: str, limits: Limits) -> Iterator[Line]:
    reader = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
    number = 0
    try:
        while text := reader.readline(limits.line_bytes + 1):
            number += 1
            if len(text) > limits.line_bytes:
                raise too_long(number, limits)
            yield number, text.rstrip("\r\n")
    except UnicodeError as error:
        raise Malformed(f"line {number + 1}", f"not {encoding}: {error}") from error
    finally:
        reader.detach()


def too_long(number: int, limits: Limits) -> Malformed:
    """The error for a line past the cap."""
    return Malformed(
        f"line {number}",
        f"longer than the cap of {human(limits.line_bytes)} a line",
        "split it into lines",
    )
