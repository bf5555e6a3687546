"""Bad input, each with its error; sources that change while they are read; memory that stays flat."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, NotFound
from memos_cli.interface.sources import Limits
from tests.interface.samples import json_lines, read, source

MIB = 1 << 20
LONG = b"a" * (17 * MIB)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\x7fELF\x02\x01\x01\0\0\0", "binary content"),
        ("a.txt", bytes(range(256)) * 20, "binary content"),
        ("a.md", b"\x89PNG\r\n\x1a\n\0\0\0", "binary content"),
        ("a.json", b"\x00\x01", "binary content"),
        ("a.txt", b"fine\n" * 100_000 + b"a\0b\n", "line 100001: a NUL byte"),
        ("a.txt", b"fine\n" * 100_000 + b"\xff\xfe\n", "line 100001: not utf-8"),
        ("a.txt", LONG, "line 1: longer than the cap of 16 MiB"),
        ("a.md", b"x\n" + LONG, "line 2: longer than the cap of 16 MiB"),
        ("a.py", LONG, "line 1: longer than the cap of 16 MiB"),
        ("a.csv", b"a,b\n" + LONG, "line 2: longer than the cap of 16 MiB"),
        ("a.html", b"<p>" + LONG, "line 1: longer than the cap of 16 MiB"),
        ("a.jsonl", b'{"a": 1}\n{"a": "' + LONG + b'"}\n', "line 2: longer than the cap of 16 MiB"),
        ("a.txt.gz", gzip.compress(b"words\n" * 1000, mtime=0)[:-20], "the gzip stream is broken"),
        ("a.txt.gz", b"\x1f\x8b\x08\x00garbage", "the gzip stream is broken"),
        ("a.tar.gz", gzip.compress(b"file\0\0\0\0" * 100, mtime=0), "binary content"),
        ("a.csv", b'a,b\n1,"2\n', "line 2: not a table row"),
        ("a.csv", b'a,b\n"1"x,2\n', "line 2: not a table row"),
    ],
)  # fmt: skip
def test_bad_input_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(Damaged) as raised:
        read(tmp_path, name, content)
    assert raised.value.exit_code == 4
    assert raised.value.message.startswith(f"{name}: {message}")


def test_an_element_past_the_cap_is_named(tmp_path: Path) -> None:
    text = json.dumps([{"a": 1}, {"a": "x" * 300_000}])
    with pytest.raises(Damaged, match=r"a\.json: line 1: one JSON value is larger than the cap of 64 KiB"):
        read(tmp_path, "a.json", text, limits=Limits(element_bytes=64 << 10))


def test_an_empty_file_has_no_pieces(tmp_path: Path) -> None:
    for name in ("a.txt", "a.md", "a.json", "a.jsonl", "a.csv", "a.py", "a.html", "a"):
        assert read(tmp_path, name, b"") == []
        assert read(tmp_path, name, b" \n\n") == []


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    lines = gzip.compress((b"a" * 999_999 + b"\n") * 80)
    with pytest.raises(Damaged, match="unpacks to more than 500 times"):
        read(tmp_path, "a.txt.gz", lines)


def test_what_is_bad_is_left_out_when_asked(tmp_path: Path) -> None:
    bad: list[Any] = []
    found = source(tmp_path, "a.txt", b"fine.\n" * 50_000 + b"\xff\xfe\n\nlast.\n")
    assert list(found.pieces(bad.append))[-1].text == "last."
    assert [(one.place, one.whole) for one in bad] == [("line 50001", False)]
    bad.clear()
    assert list(source(tmp_path, "b.txt", b"\x7fELF\0\0").pieces(bad.append)) == []
    assert [(one.place, one.whole) for one in bad] == [("", True)]
    assert bad[0].message.startswith("binary content")


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.md", "a.json", "a.csv"])
def test_a_source_that_changes_while_it_is_read_is_named(tmp_path: Path, name: str) -> None:
    text = {"a.json": json.dumps([{"a": 1}] * 9), "a.csv": "a,b\n" + "1,2\n" * 9}.get(name, '{"a": 1}\n' * 9)
    found = source(tmp_path, name, text)
    pieces = found.pieces(lambda bad: None)
    next(pieces)
    with (tmp_path / name).open("a") as file:
        file.write('{"a": 2}\n')
    with pytest.raises(Damaged, match=f"{name}: the file changed while it was read"):
        list(pieces)


def test_a_source_that_changes_after_its_digest_is_named(tmp_path: Path) -> None:
    found = source(tmp_path, "a.txt", "one")
    found.digest()
    (tmp_path / "a.txt").write_text("two")
    with pytest.raises(Damaged, match="changed while it was read"):
        list(found.pieces())


def test_a_source_that_vanishes_is_named(tmp_path: Path) -> None:
    found = source(tmp_path, "a.jsonl", '{"a": 1}\n' * 9)
    pieces = found.pieces()
    next(pieces)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(Damaged, match=r"a\.jsonl: the file vanished while it was read"):
        list(pieces)
    with pytest.raises(NotFound, match=r"a\.jsonl: no such file"):
        list(found.pieces())


def test_a_file_that_becomes_a_pipe_is_not_opened(tmp_path: Path) -> None:
    found = source(tmp_path, "a.txt", "one")
    (tmp_path / "a.txt").unlink()
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(Damaged, match="not a regular file"):
        found.digest()


def test_reading_part_of_a_source_closes_it(tmp_path: Path) -> None:
    pieces = source(tmp_path, "a.jsonl", '{"a": 1}\n' * 9).pieces()
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]


PEAK = """
import resource, sys
from pathlib import Path
from memos_cli.interface import sources
(one,) = sources.expand([sys.argv[1]], base=Path("."), stdin=None)
one.digest()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in one.pieces())
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["big.jsonl", "chat.jsonl", "big.json", "big.csv", "big.txt", "big.html"])
def test_memory_stays_flat(tmp_path: Path, name: str) -> None:
    fill = "words that fill the line until it is about two hundred characters long and then some more " * 2
    record = {"id": 1, "title": "x", "words": fill}
    turn = {"speaker": "Ann", "session": "s", "words": "x", "text": fill}
    unit, start, end = {
        "big.jsonl": (json_lines(record), "", ""),
        "chat.jsonl": (json_lines(turn), "", ""),
        "big.json": (json.dumps(record) + ",\n", "[", "{}]"),
        "big.csv": (f"1,{fill}\n", "id,words\n", ""),
        "big.txt": (f"{fill}\n\n", "", ""),
        "big.html": (f"<p>{fill}</p>\n", "<html>", ""),
    }[name]
    # What grows would show in either; the larger one is the case that a user has.
    count = (300 if name == "big.jsonl" else 100) * MIB // len(unit)
    with (tmp_path / name).open("w") as file:
        file.write(start)
        for _ in range(0, count, 1000):
            file.write(unit * 1000)
        file.write(end)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / name)], capture_output=True, text=True, check=True, timeout=600
    )
    pieces, grown_mib = map(int, done.stdout.split())
    assert pieces >= count
    # HTML is fed to its parser in chunks of up to 64 Mi characters.
    assert grown_mib < (400 if name == "big.html" else 40)


@pytest.mark.slow
def test_a_line_of_200_mb_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"a": "')
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n')
    with pytest.raises(Damaged, match="line 1: longer than the cap of 16 MiB a line"):
        list(source_at(tmp_path / "a.jsonl").pieces())


def source_at(path: Path) -> Any:
    from memos_cli.interface import sources

    return next(iter(sources.expand([path.name], base=path.parent, stdin=None)))


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    for content in (
        b"\xff" * 50,
        b"\x00",
        b"\x1f\x8b",
        b"PK\x03\x04",
        b"%PDF-1.4",
        b"{",
        b"[",
        b'"',
        b"<",
        b"---\n",
        b"\xef\xbb\xbf",
    ):
        for suffix in ("txt", "md", "json", "jsonl", "csv", "html", "py", "js", "pdf", "docx", "gz", ""):
            with suppress(Damaged):
                read(tmp_path, f"x.{suffix}", content)
