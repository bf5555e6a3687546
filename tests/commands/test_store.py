"""push, pull, search, info, yank and index, as a person at a terminal has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from memos_cli.infrastructure.store import registry as module
from tests.conftest import Done, Memos, Start
from tests.infrastructure.store.conftest import alone, fake, real  # noqa: F401  fixtures
from tests.infrastructure.store.fake import Fake, web
from tests.infrastructure.store.fake_hub import hub

STORE = Path("store")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """A cube of two memories, which anyone may share."""

    def build(memos: Memos) -> None:
        Path("notes.md").write_text("- The passport is in the drawer.\n- The train leaves at nine.\n")
        words = ["--share-scope", "anyone", "--licence", "CC-BY-4.0", "--description", "Things of the house"]
        assert memos("init", "team.cube", "--embedder", "none", *words).code == 0
        assert memos("ingest", "team.cube", "notes.md").code == 0

    return Start.make(tmp_path_factory.mktemp("written"), cache, build)


@pytest.fixture
def cube(written: Start, home: Path, work: Path) -> str:
    """That cube, for one test."""
    written.copy(home, work)
    return "team.cube"


def store(work: Path) -> str:
    return f"file://{work}/store"


def more(work: Path, memos: Memos, version: str = "0.2.0", text: str = "- The cat is called Ida.\n") -> Done:
    (work / f"{version}.md").write_text(text)
    assert memos("ingest", "team.cube", f"{version}.md").code == 0
    return memos("push", "team.cube", store(work), "--version", version)


def test_there_and_back(cube: str, work: Path, memos: Memos) -> None:
    done = memos("push", cube, store(work), "--json")
    assert done.code == 0, done.err
    assert done.json["reference"] == f"{store(work)}/team:0.1.0"
    assert memos("push", cube, store(work), "--json").json["bytes"] == 0
    taken = memos("pull", f"{store(work)}/team", "mine.cube", "--json")
    assert taken.code == 0, taken.err
    assert taken.json["digest"] == done.json["digest"]
    assert (taken.json["licence"], taken.json["trusted"], taken.json["key"]) == ("CC-BY-4.0", False, None)
    assert "memos trust mine.cube" in taken.err
    assert {line.split("\t")[0] for line in memos("list", "mine.cube").lines} == {
        line.split("\t")[0] for line in memos("list", cube).lines
    }
    assert memos("audit", "mine.cube", "--deep").code == 0
    again = memos("pull", f"{store(work)}/team", "mine.cube", "--json").json
    assert (again["changed"], again["travelled"]) == (False, 0)
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_a_packed_file_is_the_same_package(cube: str, work: Path, memos: Memos) -> None:
    packed = memos("pack", cube, "-o", "team.memcube", "--json").json
    pushed = memos("push", "team.memcube", store(work), "--json").json
    assert pushed["digest"] == packed["digest"] == memos("push", cube, store(work), "--json").json["digest"]
    assert memos("pull", f"{store(work)}/team@{packed['digest']}", "mine.cube").code == 0
    assert memos("push", "team.memcube", store(work), "--sign", "identity").code == 2


def test_the_next_version_of_a_cube(cube: str, work: Path, memos: Memos) -> None:
    memos("push", cube, store(work))
    memos("pull", f"{store(work)}/team", "mine.cube")
    assert memos("trust", "mine.cube").code == 0
    assert more(work, memos).code == 0
    would = memos("pull", f"{store(work)}/team", "mine.cube", "--dry-run", "--json").json
    assert (would["before"], would["version"], would["dry_run"]) == ("0.1.0", "0.2.0", True)
    assert len(memos("list", "mine.cube").lines) == 2
    took = memos("pull", f"{store(work)}/team", "mine.cube", "--json")
    assert took.code == 0, took.err
    assert (took.json["before"], took.json["version"], took.json["changed"]) == ("0.1.0", "0.2.0", True)
    assert len(memos("list", "mine.cube").lines) == 3
    assert memos("audit", "mine.cube", "--deep").code == 0
    assert len(memos("log", "mine.cube").lines) == 2
    older = memos("pull", f"{store(work)}/team:0.1.0", "mine.cube", "--json")
    assert (older.code, older.json["version"]) == (0, "0.1.0")
    assert len(memos("list", "mine.cube").lines) == 2
    assert memos("audit", "mine.cube", "--deep").code == 0


def test_a_cube_with_changes_of_its_own_is_left_alone(cube: str, work: Path, memos: Memos) -> None:
    memos("push", cube, store(work))
    assert memos("pull", f"{store(work)}/team", cube).code == 2
    memos("pull", f"{store(work)}/team", "mine.cube")
    (work / "own.md").write_text("- A thought of mine.\n")
    assert memos("ingest", "mine.cube", "own.md").code == 0
    more(work, memos)
    done = memos("pull", f"{store(work)}/team", "mine.cube")
    assert (done.code, "changes of its own" in done.err) == (2, True)
    assert len(memos("list", "mine.cube").lines) == 3


def test_a_version_never_changes(cube: str, work: Path, memos: Memos) -> None:
    memos("push", cube, store(work))
    (work / "notes.md").write_text("- Something else.\n")
    memos("ingest", cube, "notes.md")
    done = memos("push", cube, store(work))
    assert (done.code, "never changes" in done.err) == (7, True)
    assert memos("push", cube, store(work), "--version", "0.1").code == 2


def test_only_who_may_share_may_push(work: Path, home: Path, memos: Memos) -> None:
    (work / "notes.md").write_text("- A secret.\n")
    memos("ingest", "team.cube", "notes.md", "--embedder", "none")
    memos("pack", "team.cube", "-o", "team.memcube")
    for name in ("identity.pub", "identity.key"):  # somebody else, with a key of their own
        (home / "keys" / name).unlink()
    for what in ("team.cube", "team.memcube"):
        done = memos("push", what, store(work))
        assert (done.code, "share_scope" in done.err) == (5, True)
    assert not STORE.exists()
    logged = [json.loads(line) for path in (home / "log").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [(line["verb"], line["outcome"]) for line in logged] == [("push", "denied")]


def test_a_pulled_cube_is_not_handed_on(work: Path, home: Path, memos: Memos) -> None:
    """Its maker said who may share it, and whoever pulls it is not its maker."""
    (work / "notes.md").write_text("- Ours.\n")
    memos("ingest", "team.cube", "notes.md", "--embedder", "none")
    memos("push", "team.cube", store(work))
    for name in ("identity.pub", "identity.key"):
        (home / "keys" / name).unlink()
    assert memos("pull", f"{store(work)}/team", "mine.cube").code == 0
    assert memos("push", "mine.cube", f"file://{work}/other").code == 5


def test_a_registry_wants_signatures(cube: str, fake: Fake, work: Path, memos: Memos) -> None:  # noqa: F811
    there = f"oci://{fake.host}/house"
    assert memos("push", cube, there).code == 0
    refused = memos("pull", f"{there}/team", "mine.cube")
    assert (refused.code, refused.out) == (5, "")
    assert not Path("mine.cube").exists()
    assert [name for name in os.listdir() if name.startswith(".mine")] == []
    assert "refused" in memos("info", f"{there}/team").out
    assert memos("pull", f"{there}/team", "mine.cube", "--require", "digest").code == 0
    assert memos("push", cube, there, "--sign", "identity").code == 0
    told = memos("info", f"{there}/team", "--json").json
    assert told["refused"] is None
    assert told["provenance"]
    assert memos("pull", f"{there}/team", "signed.cube", "--json").json["trusted"] is True
    shutil.rmtree("mine.cube")
    # a signature that was there once cannot be left away
    fake.state.tags = {key: digest for key, digest in fake.state.tags.items() if not key[1].startswith("sha256-")}
    assert memos("pull", f"{there}/team", "mine.cube", "--require", "digest").code == 5


@pytest.mark.long
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_skopeo_keeps_the_digest(cube: str, real: str, work: Path, memos: Memos) -> None:  # noqa: F811
    digest = memos("pack", cube, "-o", "team.memcube", "--json").json["digest"]
    copy = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "oci-archive:team.memcube",
            f"docker://{real}/copied/team:0.1.0"]  # fmt: skip
    subprocess.run(copy, check=True, capture_output=True)
    told = memos("info", f"oci://{real}/copied/team", "--json")
    assert told.code == 0, told.err
    assert told.json["digest"] == digest
    assert memos("pull", f"oci://{real}/copied/team", "copied.cube", "--require", "digest").code == 0
    assert memos("push", cube, f"oci://{real}/own", "--json").json["digest"] == digest
    (work / "back").mkdir()
    back = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{real}/own/team:0.1.0",
            f"oci:{work}/back/team:0.1.0"]  # fmt: skip
    subprocess.run(back, check=True, capture_output=True)
    assert memos("pull", f"file://{work}/back/team", "back.cube", "--json").json["digest"] == digest


@pytest.mark.long
def test_an_interrupted_pull_goes_on(
    cube: str, fake: Fake, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    (work / "many.md").write_text("".join(f"- Line {number} of many.\n" for number in range(3000)))
    memos("ingest", cube, "many.md")
    there = f"oci://{fake.host}/house"
    assert memos("push", cube, there).code == 0
    fake.faults.drop_download_at = [0] * 3  # the manifest is no blob; config and version are, twice tried
    done = memos("pull", f"{there}/team", "mine.cube", "--require", "digest", "--retry-for", "0")
    assert done.code == 7
    fake.faults.drop_download_at = []
    sizes = sorted((len(data) for data in fake.state.blobs.values()), reverse=True)
    big = next(digest for (_, digest), data in fake.state.blobs.items() if len(data) == sizes[0])
    fake.faults.answers = [(f"GET /v2/house/team/blobs/{big}", 503, {"Retry-After": "99"})]
    done = memos("pull", f"{there}/team", "mine.cube", "--require", "digest", "--retry-for", "1")
    assert (done.code, "503" in done.err) == (7, True)
    assert not Path("mine.cube").exists()
    held = [name for name in os.listdir() if name.startswith(".mine.cube.pull-")]
    assert len(held) == 1
    before = fake.count("GET .*blobs/sha256")
    took = memos("pull", f"{there}/team", "mine.cube", "--require", "digest", "--json")
    assert took.code == 0, took.err
    assert took.json["travelled"] <= sizes[0]
    assert fake.count("GET .*blobs/sha256") - before <= 2  # the config, always asked for, and the one that was missing
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_a_damaged_store_leaves_nothing(cube: str, fake: Fake, work: Path, memos: Memos) -> None:  # noqa: F811
    there = f"oci://{fake.host}/house"
    memos("push", cube, there)
    fake.faults.wrong_bytes = {digest for _, digest in fake.state.blobs}
    for reference in (f"{there}/team", f"{there}/team:0.1.0"):
        done = memos("pull", reference, "mine.cube", "--require", "digest")
        assert (done.code, done.out) == (4, "")
        assert sorted(os.listdir()) == ["notes.md", "team.cube"]


@pytest.mark.parametrize("offline", [["--offline"], []])
def test_a_store_that_is_not_there(offline: list[str], cube: str, work: Path, memos: Memos) -> None:
    for words in (["push", cube, "oci://127.0.0.1:9/house"], ["pull", "oci://127.0.0.1:9/house/team"],
                  ["info", "http://127.0.0.1:9/team"], ["search", "--source", "http://127.0.0.1:9"]):  # fmt: skip
        done = memos(*words, "--retry-for", "0.1", *offline)
        assert (done.code, done.out) == (7, "")
        assert ("--offline" in done.err) is bool(offline)
    assert memos("pull", f"{store(work)}/team").code == 3
    assert memos("info", f"{store(work)}/team").code == 3


@pytest.mark.parametrize(
    "words",
    [["push", "team.cube", "ftp://host/x"], ["push", "team.cube", "oci://a:b@host/x"], ["push", "team.cube", "nowhere"],
     ["push", "team.cube", "http://127.0.0.1:9/x"], ["pull", "team"], ["pull", "file:///x/../y"], ["search"],
     ["yank", "file:///x/team"], ["push", "team.cube", "file:///x/other:0.1.0"]],
)  # fmt: skip
def test_odd_calls(words: list[str], cube: str, memos: Memos) -> None:
    done = memos(*words)
    assert done.code in (2, 7)
    assert done.out == ""
    assert "a:b" not in done.err


def test_search_over_sources(cube: str, work: Path, memos: Memos) -> None:
    memos("push", cube, store(work))
    more(work, memos)
    memos("init", "other.cube", "--embedder", "none", "--description", "Recipes")
    memos("push", "other.cube", f"file://{work}/second")
    sources = ["--source", store(work), "--source", f"file://{work}/second"]
    assert [line.split("\t")[0] for line in memos("search", *sources).lines] == [
        f"{store(work)}/team:0.2.0", f"file://{work}/second/other:0.1.0",
    ]  # fmt: skip
    (found,) = [json.loads(line) for line in memos("search", "HOUSE", *sources, "--json").lines]
    assert (found["name"], found["licence"], found["versions"]) == ("team", "CC-BY-4.0", 2)
    assert memos("search", "nothing of that", *sources).lines == []
    # names are looked up in the same order, from the environment too
    assert memos("pull", "other", "third.cube", *sources).code == 0
    assert Path("third.cube").is_dir()
    assert memos("pull", "third", *sources).code == 3


@pytest.mark.long
def test_an_index_over_the_web(cube: str, work: Path, memos: Memos) -> None:
    memos("push", cube, store(work))
    assert memos("index", "store", "--dry-run").code == 0
    assert not (STORE / "memos-index.json").exists()
    with web(STORE) as served:
        there = f"http://{served.host}"
        assert memos("search", "--source", there).code == 3
        assert memos("index", "store", "--json").json["packages"] == 1
        assert memos("search", "--source", there, "-q").lines == [f"{there}/team:0.1.0"]
        assert memos("pull", "team", "mine.cube", "--source", there, "--require", "digest").code == 0
        for text in ("", "[]", '{"format_version":1,"packages":[{}]}', '{"format_version":2,"packages":[]}',
                     '{"format_version":1,"packages":[{"name":"../x"}]}'):  # fmt: skip
            (STORE / "memos-index.json").write_text(text)
            assert memos("search", "--source", there).code == 4
    assert memos("index", "nowhere").code == 3


@pytest.mark.long
def test_a_version_is_taken_back(cube: str, work: Path, memos: Memos) -> None:
    memos("push", cube, store(work))
    more(work, memos)
    assert memos("yank", f"{store(work)}/team:0.2.0", "-m", "holds a mistake", "--dry-run").code == 0
    assert memos("pull", f"{store(work)}/team", "a.cube", "--json").json["version"] == "0.2.0"
    assert memos("yank", f"{store(work)}/team:0.2.0", "-m", "holds a mistake").code == 0
    assert memos("pull", f"{store(work)}/team", "b.cube", "--json").json["version"] == "0.1.0"
    asked = memos("pull", f"{store(work)}/team:0.2.0", "c.cube", "--json")
    assert (asked.code, asked.json["version"], "holds a mistake" in asked.err) == (0, "0.2.0", True)
    assert "taken back: holds a mistake" in memos("info", f"{store(work)}/team").out
    assert memos("yank", f"{store(work)}/team:0.2.0", "--undo").code == 0
    assert memos("pull", f"{store(work)}/team", "d.cube", "--json").json["version"] == "0.2.0"
    assert memos("yank", f"{store(work)}/team:9.9.9").code == 3


@pytest.mark.long
def test_pre_releases_wait_to_be_asked_for(cube: str, work: Path, memos: Memos) -> None:
    memos("push", cube, store(work))
    more(work, memos, "0.2.0-rc.1")
    assert memos("pull", f"{store(work)}/team", "a.cube", "--json").json["version"] == "0.1.0"
    assert memos("pull", f"{store(work)}/team", "b.cube", "--pre", "--json").json["version"] == "0.2.0-rc.1"


def test_a_large_cube_goes_up_in_chunks(
    cube: str, fake: Fake, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(module, "MOST_CHUNK_BYTES", 4096)
    fake.faults.drop_upload_after = 100
    done = memos("push", cube, f"oci://{fake.host}/house", "--json")
    assert done.code == 0, done.err
    assert fake.count("PATCH") > 1
    assert sum(fake.state.received.values()) - done.json["bytes"] <= 4096


def test_the_hub(cube: str, work: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    with hub() as there:
        monkeypatch.setenv("HF_ENDPOINT", there.url)
        monkeypatch.setenv("HF_TOKEN", there.token)
        done = memos("push", cube, "hf://acme", "--sign", "identity", "--json")
        assert done.code == 0, done.err
        assert (done.json["reference"], done.json["digest"][:7]) == ("hf://acme/team:0.1.0", "sha256:")
        taken = memos("pull", "hf://acme/team", "mine.cube", "--json")
        assert taken.code == 0, taken.err
        assert (taken.json["digest"], taken.json["trusted"]) == (done.json["digest"], True)
        assert memos("search", "--source", "hf://acme", "-q").lines == ["hf://acme/team:0.1.0"]
        assert memos("info", "hf://acme/team", "--json").json["refused"] is None
        assert memos("pull", "team", "other.cube", "--source", "hf://acme", "--offline").code == 7
        assert all(there.token.encode() not in path.read_bytes() for path in work.rglob("*") if path.is_file())
        monkeypatch.setenv("HF_TOKEN", "hf_expired")
        refused = memos("push", cube, "hf://acme", "--version", "0.2.0")
        assert (refused.code, "hf auth login" in refused.err, "hf_expired" in refused.err) == (7, True, False)
