"""Which format a source is in, told by its content first and its name second, and why.

Content decides where it is unmistakable (magic bytes, JSON, a transcript's turns); the name decides between the
kinds of plain text, which look alike.
"""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

from memos_cli.errors import Damaged, Usage
from memos_cli.interface.sources import languages, shapes
from memos_cli.interface.sources.formats import FORMATS
from memos_cli.interface.sources.limits import Limits
from memos_cli.interface.sources.lines import guess_encoding

HTML_NAMES = (".html", ".htm", ".xhtml")
MARKDOWN_NAMES = (".md", ".markdown", ".mdx", ".mkd", ".qmd")
TEXT_NAMES = (".txt", ".text", ".log", ".rst", ".adoc", ".org")
TABLE_NAMES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv"}
HTML_START = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
MARKDOWN_SIGNS = re.compile(r"^(#{1,6} \S|```|\|.+\|\s*$|---\s*$)", re.MULTILINE)
GZIP = b"\x1f\x8b"
BINARY = ("pdf", "docx", "pptx", "xlsx", "chat-archive", "memos-kv")
OLD_OFFICE = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class Detected:
    """A format, the encoding of its text ('' when it is not text) and the evidence, in words."""

    format: str
    encoding: str
    why: str
    by_line: bool = False
    """Of JSON: whether every line is a value of its own."""


def detect(stream: BinaryIO, *, name: str, given: str | None, limits: Limits) -> Detected:
    """The format of a stream at its first byte. Raises Damaged for binary content, Usage for a false `given`."""
    head = stream.read(limits.head_bytes)
    suffix = PurePath(name).suffix.lower()
    if given is not None:
        return _insisted(given, head, suffix=suffix, whole=len(head) < limits.head_bytes)
    if document := _document(head, stream):
        return document
    encoding = _encoding(head, whole=len(head) < limits.head_bytes)
    text = head.decode(encoding, errors="ignore")
    if suffix in HTML_NAMES or HTML_START.match(text):
        return Detected("html", encoding, f"named {suffix}" if suffix in HTML_NAMES else "begins as an HTML document")
    if found := shapes.detect(text, suffix=suffix, rest=_Rest(head, stream), encoding=encoding, limits=limits):
        return Detected(found.format, encoding, found.why, found.by_line)
    format, why = _plain(text, suffix=suffix, name=name)
    return Detected(format, encoding, why)


def is_binary(head: bytes, *, whole: bool) -> bool:
    """Whether content that begins so is none that memos reads: not text and not a document it knows."""
    if head.startswith(GZIP):
        head, whole = _inflated(head), False
    if head.startswith((b"%PDF-", b"PK\x03\x04")):
        return False
    return guess_encoding(head, whole=whole) is None


def _inflated(head: bytes) -> bytes:
    """The first bytes of what a gzip file holds; '' when it is broken, which its reader will say."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 4096)
    except zlib.error:
        return b""


def _insisted(given: str, head: bytes, *, suffix: str, whole: bool) -> Detected:
    name = given.partition(":")[0]
    if name not in FORMATS:
        raise Usage(f"unknown format {given!r}; there are {', '.join(FORMATS)}")
    if name in BINARY:
        return Detected(name, "", "as asked")
    if given == "code":
        given = f"code:{languages.BY_SUFFIX.get(suffix, 'plain')}"
    encoding = _encoding(head, whole=whole)
    by_line = name == "jsonl" or (name != "json" and shapes.has_value_lines(head.decode(encoding, errors="ignore")))
    return Detected(given, encoding, "as asked", by_line)


def _encoding(head: bytes, *, whole: bool) -> str:
    encoding = guess_encoding(head, whole=whole)
    if encoding is None:
        raise Damaged("binary content, in no format that memos reads", "convert it to text, markdown or pdf first")
    return encoding


def _document(head: bytes, stream: BinaryIO) -> Detected | None:
    if b"%PDF-" in head[:1024]:
        return Detected("pdf", "", "begins with %PDF-")
    if head.startswith(OLD_OFFICE):
        raise Damaged("an old binary Office file (or an encrypted one)", "save it as docx, xlsx, pptx or pdf")
    if head.startswith(b"{\\rtf"):
        raise Damaged("a rich text (rtf) file", "save it as docx, html or text")
    if head.startswith(b"PK\x03\x04"):
        from memos_cli.interface.sources import archive

        kind = archive.kind(head, stream)
        return Detected(kind, "", f"a zip archive with the parts of a {kind}")
    return None


class _Rest(io.RawIOBase):
    """The stream from its first byte again: the head that was looked at, then what follows."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._head[: len(buffer)] if self._head else self._stream.read(len(buffer))
        self._head = self._head[len(data) :] if self._head else b""
        buffer[: len(data)] = data
        return len(data)


def _plain(text: str, *, suffix: str, name: str) -> tuple[str, str]:
    if suffix in TABLE_NAMES:
        return TABLE_NAMES[suffix], f"named {suffix}"
    if language := languages.of(name, text):
        return f"code:{language}", f"source code in {language}"
    return _prose(text, suffix=suffix)


def _prose(text: str, *, suffix: str) -> tuple[str, str]:
    from memos_cli.interface.sources import transcripts

    is_markdown = suffix in MARKDOWN_NAMES
    if why := transcripts.recognise(text, strict=is_markdown):
        return "transcript", why
    if is_markdown:
        return "markdown", f"named {suffix}"
    if suffix in TEXT_NAMES:
        return "text", f"named {suffix}"
    if separator := shapes.table_separator(text):
        return ("tsv" if separator == "\t" else "csv"), f"every line has the same number of {separator!r}"
    if MARKDOWN_SIGNS.search(text):
        return "markdown", "has markdown headings, fences or tables"
    return "text", "plain text"
