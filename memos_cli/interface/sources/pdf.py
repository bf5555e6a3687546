"""PDF by page: the text of each page by paragraph, with the page's number. Knows no scans: pixels have no text."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from memos_cli.cube.piece import Piece
from memos_cli.errors import Damaged
from memos_cli.interface.sources import prose
from memos_cli.interface.sources.formats import require
from memos_cli.interface.sources.limits import Malformed
from memos_cli.interface.sources.opened import Opened

HYPHEN = re.compile(r"(?<=[a-zß-ÿ])-\n(?=[a-zß-ÿ])")


def read(opened: Opened) -> Iterator[Piece]:
    """The pieces of all pages; a page that cannot be read goes to `opened.bad`. Damaged for a broken or locked file."""
    pypdf = require("pypdf", format="pdf")
    with _silence():
        document = _open(pypdf, opened.data())
        wordless = 0
        for number in range(1, len(document.pages) + 1):
            text = _text(document, number, opened)
            wordless += not text.strip()
            for piece in prose.cut_lines(enumerate(HYPHEN.sub("", text).split("\n"), start=1), page=number):
                # Lines of a page are no lines of the file.
                yield Piece(piece.text, piece.kind, piece.section, page=number)
        if wordless:
            opened.notice(f"{wordless} of {len(document.pages)} pages hold no text (scans?)")


def _open(pypdf: ModuleType, data: bytes) -> Any:
    try:
        document = pypdf.PdfReader(io.BytesIO(data), strict=False)
        if document.is_encrypted and not document.decrypt(""):
            raise Damaged("the pdf is encrypted with a password", "save a copy without one")
        len(document.pages)
    except Damaged:
        raise
    except ImportError as error:
        raise Damaged(f"the pdf is encrypted in a way that needs another package ({error})") from error
    except _errors(pypdf) as error:
        raise Damaged(f"a broken pdf ({error})") from error
    return document


def _text(document: Any, number: int, opened: Opened) -> str:
    """The text of a page, '' when it is broken and the user goes on."""
    pypdf = require("pypdf", format="pdf")
    try:
        return str(document.pages[number - 1].extract_text())
    except _errors(pypdf) as error:
        opened.bad(Malformed(f"page {number}", f"cannot be read ({type(error).__name__}: {error})"))
    return ""


def _errors(pypdf: ModuleType) -> tuple[type[Exception], ...]:
    """What pypdf raises on broken files: its own errors, and those of Python where it trusts the file too much."""
    return (
        pypdf.errors.PyPdfError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        AssertionError,
        OSError,
        RecursionError,
        ZeroDivisionError,
        OverflowError,
        MemoryError,
        NotImplementedError,
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Keep pypdf's log of every oddity off stderr: a library that is asked for text must not talk."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
