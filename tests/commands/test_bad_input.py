"""What goes wrong ends in a message, an exit code and an unchanged cube."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from memos_cli.infrastructure import faults
from tests.conftest import Begin, Done, Memos, ok


def one_source(memos: Memos) -> None:
    Path("a.md").write_text("- One thought.\n- Another thought.\n")
    Path("b.md").write_text("- A third thought.\n")
    ok(memos("ingest", "a.cube", "a.md", "--embedder", "none"))


@pytest.fixture
def cube(begin: Begin, work: Path) -> Path:
    """A cube with one source, and a second source waiting."""
    begin(one_source)
    return work / "a.cube"


def content(memos: Memos, cube: str = "a.cube") -> list[str]:
    """What the cube answers with; proves that it opens."""
    return sorted(line.split("\t")[3] for line in memos("list", cube).lines)


BEFORE = ["Another thought.", "One thought."]
AFTER = ["A third thought.", *BEFORE]


def sound(memos: Memos, cube: str = "a.cube") -> bool:
    done = memos("audit", cube, "--deep")
    return done.code == 0


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "memos_cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def tell(done: Done, code: int, *words: str) -> None:
    """The code, a line that begins as talk, and the words."""
    assert done.code == code, (done.out, done.err)
    assert done.err.startswith("memos: ")
    for word in words:
        assert word in done.err


def test_a_folder_that_is_no_cube(work: Path, memos: Memos) -> None:
    (work / "plain.cube").mkdir()
    tell(memos("query", "plain.cube", "x"), 4, "plain.cube")
    (work / "file.cube").write_text("x")
    tell(memos("list", "file.cube"), 4, "file.cube")
    tell(memos("log", "absent.cube"), 3, "absent.cube", "try: memos")


def test_a_newer_format_is_named_and_left_alone(cube: Path, memos: Memos) -> None:
    manifest = json.loads((cube / "current" / "MANIFEST.json").read_text())
    data = json.dumps({**manifest, "format_version": 7}, sort_keys=True, separators=(",", ":")).encode()
    name = f"versions/00000002-{hashlib.sha256(data).hexdigest()[:16]}"
    (cube / "current").resolve().rename(cube / name)
    (cube / name / "MANIFEST.json").unlink()
    (cube / name / "MANIFEST.json").write_bytes(data)
    (cube / "current").unlink()
    (cube / "current").symlink_to(name)
    tell(memos("query", "a.cube", "x"), 4, "newer", "upgrade")


@pytest.mark.parametrize(
    "text", ["[query\nlimit = 1", "[query]\ncolour = 1", "[nonsense]\nx = 1", "query = 3", "a." * 30 + "a = 1"]
)
def test_a_bad_settings_file_is_named(cube: Path, work: Path, memos: Memos, text: str) -> None:
    (work / "memos.toml").write_text(text)
    done = memos("list", "a.cube")
    assert done.code in (2, 4)
    assert "memos.toml" in done.err


def test_settings_have_their_order(
    cube: Path, home: Path, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text("[list]\nlimit = 1\n[memos]\nembedder = 'none'\n")
    assert len(memos("list", "a.cube").lines) == 1
    (work / "memos.toml").write_text("[list]\nlimit = 2\n")
    told = memos("-v", "list", "a.cube")
    assert len(told.lines) == 2
    assert "limit = 2 (memos.toml)" in told.err
    assert len(memos("list", "a.cube", "--limit", "1").lines) == 1
    monkeypatch.setenv("MEMOS_LOCK_TIMEOUT", "3")
    assert "lock_timeout = 3.0 (environment)" in memos("-v", "tag", "a.cube", "x").err


def test_a_source_that_is_no_utf8_is_read_and_one_that_is_no_text_refused(cube: Path, work: Path, memos: Memos) -> None:
    (work / "latin.md").write_bytes("- Ein schöner Garten für Möwen und Gänse, größer als früher.\n".encode("latin-1"))
    assert memos("ingest", "a.cube", "latin.md").code == 0
    assert any("Möwen" in text for text in content(memos))
    (work / "noise.md").write_bytes(os.urandom(4000))
    tell(memos("ingest", "a.cube", "noise.md"), 4, "noise.md")


@pytest.mark.long
def test_a_line_of_200_megabytes_is_refused_with_its_number(cube: Path, work: Path, memos: Memos) -> None:
    with open(work / "long.jsonl", "wb") as file:
        file.write(b'{"text": "fine"}\n{"text": "')
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n')
    tell(memos("ingest", "a.cube", "long.jsonl"), 4, "long.jsonl", "2")
    assert content(memos) == BEFORE


def test_a_zip_bomb_in_a_document_is_refused(cube: Path, work: Path, memos: Memos) -> None:
    with zipfile.ZipFile(work / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", b"0" * 300_000_000)
    tell(memos("ingest", "a.cube", "bomb.docx"), 4, "bomb.docx")
    assert content(memos) == BEFORE


def test_an_unknown_format_and_an_empty_file(cube: Path, work: Path, memos: Memos) -> None:
    tell(memos("ingest", "a.cube", "b.md", "--format", "magic"), 2, "magic", "markdown")
    (work / "empty.md").write_text("")
    assert memos("ingest", "a.cube", "empty.md").code == 0
    assert content(memos) == BEFORE


@pytest.mark.many(3)
@pytest.mark.parametrize("kind", ["enospc", "eio"])
@pytest.mark.parametrize("point", [*faults.COMMIT_POINTS, "ingest_batch"])
def test_a_failing_disk_leaves_the_old_or_the_new_version(
    cube: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch, point: str, kind: str
) -> None:
    monkeypatch.setenv(faults.VARIABLE, f"{point}:{kind}")
    faults.reset()
    done = memos("ingest", "a.cube", "b.md")
    monkeypatch.delenv(faults.VARIABLE)
    assert content(memos) in (BEFORE, AFTER)
    assert content(memos) == AFTER or done.code != 0
    assert "Traceback" not in done.err
    assert memos("ingest", "a.cube", "b.md").code == 0
    assert content(memos) == AFTER
    assert sound(memos)


@pytest.mark.many(1)
@pytest.mark.parametrize("point", ["sealed", "pointer_written", "committed"])
def test_a_kill_leaves_the_old_or_the_new_version(cube: Path, memos: Memos, point: str) -> None:
    died = run("ingest", "a.cube", "b.md", MEMOS_FAULT=f"{point}:kill")
    assert died.returncode == -9
    assert content(memos) == (AFTER if point == "committed" else BEFORE)
    assert memos("ingest", "a.cube", "b.md").code == 0
    assert content(memos) == AFTER
    assert sound(memos)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["ingest", "a.cube", "b.md"], ["reindex", "a.cube", "--embedder", "none"], ["rollback", "a.cube", "1"]]
)
@pytest.mark.parametrize("point", faults.COMMIT_POINTS)
def test_every_change_survives_a_kill_at_every_point(cube: Path, memos: Memos, point: str, command: list[str]) -> None:
    died = run(*command, MEMOS_FAULT=f"{point}:kill")
    assert died.returncode in (-9, 0)
    assert content(memos) in (BEFORE, AFTER, [])
    assert memos(*command).code in (0, 2)
    assert sound(memos)


@pytest.mark.long
def test_a_full_disk_keeps_the_old_version(cube: Path, work: Path, memos: Memos) -> None:
    """A limit on file size is the nearest thing to a full disk that any machine has."""
    (work / "big.md").write_text("".join(f"- thought number {i} about nothing much\n" for i in range(4000)))
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000));"
        "sys.argv = sys.argv[1:]; runpy.run_module('memos_cli', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "memos", "ingest", "a.cube", "big.md"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("memos: ")
    assert "Traceback" not in done.stderr
    assert content(memos) == BEFORE
    assert sound(memos)


def test_a_cube_that_cannot_be_written_is_read_all_the_same(cube: Path, home: Path, work: Path, memos: Memos) -> None:
    place = work / "ro"
    place.mkdir()
    shutil.copytree(cube, place / "a.cube", symlinks=True)
    mounted = subprocess.run(["mount", "--bind", place, place], capture_output=True)
    if mounted.returncode or subprocess.run(["mount", "-o", "remount,ro,bind", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        assert memos("query", "ro/a.cube", "thought").code == 0
        assert list((home / "log").glob("*.jsonl"))
        done = memos("ingest", "ro/a.cube", "b.md")
        assert done.code == 1
        assert "read-only" in done.err.lower()
        assert memos("ingest", "ro/new.cube", "b.md").code == 1
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.long
def test_a_source_that_changes_while_it_is_read_is_refused(cube: Path, work: Path, memos: Memos, home: Path) -> None:
    from memos_cli.errors import Damaged
    from memos_cli.interface import api

    (work / "moving.jsonl").write_text('{"text": "a thought"}\n' * 50_000)

    def rewrite(done: int, total: int | None, what: str) -> None:
        if not changed and "moving" in what:
            changed.append(True)
            with open("moving.jsonl", "a") as file:
                file.write('{"text": "more"}\n')

    changed: list[bool] = []
    with pytest.raises(Damaged, match=r"moving\.jsonl"):
        api.ingest("a.cube", ["moving.jsonl"], progress=rewrite)
    assert changed
    assert content(memos) == BEFORE


def test_the_traceback_is_shown_when_asked_for(memos: Memos) -> None:
    done = run("list", "absent.cube", MEMOS_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "NotFound" in done.stderr


def test_nothing_connects(cube: Path, memos: Memos) -> None:
    """The whole round in a network namespace of its own, with a key that would be used if anything asked for one."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to unshare the network")
    for arguments in (["ingest", "a.cube", "b.md"], ["query", "a.cube", "thought"]):
        done = subprocess.run(
            ["unshare", "-n", sys.executable, "-m", "memos_cli", *arguments],
            capture_output=True, text=True, env={**os.environ, "OPENAI_API_KEY": "sk-none"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "thought" in done.stdout or "added" in done.stdout


@pytest.mark.parametrize("harm", ["MANIFEST.json", "memcube.toml"])
def test_a_damaged_version_is_rolled_back_from(cube: Path, memos: Memos, harm: str) -> None:
    memos("ingest", "a.cube", "b.md")
    place = cube / "current" / harm
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.unlink()
    place.write_bytes(bytes(data))
    assert memos("audit", "a.cube", "--deep").code == 4
    tell(memos("ingest", "a.cube", "b.md"), 4)
    done = memos("rollback", "a.cube", "2")
    assert done.code == 0, done.err
    assert content(memos) == BEFORE
