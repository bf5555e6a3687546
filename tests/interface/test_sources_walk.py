"""Folders are walked as git would see them, nothing strange is opened, and a source knows its digest and its name."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memos_cli.errors import Damaged, MemosError, NotFound, Usage
from memos_cli.interface import sources
from memos_cli.interface.sources import Skip
from tests.interface.samples import read, source


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def walk(root: Path, *args: str, base: Path | None = None) -> tuple[list[str], dict[str, str]]:
    skips: list[Skip] = []
    found = [one.uri for one in sources.expand(args or ["."], base=base or root, stdin=None, on_skip=skips.append)]
    return found, {skip.path: skip.reason for skip in skips}


def test_a_folder_is_walked_in_sorted_order_and_passes_over_what_is_no_text(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {"b.md": "b", "a/z.txt": "z", "a/b.py": "x = 1", ".env": "secret", ".git/config": "x", "empty.txt": ""},
    )
    (tmp_path / "data.tar.gz").write_bytes(gzip.compress(b"name\0\0\0"))
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    plant(tmp_path, {"pkg/__pycache__/x.py": "x", "team.cube/versions/1/note.md": "x"})
    (tmp_path / "team.cube" / "current").symlink_to("versions/1")
    found, skips = walk(tmp_path)
    assert found == ["b.md", "a/b.py", "a/z.txt"]
    assert skips == {
        ".env": "hidden",
        ".git": "hidden",
        "data.tar.gz": "binary",
        "empty.txt": "empty",
        "photo.png": "binary",
        "pkg/__pycache__": "ignored",
        "team.cube": "cube",
    }


def test_gitignore_is_honoured_as_git_does(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            ".gitignore": "*.log\n/build/\n!keep.log\nsecret/\n",
            "a.log": "x",
            "keep.log": "x",
            "build/out.md": "x",
            "sub/build/in.md": "x",
            "sub/.gitignore": "*.md\n!in.md\n/only.txt\n",
            "sub/x.md": "x",
            "sub/only.txt": "x",
            "sub/deep/only.txt": "x",
            "sub/secret/in.md": "x",
            "ünï.txt": "x",
            ".git/info/exclude": "excluded.txt\n",
            "excluded.txt": "x",
        },
    )
    (tmp_path / ".git").joinpath("HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git" / "objects").mkdir()
    (tmp_path / ".git" / "refs").mkdir()
    found, _ = walk(tmp_path)
    listed = subprocess.run(
        ["git", "-c", "core.quotepath=off", "ls-files", "--others", "--exclude-standard"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    ).stdout.split("\n")
    assert sorted(found) == sorted(name for name in listed if name and not name.endswith(".gitignore"))


def test_patterns_above_the_folder_count_within_a_repository_only(tmp_path: Path) -> None:
    plant(tmp_path, {".gitignore": "*.log\n", "sub/a.log": "x", "sub/b.md": "x"})
    assert walk(tmp_path, "sub")[0] == ["sub/a.log", "sub/b.md"]
    (tmp_path / ".git").mkdir()
    assert walk(tmp_path, "sub")[0] == ["sub/b.md"]


def test_a_file_that_is_named_is_taken_though_git_ignores_it(tmp_path: Path) -> None:
    plant(tmp_path, {".gitignore": "*.log\n", "a.log": "x"})
    assert walk(tmp_path, "a.log", "a.log", ".")[0] == ["a.log"]


def test_links_pipes_and_loops_are_never_followed_or_opened(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    plant(outside, {"secret.md": "x"})
    plant(inside, {"a.md": "x", "sub/b.md": "x"})
    (inside / "out").symlink_to(outside)
    (inside / "secret.md").symlink_to(outside / "secret.md")
    (inside / "sub" / "loop").symlink_to(inside)
    (inside / "gone.md").symlink_to("nowhere")
    os.mkfifo(inside / "pipe.md")
    found, skips = walk(tmp_path, "inside")
    assert found == ["inside/a.md", "inside/sub/b.md"]
    assert skips == {
        "inside/out": "link",
        "inside/secret.md": "link",
        "inside/sub/loop": "link",
        "inside/gone.md": "link",
        "inside/pipe.md": "special",
    }


def test_a_path_outside_the_base_is_named_in_full(tmp_path: Path) -> None:
    plant(tmp_path, {"here/a.md": "x", "there/b.md": "x"})
    here = tmp_path / "here"
    assert walk(here, "a.md", "../there", base=here)[0] == ["a.md", f"{tmp_path.as_posix()}/there/b.md"]


@pytest.mark.parametrize(
    ("arg", "error"), [("gone.md", NotFound), ("pipe", Damaged), ("/dev/null", Damaged), ("a\0b", NotFound)]
)
def test_what_is_named_must_be_a_file_or_a_folder(tmp_path: Path, arg: str, error: type[MemosError]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error):
        list(sources.expand([arg], base=tmp_path, stdin=None))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    plant(tmp_path, {"a.md": "x"})
    (tmp_path / "a.md").chmod(0)
    assert walk(tmp_path)[1] == {"a.md": "unreadable"}
    with pytest.raises(MemosError, match="cannot be read"):
        list(next(iter(sources.expand(["a.md"], base=tmp_path, stdin=None))).pieces())


def test_stdin_is_named_by_its_digest_and_told_by_its_content(tmp_path: Path) -> None:
    content = b'{"role": "user", "content": "hello"}\n{"role": "assistant", "content": "hi"}\n'
    (found,) = sources.expand(["-"], base=tmp_path, stdin=io.BytesIO(content))
    digest = hashlib.sha256(content).hexdigest()
    assert (found.uri, found.digest(), found.size) == (f"stdin:{digest[:12]}", f"sha256:{digest}", len(content))
    assert found.format == "chat"
    assert [piece.text for piece in found.pieces()] == ["hello", "hi"]


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("# Title\n\ntext\n", "markdown"),
        ("just words\nand more\n", "text"),
        ("name,age\nAnn,3\nBob,4\n", "csv"),
        ("name\tage\nAnn\t3\nBob\t4\n", "tsv"),
        ("<!doctype html><p>x", "html"),
        ('{"a": 1}\n{"a": 2}\n', "jsonl"),
        ('[{"a": 1}]', "json"),
        ("#!/usr/bin/env python3\nprint(1)\n", "code:python"),
        ("Ann: hi\nBob: hello\nAnn: bye\n", "transcript"),
        ("Dear Ann, I write\nto you, my friend\nand so on, and on\n", "text"),
        ("[1] is a reference\n", "text"),
        ("{braces} are used\n", "text"),
    ],
)
def test_stdin_has_no_name_so_content_decides(tmp_path: Path, content: str, format: str) -> None:
    (found,) = sources.expand(["-"], base=tmp_path, stdin=io.BytesIO(content.encode()))
    assert found.format == format
    assert found.detected.why


def test_a_format_that_is_given_wins(tmp_path: Path) -> None:
    assert source(tmp_path, "a.txt", "# x\n\ny", format="markdown").format == "markdown"
    assert source(tmp_path, "a.py", "x = 1", format="text").format == "text"
    with pytest.raises(Usage, match="unknown format 'word'; there are markdown"):
        source(tmp_path, "a.txt", "x", format="word")
    with pytest.raises(Usage, match="stdin"):
        list(sources.expand(["-"], base=tmp_path, stdin=None))


def test_gzip_is_undone_and_the_digest_is_of_the_file(tmp_path: Path) -> None:
    packed = gzip.compress(b"# Top\n\nwords\n")
    found = source(tmp_path, "a.md.gz", packed)
    assert (found.format, found.title) == ("markdown", "a")
    assert [(piece.text, piece.line_start) for piece in found.pieces()] == [("words", 3)]
    assert found.digest() == f"sha256:{hashlib.sha256(packed).hexdigest()}"


def test_other_encodings_are_read_with_a_notice(tmp_path: Path) -> None:
    text = "Müller fährt am Dienstag über die Brücke nach Köln. Schöne Grüße, sagt er. " * 5
    for encoding in ("cp1252", "utf-16", "utf-8-sig"):
        notices: list[str] = []
        found = source(tmp_path, f"{encoding}.txt", text.encode(encoding))
        assert [piece.text for piece in found.pieces(on_notice=notices.append)] == [text.strip()]
        assert bool(notices) == (encoding != "utf-8-sig")


def test_importing_sources_imports_no_parser() -> None:
    script = "import sys; import memos_cli.interface.sources; print(','.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    heavy = {"bs4", "markdown_it", "pypdf", "docx", "pptx", "openpyxl", "dateparser", "tree_sitter", "pathspec"}
    assert heavy.isdisjoint(loaded.split(","))


@pytest.mark.long
def test_no_grammar_is_fetched_when_code_is_read(tmp_path: Path) -> None:
    # In a process without sockets, so that a download would fail loudly.
    (tmp_path / "a.go").write_text("package main\n\nfunc Add(a int) int {\n\treturn a\n}\n")
    script = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise RuntimeError('network')\n"
        "socket.socket = socket.create_connection = refuse\n"
        "from pathlib import Path\nfrom memos_cli.interface import sources\n"
        "(one,) = sources.expand(['a.go'], base=Path(sys.argv[1]), stdin=None)\n"
        "print([p.kind for p in one.pieces()])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "code" in done.stdout


def test_pieces_can_be_read_twice(tmp_path: Path) -> None:
    found = source(tmp_path, "a.md", "# A\n\nb\n")
    assert list(found.pieces()) == list(found.pieces())
    assert read(tmp_path, "a.md", "# A\n\nb\n") == list(found.pieces())
