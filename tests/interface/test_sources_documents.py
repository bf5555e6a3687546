"""pdf, docx, pptx and xlsx made by real libraries; broken, locked and hostile ones are refused before they cost."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, MissingExtra
from memos_cli.interface.sources import Limits
from tests.interface.samples import brief, docx, pdf, pptx, read, repacked, source, xlsx

pytest.importorskip("pypdf", reason="the documents extra is not installed")

PACKAGES = {"a.pdf": "pypdf", "a.docx": "docx", "a.pptx": "pptx", "a.xlsx": "openpyxl"}


def made(name: str) -> bytes:
    return {"a.pdf": lambda: pdf(["Hello."]), "a.docx": docx, "a.pptx": pptx, "a.xlsx": xlsx}[name]()


def test_a_pdf_is_read_by_page(tmp_path: Path) -> None:
    pages = pdf(["Opening hours are long-", "er in May.", "", "Tea: 2 euro"], [], ["The end."])
    notices: list[str] = []
    pieces = list(source(tmp_path, "a.pdf", pages).pieces(on_notice=notices.append))
    assert [(piece.page, piece.kind, piece.text) for piece in pieces] == [
        (1, "paragraph", "Opening hours are longer in May.\nTea: 2 euro"),
        (3, "paragraph", "The end."),
    ]
    assert {piece.line_start for piece in pieces} == {None}
    assert notices == ["a.pdf: 1 of 3 pages hold no text (scans?)"]


def test_a_docx_is_read_by_its_styles(tmp_path: Path) -> None:
    assert brief(read(tmp_path, "a.docx", docx())) == [
        ("paragraph", "Install it first.", "Guide > Setup"),
        ("paragraph", "The steps are:", "Guide > Setup"),
        ("bullet", "download", "Guide > Setup > The steps are"),
        ("bullet", "unpack", "Guide > Setup > The steps are"),
        ("row", "Name: Ann; Age: 31", "Guide > Setup > People"),
        ("paragraph", "Appendix", "Guide"),
    ]


def test_a_pptx_is_read_by_slide(tmp_path: Path) -> None:
    pieces = read(tmp_path, "a.pptx", pptx())
    assert brief(pieces) == [
        ("bullet", "Ship in May", "Plan"),
        ("pair", "Owner: Ann", "Plan"),
        ("paragraph", "Say hello.", "Plan > Notes"),
        ("row", "item: tea; price: 2", "Prices"),
    ]
    assert [piece.page for piece in pieces] == [1, 1, 1, 2]


def test_an_xlsx_is_read_by_row(tmp_path: Path) -> None:
    pieces = read(tmp_path, "a.xlsx", xlsx())
    assert brief(pieces) == [
        ("row", "name: Ann; born: 2020-01-02; score: 3", "People"),
        ("row", "name: Bob; score: 2.5", "People"),
        ("row", "1; 2", "Numbers"),
    ]
    assert [(piece.page, piece.line_start) for piece in pieces] == [(1, 2), (1, 4), (2, 1)]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_format_is_told_by_the_content(tmp_path: Path, name: str) -> None:
    assert source(tmp_path, "unnamed", made(name)).format == name.removeprefix("a.")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_parser_is_named_with_its_install_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made(name)
    monkeypatch.setitem(__import__("sys").modules, PACKAGES[name], None)
    with pytest.raises(MissingExtra, match=f"needs the package {PACKAGES[name]}") as raised:
        read(tmp_path, name, data)
    assert raised.value.hint == "pip install 'memos[documents]'"


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_document_that_is_cut_short_is_refused_or_read_as_far_as_it_goes(
    tmp_path: Path, name: str, part: float
) -> None:
    data = made(name)
    found = source(tmp_path, name, data[: int(len(data) * part)])
    if name == "a.pdf":
        # A pdf's own index can be rebuilt, so what was there may be read.
        with suppress(Damaged):
            list(found.pieces())
        return
    with pytest.raises(Damaged, match="broken"):
        list(found.pieces())


@pytest.mark.parametrize("name", PACKAGES)
def test_flipped_bytes_never_raise_anything_but_our_own(tmp_path: Path, name: str) -> None:
    data = made(name)
    for place in range(7, len(data), max(1, len(data) // 25)):
        wrong = bytearray(data)
        wrong[place] ^= 0x55
        bad: list[Any] = []
        list(source(tmp_path, name, bytes(wrong)).pieces(bad.append))


def test_an_encrypted_pdf_is_refused(tmp_path: Path) -> None:
    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(pdf(["secret"])))
    writer.encrypt("pass", algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    with pytest.raises(Damaged, match=r"a\.pdf: the pdf is encrypted"):
        read(tmp_path, "a.pdf", buffer.getvalue())


BOMB = b"<w>" + b" " * (40 << 20) + b"</w>"
ENTITIES = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("name", "part"),
    [("a.docx", "word/document.xml"), ("a.pptx", "ppt/presentation.xml"), ("a.xlsx", "xl/worksheets/sheet1.xml")],
)
def test_bombs_are_refused_before_a_parser_sees_them(tmp_path: Path, name: str, part: str) -> None:
    with pytest.raises(Damaged, match=rf"{name}: {part} unpacks to more than 200 times its size"):
        read(tmp_path, name, repacked(made(name), {part: BOMB}))
    with pytest.raises(Damaged, match="declares a document type"):
        read(tmp_path, name, repacked(made(name), {part: ENTITIES}))
    with pytest.raises(Damaged, match="declares a document type"):
        read(tmp_path, name, repacked(made(name), {part: ENTITIES.decode().encode("utf-16")}))
    with pytest.raises(Damaged, match="the cap is 1 KiB"):
        read(tmp_path, name, made(name), limits=Limits(archive_bytes=1024))
    with pytest.raises(Damaged, match="the cap is 3"):
        read(tmp_path, name, made(name), limits=Limits(archive_entries=3))
    with pytest.raises(Damaged, match="larger than the cap of 1 KiB"):
        read(tmp_path, name, made(name), limits=Limits(document_bytes=1024))


def test_a_directory_that_lies_about_sizes_is_not_believed(tmp_path: Path) -> None:
    data = repacked(docx(), {"word/document.xml": BOMB})
    size, lie = len(BOMB).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert data.count(size) == 2
    with pytest.raises(Damaged):
        read(tmp_path, "a.docx", data.replace(size, lie))


def test_other_archives_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(Damaged, match="no docx, pptx or xlsx"):
        read(tmp_path, "a.docx", out.getvalue())
    with pytest.raises(Damaged, match="old binary Office"):
        read(tmp_path, "a.doc", b"\xd0\xcf\x11\xe0" + b"\0" * 100)
    with pytest.raises(Damaged, match="rich text"):
        read(tmp_path, "a.rtf", rb"{\rtf1\ansi hello}")
