"""Office documents are zip archives: which kind one is, whether it is safe to unpack, and opening it.

Refused before any parser sees them: too many or too large parts, parts that unpack to far more than they take (also
when the directory lies about it), encrypted parts, and document type declarations, which is where entity bombs live.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from memos_cli.errors import Damaged
from memos_cli.interface.sources.formats import require
from memos_cli.interface.sources.limits import LIMITS, MIB, Limits, human
from memos_cli.interface.sources.opened import Opened

KINDS = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}
XML_NAMES = (".xml", ".rels", ".vml")
READ_BYTES = 1 << 18
DECLARED_WITHIN_BYTES = 4096
MODULES = {"docx": "docx", "pptx": "pptx", "xlsx": "openpyxl"}
# The parsers trust the XML of a document; what they stumble over in a broken one is whatever Python raises there.
BROKEN = (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OSError,
    AssertionError,
    RecursionError,
    SyntaxError,
)


def kind(head: bytes, stream: BinaryIO) -> str:
    """'docx', 'pptx', 'xlsx' or 'chat-archive', by the names of the parts. Raises Damaged for any other archive."""
    data = head + stream.read(LIMITS.document_bytes)
    if len(data) > LIMITS.document_bytes:
        cap = human(LIMITS.document_bytes)
        raise Damaged(f"an archive larger than the cap of {cap}", "unpack it and name the files, as conversations.json")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Damaged(f"a broken zip archive ({error})") from error
    if "[Content_Types].xml" in names:
        for name in names:
            for prefix, found in KINDS.items():
                if name.startswith(prefix):
                    return found
    from memos_cli.interface.sources import zipped

    if zipped.is_export(names):
        zipped.check_names(names)
        return zipped.FORMAT
    raise Damaged(
        "a zip archive that is no docx, pptx or xlsx, and no export of ChatGPT or Claude (no conversations.json)",
        "unpack it and name the folder",
    )


def check(data: bytes, *, limits: Limits) -> None:
    """Raises Damaged unless every part can be unpacked within the limits and holds no document type declaration."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > limits.archive_entries:
                raise Damaged(f"{len(entries)} parts in the archive, the cap is {limits.archive_entries}")
            _check_declared(entries, limits=limits)
            left = limits.archive_bytes
            for entry in entries:
                left -= _check_part(archive, entry, left=left, limits=limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise Damaged(f"a broken zip archive ({error})") from error


def _check_declared(entries: list[zipfile.ZipInfo], *, limits: Limits) -> None:
    total = sum(entry.file_size for entry in entries)
    if total > limits.archive_bytes:
        raise Damaged(f"unpacks to {human(total)}, the cap is {human(limits.archive_bytes)}: a zip bomb?")
    for entry in entries:
        if entry.file_size > max(MIB, entry.compress_size * limits.archive_ratio):
            raise _bomb(entry, limits)


def _check_part(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, *, left: int, limits: Limits) -> int:
    """How many bytes a part really unpacks to; the directory's word is not taken for it."""
    size = 0
    is_xml = entry.filename.lower().endswith(XML_NAMES)
    with archive.open(entry) as part:
        while data := part.read(READ_BYTES):
            if is_xml and size < DECLARED_WITHIN_BYTES and b"<!DOCTYPE" in _narrow(data[:DECLARED_WITHIN_BYTES]):
                raise Damaged(f"{entry.filename} declares a document type, which an Office file never does")
            size += len(data)
            if size > max(MIB, entry.compress_size * limits.archive_ratio) or size > left:
                raise _bomb(entry, limits)
    return size


def _narrow(data: bytes) -> bytes:
    # UTF-16 XML would hide the declaration between NULs.
    return data.replace(b"\0", b"")


def _bomb(entry: zipfile.ZipInfo, limits: Limits) -> Damaged:
    return Damaged(f"{entry.filename} unpacks to more than {limits.archive_ratio} times its size: a zip bomb?")


def open_checked(opened: Opened, format: str, function: str, **options: Any) -> Any:
    """What the parser's `function` makes of a document. Raises Damaged for a broken or unsafe one, or MissingExtra."""
    module = require(MODULES[format], format=format)
    data = opened.data()
    check(data, limits=opened.limits)
    with naming_damage(format):
        return getattr(module, function)(io.BytesIO(data), **options)


@contextmanager
def naming_damage(format: str) -> Iterator[None]:
    """Turn what a parser raises on a broken document into Damaged."""
    try:
        yield
    except BROKEN as error:
        raise Damaged(f"a broken {format} ({type(error).__name__}: {error})") from error
    except zipfile.BadZipFile as error:
        raise Damaged(f"a broken {format} ({error})") from error
