"""Sources written to a folder and read back, and documents made by the libraries that others make them with."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from memos_cli.cube.piece import Piece
from memos_cli.interface import sources
from tests.conftest import Memos, ok


def source(folder: Path, name: str, content: str | bytes, **options: object) -> sources.Source:
    """The one source of a file that is written first."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (found,) = sources.expand([name], base=folder, stdin=None, **options)  # type: ignore[arg-type]
    return found


def read(folder: Path, name: str, content: str | bytes, **options: object) -> list[Piece]:
    """The pieces of a file that is written first."""
    return list(source(folder, name, content, **options).pieces())


def three_of_a_section(memos: Memos) -> None:
    """A cube `a.cube` of three memories, each in the windows of the others."""
    Path("a.md").write_text(
        "# H\n\nThe badge opens the gate.\n\nThe visitor code is walnut.\n\nThe alarm rings at ten.\n"
    )
    ok(memos("ingest", "a.cube", "a.md", "--embedder", "none"))


def json_lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def brief(pieces: Sequence[Piece]) -> list[tuple[str, str, str]]:
    """What a piece is, says and stands under."""
    return [(piece.kind, piece.text, " > ".join(piece.section)) for piece in pieces]


def lines(pieces: Sequence[Piece]) -> list[tuple[int | None, int | None]]:
    return [(piece.line_start, piece.line_end) for piece in pieces]


def pdf(*pages: Sequence[str]) -> bytes:
    """A pdf with these lines on its pages, written by hand: nothing here makes text pdfs."""
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids: list[int] = []
    for page in pages:
        shown = b" ".join(b"(%s) Tj T*" % line.encode("latin-1") for line in page)
        stream = b"BT /F1 12 Tf 14 TL 50 700 Td " + shown + b" ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        font = b"/Resources << /Font << /F1 3 0 R >> >>"
        box = b"/MediaBox [0 0 612 792]"
        objects.append(b"<< /Type /Page /Parent 2 0 R %s /Contents %d 0 R %s >>" % (box, len(objects), font))
        kids.append(len(objects))
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (listed, len(kids))
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return out + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def docx() -> bytes:
    import docx as word

    document = word.Document()
    document.add_heading("Guide", 0)
    document.add_heading("Setup", 1)
    document.add_paragraph("Install it first.")
    document.add_paragraph("The steps are:")
    document.add_paragraph("download", style="List Bullet")
    document.add_paragraph("unpack", style="List Number")
    document.add_heading("People", 2)
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, [("Name", "Age"), ("Ann", "31")], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_heading("Appendix", 1)
    return _saved(document)


def pptx() -> bytes:
    import pptx as slides

    deck = slides.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Plan"
    first.placeholders[1].text = "Ship in May\nOwner: Ann"
    first.notes_slide.notes_text_frame.text = "Say hello."
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Prices"
    table = second.shapes.add_table(2, 2, 0, 0, 900000, 900000).table
    for row, cells in enumerate([("item", "price"), ("tea", "2")]):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    return _saved(deck)


def xlsx() -> bytes:
    from datetime import datetime

    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "People"
    for row in [("name", "born", "score"), ("Ann", datetime(2020, 1, 2), 3.0), (None, None, None), ("Bob", None, 2.5)]:
        book.active.append(row)
    book.create_sheet("Numbers").append([1, 2])
    return _saved(book)


def _saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def repacked(data: bytes, parts: dict[str, bytes]) -> bytes:
    """An archive with some parts replaced or added, compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in parts:
                new.writestr(name, old.read(name))
        for name, body in parts.items():
            new.writestr(name, body)
    return out.getvalue()
