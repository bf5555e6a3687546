"""Server-sent events, as far as language models use them: the data of each event, from bytes as they come.

Lines end in LF or CRLF; comments, names and ids of events are passed over. After the WHATWG's rules for event streams.
Knows nothing of HTTP or of what the data mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def data_of(parts: Iterable[bytes]) -> Iterator[str]:
    """The data of one event after another; an event that is not ended by an empty line is left out."""
    data: list[str] = []
    for line in _lines(parts):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    for part in parts:
        first, *rest = part.split(b"\n")
        held.append(first)
        for following in rest:
            yield b"".join(held).removesuffix(b"\r")
            held = [following]
