"""What a source may cost at most, and the errors that say so."""

from __future__ import annotations

from dataclasses import dataclass

from memos_cli.errors import Damaged

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on hostile or hopeless input. Files read line by line or element by element have no cap of their own."""

    line_bytes: int = 16 * MIB
    element_bytes: int = 64 * MIB
    """One value of a JSON file: an element of a top-level array, or the whole when it is one object."""
    tree_bytes: int = 16 * MIB
    """Files whose parser builds a tree of the whole (markdown, code); larger ones are read as plain text."""
    document_bytes: int = 256 * MIB
    """pdf, docx, pptx, xlsx."""
    archive_bytes: int = 1024 * MIB
    """What the parts of a docx, pptx or xlsx may unpack to, together."""
    archive_ratio: int = 200
    """How many times its packed size a part may unpack to, once past a mebibyte."""
    archive_entries: int = 20_000
    gzip_ratio: int = 500
    depth: int = 100
    """How deep JSON may nest."""
    head_bytes: int = MIB // 4
    """How much is looked at to tell a format and an encoding."""


LIMITS = Limits()


def human(size_bytes: int) -> str:
    """A size in the largest unit that leaves at least 1, such as '16 MiB'."""
    for unit, factor in (("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", 1024)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.4g} {unit}"
    return f"{size_bytes} bytes"


class Malformed(Damaged):
    """One item of a source is unreadable; `place` says which, such as 'line 7', and `reason` why."""

    def __init__(self, place: str, reason: str, hint: str | None = None) -> None:
        super().__init__(f"{place}: {reason}", hint)
        self.place = place
        self.reason = reason


class Changed(Damaged):
    """A source is no longer what it was when reading began. Never skipped over: the pieces before it are in doubt."""
