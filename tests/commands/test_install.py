"""install, outdated, upgrade and require: the cubes of a project, by a lock."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.conftest import Done, Memos, Start

LOCK = Path("memos.lock")


def publish(memos: Memos, name: str, version: str, requires: dict[str, str] | None = None, *extra: str) -> Done:
    """A version of a cube with one memory, in the store."""
    cube = f"made-{name}.cube"
    if not Path(cube).exists():
        words = ["--name", name, "--licence", "CC0-1.0", "--share-scope", "anyone", "--embedder", "none"]
        assert memos("init", cube, *words).code == 0
    for needed, versions in (requires or {}).items():
        done = memos("require", cube, needed, versions)
        assert done.code == 0, done.err
    Path("text.md").write_text(f"- {name} says {version}.\n")
    assert memos("ingest", cube, "text.md").code == 0
    done = memos("push", cube, f"file://{os.getcwd()}/store", "--version", version, *extra)
    assert done.code == 0, done.err
    return done


def want(cubes: str, head: str = "") -> None:
    Path("cubes.toml").write_text(f'sources = ["file://{os.getcwd()}/store"]\n{head}\n[cubes]\n{cubes}\n')


def locked() -> dict[str, str]:
    return {one["name"]: one["version"] for one in tomllib.loads(LOCK.read_text())["cube"]}


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """A store in which team 1.0 needs policies ^1 and team 1.1 needs policies ^2."""

    def build(memos: Memos) -> None:
        publish(memos, "policies", "1.0.0")
        publish(memos, "policies", "1.2.0")
        publish(memos, "policies", "2.0.0")
        publish(memos, "team", "1.0.0", {"policies": "^1"})
        publish(memos, "team", "1.1.0", {"policies": "^2"})

    return Start.make(tmp_path_factory.mktemp("stocked"), cache, build)


@pytest.fixture
def shelf(stocked: Start, home: Path, work: Path) -> Path:
    """That store, for one test."""
    stocked.copy(home, work)
    return work / "store"


@pytest.fixture(scope="session")
def installed(stocked: Start, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """A project that was installed from that store."""

    def build(memos: Memos) -> None:
        shutil.copytree(stocked.place / "work" / "store", "store")
        want('team = "^1"')
        assert memos("install").code == 0

    return Start.make(tmp_path_factory.mktemp("installed"), cache, build)


def test_install_locks_what_goes_together(shelf: Path, memos: Memos) -> None:
    want('team = "^1.0"')
    would = memos("install", "--dry-run")
    assert (would.code, LOCK.exists(), Path("team.cube").exists()) == (0, False, False)
    done = memos("install", "--json")
    assert done.code == 0, done.err
    assert locked() == {"team": "1.1.0", "policies": "2.0.0"}
    assert "CC0-1.0" in done.err
    assert memos("list", "policies.cube", "-q").code == 0
    before = LOCK.read_bytes()
    again = memos("install", "--frozen")
    assert [line.split("\t")[2] for line in again.lines] == ["kept", "kept"]
    assert LOCK.read_bytes() == before


def test_two_needs_of_one_package(shelf: Path, memos: Memos) -> None:
    want('team = "^1.0"\npolicies = "^1"')
    assert memos("install").code == 0
    assert locked() == {"team": "1.0.0", "policies": "1.2.0"}
    want('team = "=1.1.0"\npolicies = "^1"')
    done = memos("install")
    assert done.code == 9
    assert "team 1.1.0 needs policies ^2" in done.err
    assert "cubes.toml needs policies ^1" in done.err
    assert locked() == {"team": "1.0.0", "policies": "1.2.0"}


def test_what_is_locked_stays(shelf: Path, memos: Memos) -> None:
    want('team = "^1.0"')
    assert memos("install").code == 0
    publish(memos, "policies", "2.5.0")
    assert memos("install").code == 0
    assert locked()["policies"] == "2.0.0"
    (line,) = memos("outdated").lines
    assert line.split("\t")[:4] == ["policies", "2.0.0", "2.5.0", "2.5.0"]
    assert memos("upgrade", "nobody").code == 3
    assert memos("upgrade", "policies", "--dry-run").code == 0
    assert locked()["policies"] == "2.0.0"
    upgraded = memos("upgrade", "policies")
    assert upgraded.code == 0, upgraded.err
    assert locked()["policies"] == "2.5.0"
    assert "policies says 2.5.0" in memos("list", "policies.cube").out
    assert memos("outdated").lines == []


@pytest.mark.long
def test_locked_and_frozen(shelf: Path, memos: Memos) -> None:
    want('team = "^1.0"')
    for flag in ("--locked", "--frozen"):
        done = memos("install", flag)
        assert (done.code, "there is none" in done.err) == (9, True)
    assert memos("install").code == 0
    for name in ("team.cube", "policies.cube"):
        shutil.rmtree(name)
    # a fresh checkout with the two files
    assert memos("install", "--locked").code == 0
    assert locked() == {"team": "1.1.0", "policies": "2.0.0"}
    want('team = "=1.0.0"')
    done = memos("install", "--locked")
    assert (done.code, "has 1.1.0" in done.err) == (9, True)
    assert memos("install").code == 0
    assert locked() == {"team": "1.0.0", "policies": "1.2.0"}
    assert memos("list", "team.cube").out.count("says 1.0.0") == 1


def test_a_moved_version_is_refused(shelf: Path, memos: Memos, home: Path) -> None:
    want('team = "^1.0"')
    assert memos("install").code == 0
    shutil.rmtree("store/team")
    shutil.rmtree("team.cube")
    (home / "trust" / "seen.json").unlink()  # another machine, with nothing but the lock
    shutil.rmtree("made-team.cube")
    publish(memos, "team", "1.1.0", {"policies": "^2"})
    done = memos("install")
    assert done.code in (3, 5)
    assert not Path("team.cube").exists()


def test_another_signer_than_the_locks(shelf: Path, memos: Memos, home: Path) -> None:
    publish(memos, "signed", "1.0.0", None, "--sign", "identity")
    want('signed = "*"')
    assert memos("install").code == 0
    key = tomllib.loads(LOCK.read_text())["cube"][0]["key"]
    assert key.startswith("ed25519:")
    shutil.rmtree("signed.cube")
    LOCK.write_text(LOCK.read_text().replace(key, "ed25519:" + "0" * 32))
    done = memos("install", "--locked")
    assert (done.code, "the lock says" in done.err) == (5, True)
    assert not Path("signed.cube").exists()


@pytest.mark.long
def test_yanked_versions_are_not_chosen_but_stay_locked(shelf: Path, memos: Memos) -> None:
    want('policies = "^1"')
    assert memos("install").code == 0
    there = f"file://{shelf}/policies:1.2.0"
    assert memos("yank", there, "-m", "wrong").code == 0
    shutil.rmtree("policies.cube")
    done = memos("install")
    assert (done.code, "taken back: wrong" in done.err) == (0, True)
    assert locked() == {"policies": "1.2.0"}
    (line,) = memos("outdated").lines
    assert line.split("\t") == ["policies", "1.2.0", "1.0.0", "2.0.0", "wrong"]
    LOCK.unlink()
    shutil.rmtree("policies.cube")
    assert memos("install").code == 0
    assert locked() == {"policies": "1.0.0"}


@pytest.mark.long
def test_sources_paths_and_folders(shelf: Path, work: Path, memos: Memos) -> None:
    shutil.copytree("store/policies", "second/policies")
    head = 'folder = "memory"'
    want(f'policies = {{ version = "^1", source = "file://{work}/second", path = "books/rules.cube" }}', head)
    done = memos("install", "--json")
    assert done.code == 0, done.err
    assert done.json["path"] == "books/rules.cube"
    assert done.json["reference"] == f"file://{work}/second/policies:1.2.0"
    want('team = "^1"', head)
    assert memos("install").code == 0
    assert Path("memory/policies.cube").is_dir()


@pytest.mark.many(4)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('[cubes]\nteam = "one"', 4), ("[cubes]\nteam = 1", 4), ('[cubes]\nteam = { path = "../x.cube" }', 4),
        ('[cubes]\nteam = { path = "/x.cube" }', 4), ('[cubes]\nteam = { path = "x" }', 4), ('folder = "../.."', 4),
        ('[cubes]\n"../x" = "*"', 4), ('[cubes]\n"file:///x/team" = "*"', 4),
        ('sources = "x"', 4), ('[other]\nx = 1', 4), ('[cubes]\nnowhere = "*"', 3),
        ('sources = ["ftp://x"]\n[cubes]\nteam = "*"', 2), ('[cubes]\nteam = "^9"', 9),
    ],
)  # fmt: skip
def test_what_no_project_is(text: str, code: int, shelf: Path, memos: Memos) -> None:
    if "sources" not in text:
        text = f'sources = ["file://{shelf}"]\n{text}'
    Path("cubes.toml").write_text(text)
    done = memos("install")
    assert (done.code, done.out) == (code, "")
    assert not LOCK.exists()


@pytest.mark.many(2)
@pytest.mark.parametrize(
    ("old", "new"),
    [("version = 1", "version = 2"), ('digest = "sha256:', 'digest = "sha256:../'), ('name = "team"', 'name = "other"'),
     ("file://", "ftp://"), ('version = "1.1.0"', 'version = "latest"'), ("sequence", "sequences")],
)  # fmt: skip
def test_what_no_lock_is(old: str, new: str, installed: Start, home: Path, work: Path, memos: Memos) -> None:
    installed.copy(home, work)
    LOCK.write_text(LOCK.read_text().replace(old, new))
    assert memos("install").code == 4
    assert memos("outdated").code == 4


def test_no_project(work: Path, memos: Memos) -> None:
    for words in (["install"], ["upgrade"], ["outdated"]):
        assert memos(*words).code == 3


def test_require(work: Path, memos: Memos) -> None:
    memos("init", "a.cube", "--embedder", "none")
    assert memos("require", "a.cube", "team", "^1.4", "--dry-run", "--json").json["requires"] == {"team": "^1.4"}
    assert "team" not in Path("a.cube/current/memcube.toml").read_text()
    assert memos("require", "a.cube", "team", ">=1.2,<2").code == 0
    assert tomllib.loads(Path("a.cube/current/memcube.toml").read_text())["requires"] == {"team": ">=1.2, <2"}
    assert memos("require", "a.cube", "other").code == 0
    assert memos("require", "a.cube", "team", "--remove", "--json").json["requires"] == {"other": "*"}
    assert memos("require", "a.cube", "team", "--remove").code == 3
    for words in (["te/am"], ["team:1.0.0"], ["team", "one"], ["file:///x/team"]):
        assert memos("require", "a.cube", *words).code == 2
