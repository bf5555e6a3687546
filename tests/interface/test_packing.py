"""Cubes become packages and come back: equal bytes everywhere, and nothing in them that was not to be shared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memos_cli.cube import archive, metadata
from memos_cli.infrastructure import vault
from memos_cli.interface import api, frame
from tests.conftest import Memos, Start

SECRET = "quetzalcoatl"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """A cube of three memories, of which one is confidential."""

    def build(memos: Memos) -> None:
        Path("open.md").write_text("- The train leaves at nine.\n- The station is by the river.\n")
        Path("secret.md").write_text(f"- The code of the safe is {SECRET}.\n")
        assert memos("ingest", "team.cube", "open.md", "--embedder", "none").code == 0
        assert memos("ingest", "team.cube", "secret.md", "--sensitivity", "confidential").code == 0

    return Start.make(tmp_path_factory.mktemp("written"), cache, build)


@pytest.fixture
def cube(written: Start, home: Path, work: Path, memos: Memos) -> str:
    """That cube, for one test; the id of the memory that is confidential."""
    written.copy(home, work)
    (found,) = memos("query", "team.cube", "code of the safe", "-k", "1", "-q").lines
    return found


def holds(path: Path, words: str) -> bool:
    """Whether a file, or a file below a folder, has these words."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return any(words.encode() in file.read_bytes() for file in files)


def test_a_package_comes_back_as_the_version_that_it_was(cube: str, memos: Memos) -> None:
    done = memos("pack", "team.cube", "--json").json
    assert (done["path"], done["rewritten"], done["key"]) == ("team-0.1.0.memcube", False, None)
    back = memos("unpack", "team-0.1.0.memcube", "copy.cube", "--json").json
    assert (back["digest"], back["trusted"], back["memories"]) == (done["digest"], False, 3)
    old, new = vault.current_version(Path("team.cube")), vault.current_version(Path("copy.cube"))
    assert old.digest == new.digest
    assert api.audit("copy.cube", deep=True).findings == ()
    assert memos("query", "copy.cube", "when does the train leave?", "-q").out
    again = memos("pack", "copy.cube", "-o", "again.memcube", "--json").json
    assert again["digest"] == done["digest"]
    assert memos("pack", "copy.cube", "-o", "signed.memcube", "--sign", "identity").code == 5
    assert memos("unpack", "team-0.1.0.memcube", "named").code == 0
    assert memos("query", "named", "train", "-q").out
    assert memos("init", "fork.cube", "--from", "copy.cube").code == 0
    assert memos("query", "fork.cube", "train", "--json").json["untrusted"] == ["fork.cube"]


def test_packing_again_gives_the_same_bytes_under_other_conditions(cube: str, home: Path, memos: Memos) -> None:
    """Another process with another umask, zone, locale, user, home and hash seed, of files of another age and order."""
    memos("pack", "team.cube", "-o", "one.memcube")
    paths = sorted(Path("team.cube").rglob("*"), reverse=True)
    for path in paths:
        copied = "moved.cube" / path.relative_to("team.cube")
        copied.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            copied.symlink_to(path.readlink())
        elif path.is_file():
            copied.write_bytes(path.read_bytes())
            os.utime(copied, (1, 1))
    Path("elsewhere").mkdir()
    shutil.copytree(home / "keys", "elsewhere/keys")
    told = {
        **os.environ, "TZ": "Pacific/Auckland", "LC_ALL": "tr_TR.UTF-8", "USER": "somebody", "LOGNAME": "somebody",
        "HOSTNAME": "another", "MEMOS_HOME": os.path.abspath("elsewhere"), "PYTHONHASHSEED": "42",
    }  # fmt: skip
    code = "import os, sys; os.umask(0o077); from memos_cli.__main__ import main; sys.argv[0] = 'memos'; main()"
    command = [sys.executable, "-c", code, "pack", "moved.cube", "-o", "two.memcube"]
    subprocess.run(command, check=True, env=told, capture_output=True)
    assert Path("one.memcube").read_bytes() == Path("two.memcube").read_bytes()


