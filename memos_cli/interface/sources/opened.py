"""What a format's reader is given: the plain bytes of one source, and whom to tell of trouble."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from memos_cli.cube.losses import Losses
from memos_cli.errors import Damaged
from memos_cli.interface.sources.limits import Limits, Malformed, human
from memos_cli.interface.sources.lines import Line, Notice, read_lines

CHUNK_BYTES = 1 << 16


def decode_chunks(stream: BinaryIO, encoding: str) -> Iterator[str]:
    """A stream's text in chunks of no particular size, never empty. Raises Damaged where it is not in `encoding`."""
    decoder = codecs.getincrementaldecoder(encoding)()
    while True:
        data = stream.read(CHUNK_BYTES)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise Damaged(f"not {encoding}: {error.reason}") from error
        if text:
            yield text
        if not data:
            return


@dataclass(frozen=True, slots=True)
class Opened:
    """A source at its first byte, gzip already undone. `bad` raises what it is given, or notes it and returns."""

    stream: BinaryIO
    name: str
    stem: str
    """The file's name without its suffix: the module of source code."""
    format: str
    encoding: str
    by_line: bool
    """Of JSON: whether every line is a value of its own."""
    limits: Limits
    bad: Callable[[Malformed], None]
    notice: Notice
    losses: Losses = field(default_factory=Losses)
    """What the format has and pieces have not, counted as it is met."""

    def lines(self) -> Iterator[Line]:
        """Numbered lines, one at a time."""
        return read_lines(self.stream, encoding=self.encoding, limits=self.limits, on_bad=self.bad)

    def text(self) -> str:
        """The whole text, for readers that need it all; at most `limits.tree_bytes` (larger files go by lines)."""
        return "".join(line + "\n" for _, line in self.lines())

    def data(self) -> bytes:
        """All bytes; Damaged past `limits.document_bytes`."""
        cap = self.limits.document_bytes
        data = self.stream.read(cap + 1)
        if len(data) > cap:
            raise Damaged(f"larger than the cap of {human(cap)} for a {self.format} document", "split the document")
        return data