@pytest.mark.long
def test_a_part_made_twice_has_the_same_rows_in_the_same_bytes(cube: str, home: Path, memos: Memos) -> None:
    """Of a part that is made on two machines the names of Lance's files and its indexes differ, and nothing else."""
    memos("pack", "team.cube", "--redact", "internal", "-o", "one.memcube")
    shutil.rmtree((home / "cache").resolve() / "packs")
    memos("pack", "team.cube", "--redact", "internal", "-o", "two.memcube")
    data = []
    for name in ("one", "two"):
        assert memos("unpack", f"{name}.memcube", f"{name}.cube").code == 0
        place = Path(f"{name}.cube/current")
        (rows,) = (place / "plaintext/memories.lance/data").iterdir()
        data.append((rows.read_bytes(), (place / "memcube.toml").read_bytes(),
                     (place / "plaintext/sources.arrow").read_bytes()))  # fmt: skip
    assert data[0] == data[1]


def test_what_was_reworded_is_rewritten_away_as_a_version_first(cube: str, memos: Memos) -> None:
    (train,) = memos("query", "team.cube", "train leaves", "-k", "1", "-q").lines
    memos("edit", "team.cube", train, "--type", "event")  # the row is replaced, its old bytes stay
    before = vault.current_version(Path("team.cube")).number
    assert memos("pack", "team.cube", "--dry-run", "--json").json["rewritten"]
    assert vault.current_version(Path("team.cube")).number == before
    done = memos("pack", "team.cube", "--json").json
    assert (done["rewritten"], done["number"]) == (True, before + 1)
    again = memos("pack", "team.cube", "-o", "again.memcube", "--json").json
    assert (again["rewritten"], again["digest"]) == (False, done["digest"])
    assert Path("again.memcube").read_bytes() == Path(done["path"]).read_bytes()
    assert memos("list", "team.cube", "-q").lines


def test_forgotten_memories_do_not_travel(cube: str, memos: Memos) -> None:
    memos("forget", "team.cube", "--ids", cube)
    before = os.readlink("team.cube/current")
    done = memos("pack", "team.cube", "--json").json
    assert (done["rows_left_out"], done["version"]) == (1, "0.1.0")
    assert os.readlink("team.cube/current") == before  # the owner can still undo it
    assert not holds(Path(done["path"]), SECRET)
    assert memos("unpack", done["path"], "copy.cube").code == 0
    assert not holds(Path("copy.cube/current"), SECRET)
    assert len(memos("list", "copy.cube", "--all", "-q").lines) == 2


def test_a_redacted_package_has_nothing_above_its_level(cube: str, memos: Memos) -> None:
    done = memos("pack", "team.cube", "--redact", "internal", "--json").json
    assert (done["version"], done["rows_left_out"]) == ("0.1.0-internal", 1)
    for level, rows in (("confidential", 0), ("public", 3)):
        other = memos("pack", "team.cube", "--redact", level, "--dry-run", "--json").json
        assert (other["rows_left_out"], other["digest"]) == (rows, "")
    assert not holds(Path(done["path"]), SECRET)
    memos("unpack", done["path"], "copy.cube")
    assert not holds(Path("copy.cube"), SECRET)
    assert not holds(Path("copy.cube"), "secret.md")
    assert memos("query", "copy.cube", "safe river", "-q").lines
    assert metadata.load(Path("copy.cube/current")).plaintext.memories == 2
    assert api.audit("copy.cube", deep=True).findings == ()
    again = memos("pack", "team.cube", "--redact", "internal", "-o", "again.memcube", "--json").json
    assert again["digest"] == done["digest"]


def test_what_is_forgotten_for_good_is_in_no_part_that_was_made_to_be_packed(
    cube: str, memos: Memos, home: Path
) -> None:
    # the cache is that of all tests
    before = set((home / "cache").glob("packs/*"))
    memos("pack", "team.cube", "--redact", "confidential", "-o", "x.memcube")
    (made,) = set((home / "cache").glob("packs/*")) - before
    assert holds(made, "quetzal")
    assert memos("forget", "team.cube", "--ids", cube, "--purge", "--yes").code == 0
    assert not made.exists()


@pytest.mark.long
def test_caches_of_what_stays_behind_stay_behind(cube: str, memos: Memos) -> None:
    (train,) = memos("query", "team.cube", "train leaves", "-k", "1", "-q").lines
    assert memos("convert", "team.cube", "--ids", cube, "--ids", train).code == 0
    done = memos("pack", "team.cube", "--redact", "internal", "--json").json
    assert (done["files_left_out"], done["forms"]) == (1, ["plaintext", "activation"])
    memos("unpack", done["path"], "copy.cube")
    (file,) = Path("copy.cube/current/activation").iterdir()
    assert file.name.startswith(train)
    bare = memos("pack", "team.cube", "--forms", "plaintext", "--json").json
    assert (bare["version"], bare["files_left_out"], bare["forms"]) == ("0.1.0-plaintext", 2, ["plaintext"])
    memos("unpack", bare["path"], "bare.cube")
    assert not Path("bare.cube/current/activation").exists()


@pytest.mark.long
def test_a_version_can_be_given(cube: str, memos: Memos) -> None:
    done = memos("pack", "team.cube", "--version", "1.4.0", "--json").json
    assert (done["path"], done["name"], done["version"]) == ("team-1.4.0.memcube", "team", "1.4.0")
    assert metadata.load(Path("team.cube/current")).version == "1.4.0"
    for bad in ("1.4", "1.4.0+build", "v1", "1.4.0-" + "x" * 200):
        assert memos("pack", "team.cube", "--version", bad).code == 2


def test_neither_log_nor_lock_nor_staging_travels(cube: str, memos: Memos) -> None:
    Path("team.cube/staging").mkdir(exist_ok=True)
    Path("team.cube/staging/note").write_text("work in progress")
    memos("pack", "team.cube")
    opened = archive.open_archive(Path("team-0.1.0.memcube"))
    titles = {blob.annotations.get("org.opencontainers.image.title") for blob in opened.image.layers}
    assert titles <= {"MANIFEST.json", None}
    assert not holds(Path("team-0.1.0.memcube"), "work in progress")
    assert not holds(Path("team-0.1.0.memcube"), "access.jsonl")


def test_a_file_that_is_there_is_not_replaced_unasked(cube: str, memos: Memos) -> None:
    Path("x.memcube").write_text("mine")
    done = memos("pack", "team.cube", "-o", "x.memcube")
    assert (done.code, Path("x.memcube").read_text()) == (2, "mine")
    assert memos("pack", "team.cube", "-o", "x.memcube", "--yes").code == 0
    assert memos("pack", "team.cube", "-o", "nowhere/x.memcube").code == 2
    assert sorted(path.name for path in Path().glob(".*")) == []


def test_who_may_not_share_may_not_pack(cube: str, home: Path, memos: Memos) -> None:
    for name in ("identity.pub", "identity.key"):
        (home / "keys" / name).unlink()
    done = memos("pack", "team.cube")
    assert done.code == 5
    assert "share_scope" in done.err
    assert not list(Path().glob("*.memcube"))


def test_a_damaged_cube_is_not_packed(cube: str, memos: Memos) -> None:
    memos("pack", "team.cube", "--dry-run")
    (data, *_) = Path("team.cube/current/plaintext/memories.lance/data").resolve().glob("*.lance")
    raw = bytearray(data.read_bytes())
    raw[len(raw) // 3] ^= 1
    data.chmod(0o644)
    data.write_bytes(raw)
    done = memos("pack", "team.cube")
    assert done.code == 4, done.err
    assert not list(Path().glob("*.memcube"))
    assert not list(Path().glob(".*.tmp"))


def test_the_copy_is_its_holders_but_not_to_share(cube: str, home: Path, memos: Memos) -> None:
    memos("pack", "team.cube")
    for name in ("identity.pub", "identity.key"):  # somebody else, with a key of their own
        (home / "keys" / name).unlink()
    memos("unpack", "team-0.1.0.memcube", "copy.cube")
    assert memos("edit", "copy.cube", cube, "--type", "fact").code == 0
    assert memos("pack", "copy.cube", "-o", "again.memcube").code == 5
    assert memos("edit", "team.cube", cube, "--type", "fact").code == 5


def test_what_was_unpacked_is_untrusted_until_somebody_says_so(cube: str, memos: Memos) -> None:
    memos("pack", "team.cube")
    memos("unpack", "team-0.1.0.memcube", "copy.cube")
    done = memos("query", "copy.cube", "train", "--json", "--budget", "60")
    assert done.json["untrusted"] == ["copy.cube"]
    assert "(untrusted)" in done.json["context"]
    assert "memos trust copy.cube" in done.err
    assert memos("trust", "copy.cube", "--dry-run").code == 0
    assert memos("query", "copy.cube", "train", "--json").json["untrusted"] == ["copy.cube"]
    assert not memos("trust", "copy.cube", "--json").json["was_trusted"]
    done = memos("query", "copy.cube", "train", "--json", "--budget", "60")
    assert (done.json["untrusted"], "trust" in done.err) == ([], False)
    assert memos("query", "team.cube", "train", "--json").json["untrusted"] == []
    assert memos("trust", "team.cube").code == 2


def test_a_package_for_some_eyes(cube: str, memos: Memos, work: Path) -> None:
    import pyrage

    mine, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    (work / "mine.txt").write_text(f"# a note\n{mine}\n")
    (work / "other.txt").write_text(f"{other}\n")
    (work / "readers.txt").write_text(f"{mine.to_public()}\n")
    assert memos("pack", "team.cube", "--encrypt-to", "readers.txt", "-o", "a.memcube").code == 0
    assert not holds(Path("a.memcube"), "index.json")
    assert memos("unpack", "a.memcube").code == 2
    assert memos("unpack", "a.memcube", "-i", "other.txt").code == 5
    assert memos("unpack", "a.memcube", "-i", "readers.txt").code == 2
    assert memos("unpack", "a.memcube", "-i", "nowhere.txt").code == 3
    raw = bytearray(Path("a.memcube").read_bytes())
    raw[len(raw) // 2] ^= 1
    Path("bad.memcube").write_bytes(raw)
    Path("cut.memcube").write_bytes(raw[:-100])
    assert memos("unpack", "bad.memcube", "-i", "mine.txt").code == 4
    assert memos("unpack", "cut.memcube", "-i", "mine.txt").code == 4
    assert not Path("team.cube.x").exists()
    assert memos("unpack", "a.memcube", "copy.cube", "-i", "mine.txt").code == 0
    assert memos("pack", "team.cube", "--encrypt-to", "age1nonsense", "-o", "b.memcube").code == 2
    assert not list(Path().glob(".*.tmp"))


@pytest.mark.long
def test_a_program_packs_and_unpacks(cube: str, home: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    done = api.pack("team.cube", "x.memcube", progress=lambda done, whole, what: seen.append((done, whole)))
    assert seen[-1][0] == seen[-1][1]
    assert api.unpack("x.memcube", "copy.cube", dry_run=True).dry_run
    assert not Path("copy.cube").exists()
    assert api.unpack("x.memcube", "copy.cube").digest == done.digest
    with frame.reading(frame.desk(home), "copy.cube", "list") as held:
        assert held.memories.count() == 3
