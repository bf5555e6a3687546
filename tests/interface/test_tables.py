"""Cubes whose memories lie in an object store, against a real S3 server process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memos_cli.cube import external, metadata
from memos_cli.cube.pin import Pin, check_url, from_table
from memos_cli.cube.plaintext import Memories, table_of
from memos_cli.errors import Damaged, Locked, Usage
from memos_cli.infrastructure import faults
from memos_cli.interface import resuming
from tests import buckets
from tests.buckets import SECRET, Bucket
from tests.conftest import Memos, ok

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(buckets.program() is None, reason="moto's server is not installed: make .servers"),
    # the server's own process is ended by the operating system's signal
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    yield from buckets.serve(tmp_path_factory.mktemp("server") / "log")


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(external, "_admitted", set())
    return server.fresh()


@pytest.fixture
def team(bucket: Bucket, memos: Memos, work: Path) -> Bucket:
    """A cube `team.cube` with two memories in a bucket, and the sources of more."""
    (work / "a.md").write_text("# Team\n\n- Releases go out on Tuesday.\n- Ann owns the build.\n")
    (work / "b.md").write_text("# Tea\n\n- Bob drinks green tea.\n")
    (work / "c.md").write_text("# Coffee\n\n- Cleo drinks coffee.\n")
    ok(memos("init", "team.cube", "--table", bucket.url, "--embedder", "none"))
    ok(memos("ingest", "team.cube", "a.md"))
    return bucket


def texts(memos: Memos, cube: str = "team.cube", *flags: str) -> set[str]:
    done = ok(memos("list", cube, "--json", *flags))
    return {json.loads(line)["text"] for line in done.lines}


A = {"Releases go out on Tuesday.", "Ann owns the build."}
B, C = {"Bob drinks green tea."}, {"Cleo drinks coffee."}


def pin(cube: str = "team.cube") -> Pin:
    found = metadata.load(Path(cube) / "current").plaintext.table
    assert found is not None
    return found


def test_a_round_trip(team: Bucket, memos: Memos, work: Path) -> None:
    first = pin()
    ok(memos("ingest", "team.cube", "b.md"))
    assert texts(memos) == A | B
    assert "green tea" in ok(memos("query", "team.cube", "what does Bob drink?")).lines[0]
    assert not list((work / "team.cube").rglob("*.lance"))
    assert pin().version > first.version
    assert pin().manifest != first.manifest
    assert ok(memos("show", "team.cube", "--json")).json["table"] == f"{team.url} version {pin().version}"
    assert memos("audit", "team.cube", "--deep").code == 0
    assert "Bob" in ok(memos("diff", "team.cube", "2", "3")).out
    ok(memos("rollback", "team.cube", "2"))
    assert (texts(memos), pin()) == (A, first)
    ok(memos("ingest", "team.cube", "c.md"))  # on top of the earlier version, whatever came after it
    assert texts(memos) == A | C
    ok(memos("rollback", "team.cube", "3"))
    assert texts(memos) == A | B
    assert memos("audit", "team.cube", "--deep").code == 0


@pytest.mark.long
def test_what_changes_rows_does_so_in_the_bucket(team: Bucket, memos: Memos) -> None:
    rows = [json.loads(line) for line in ok(memos("list", "team.cube", "--json")).lines]
    ids = {row["text"]: row["id"] for row in rows}
    ok(memos("forget", "team.cube", "--ids", ids["Ann owns the build."]))
    assert texts(memos) == {"Releases go out on Tuesday."}
    assert "Ann" not in ok(memos("query", "team.cube", "who owns the build?")).out
    ok(memos("edit", "team.cube", ids["Releases go out on Tuesday."], "--text", "Releases go out on Friday."))
    assert texts(memos) == {"Releases go out on Friday."}
    ok(memos("tag", "team.cube", "kept"))
    ok(memos("gc", "team.cube", "--keep", "1", "--yes"))
    assert memos("audit", "team.cube", "--deep").code == 0
    assert memos("doctor", "team.cube").code == 0


@pytest.mark.long
def test_two_copies_of_a_cube_write_to_one_table_and_never_mix(team: Bucket, memos: Memos, work: Path) -> None:
    shutil.copytree("team.cube", "other.cube", symlinks=True)
    ok(memos("ingest", "team.cube", "b.md"))
    ok(memos("ingest", "other.cube", "c.md"))
    ok(memos("ingest", "team.cube", "c.md"))
    assert (texts(memos), texts(memos, "other.cube")) == (A | B | C, A | C)
    for cube in ("team.cube", "other.cube"):
        assert memos("audit", cube, "--deep").code == 0


def _row(name: str, memories: Memories) -> object:
    return table_of([{"id": name, "text": name, "near": name, "wide": name, "kind": "memory"}], embedder=None)


def test_two_writers_at_once_are_told_apart(team: Bucket, memos: Memos) -> None:
    external.admit(team.url)
    one, two = (Memories(Path(), external.open_pinned(pin())) for _ in range(2))
    one.append(_row("one", one))
    two.append(_row("two", two))  # begins after the first, so the first has lost
    with pytest.raises(Locked, match="another writer"):
        one.append(_row("again", one))
    made = two.table.pinned()
    assert set(Memories(Path(), external.open_pinned(made)).rows()["text"].to_pylist()) == A | {"two"}
    assert texts(memos) == A


@pytest.mark.long
def test_what_another_tool_appended_meanwhile_is_not_taken_for_ours(team: Bucket, memos: Memos) -> None:
    import lancedb

    external.admit(team.url)
    ours = Memories(Path(), external.open_pinned(pin()))
    ours.append(_row("one", ours))
    lancedb.connect(team.url).open_table("memories").add(_row("foreign", ours))
    ours.append(_row("two", ours))
    with pytest.raises(Locked, match="another writer"):
        ours.table.pinned()
    assert texts(memos) == A
    ok(memos("ingest", "team.cube", "b.md"))
    assert texts(memos) == A | B


def test_a_manifest_that_differs_is_damage(team: Bucket, memos: Memos) -> None:
    import obstore

    ok(memos("ingest", "team.cube", "b.md"))
    here, store = pin(), team.store()
    name = "_versions/{:020d}.manifest"
    earlier = bytes(obstore.get(store, name.format(2**64 - 1 - here.version + 1)).bytes())
    obstore.put(store, name.format(2**64 - 1 - here.version), earlier)
    for verb in (["query", "team.cube", "tea"], ["list", "team.cube"], ["ingest", "team.cube", "c.md"]):
        done = memos(*verb)
        assert (done.code, "not the one that was pinned" in done.err) == (4, True), done
    assert memos("audit", "team.cube").code == 4
    ok(memos("rollback", "team.cube", "2"))  # the way back is open
    assert texts(memos) == A


@pytest.mark.long
def test_what_is_gone_is_told_as_gone(team: Bucket, memos: Memos) -> None:
    import obstore

    store = team.store()
    names = [meta["path"] for page in store.list() for meta in page]
    obstore.delete(store, [name for name in names if name.startswith("data/")])
    done = memos("audit", "team.cube", "--deep")
    assert done.code == 4
    assert "Traceback" not in memos("query", "team.cube", "Ann").err
    obstore.delete(store, [name for name in names if not name.startswith("data/")])
    done = memos("query", "team.cube", "Ann")
    assert (done.code, "is gone" in done.err) == (3, True)


def test_a_store_that_does_not_answer_or_has_no_such_bucket(
    team: Bucket, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    before = pin()
    for verb in (["query", "team.cube", "Ann"], ["audit", "team.cube"], ["ingest", "team.cube", "b.md"]):
        done = memos(*verb)
        assert (done.code, team.url in done.err, SECRET in done.err) == (7, True, False), done
    assert pin() == before
    monkeypatch.setenv("AWS_ENDPOINT_URL", team.address)
    done = memos("init", "new.cube", "--table", "s3://nobody-has-this/x", "--embedder", "none")
    assert (done.code, "bucket is not there" in done.err) == (7, True), done
    assert not Path("new.cube").exists()
    assert texts(memos) == A


def test_wrong_credentials_are_refused_and_told_nowhere(team: Bucket, memos: Memos, home: Path, work: Path) -> None:
    team.ask("/moto-api/reset-auth", method="POST", data=b"0")
    try:
        for verb in (["query", "team.cube", "Ann"], ["ingest", "team.cube", "b.md"]):
            done = memos(*verb)
            assert (done.code, "refuses" in done.err, SECRET in done.err) == (7, True, False), done
    finally:
        team.ask("/moto-api/reset-auth", method="POST", data=b"inf")
    assert texts(memos) == A
    files = [path for top in (home, work) for path in top.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes() or b"testing" in path.read_bytes()]


def _run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memos_cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=120)


@pytest.mark.long
def test_a_kill_between_append_and_commit_leaves_the_old_pin(team: Bucket, memos: Memos) -> None:
    before = pin()
    assert _run("ingest", "team.cube", "b.md", MEMOS_FAULT="sealing:kill").returncode == -9
    assert (pin(), texts(memos)) == (before, A)
    assert memos("audit", "team.cube", "--deep").code == 0
    ok(memos("ingest", "team.cube", "b.md"))
    assert texts(memos) == A | B


@pytest.mark.long
def test_an_interrupted_ingest_goes_on_from_its_checkpoint(
    team: Bucket, memos: Memos, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "d.md").write_text("# Long\n\n" + "\n".join(f"- Fact number {i} is so." for i in range(700)))
    (work / "e.md").write_text("# More\n\n- The last of them.\n")
    monkeypatch.setattr(resuming, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(resuming.Journal, "_due", lambda self: True)
    monkeypatch.setenv("MEMOS_FAULT", "ingest_batch:eio:2")
    faults.reset()
    assert memos("ingest", "team.cube", "d.md", "e.md").code != 0
    monkeypatch.delenv("MEMOS_FAULT")
    assert texts(memos) == A
    done = ok(memos("ingest", "team.cube", "d.md", "e.md", "--json")).json
    assert done["resumed"] > 0
    rows = texts(memos)
    assert (len(rows), rows > A) == (703, True)
    assert len(ok(memos("list", "team.cube", "-q")).lines) == 703
    assert memos("audit", "team.cube", "--deep").code == 0


def test_pack_refuses_or_fetches(team: Bucket, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
    done = memos("pack", "team.cube", "-o", "out.memcube")
    assert (done.code, "--table fetch" in done.err, Path("out.memcube").exists()) == (2, True, False)
    done = memos("push", "team.cube", "file://store")
    assert (done.code, "push that file" in done.err) == (2, True), done
    assert memos("pack", "team.cube", "--table", "perhaps").code == 2
    Path("memos.toml").write_text("[trust]\ntable = true\n")  # the settings of a folder let no address in
    assert memos("trust", "team.cube").code == 2
    Path("memos.toml").unlink()
    ok(memos("pack", "team.cube", "-o", "out.memcube", "--table", "fetch"))
    ok(memos("pack", "team.cube", "-o", "again.memcube", "--table", "fetch"))
    assert Path("out.memcube").read_bytes() == Path("again.memcube").read_bytes()
    ok(memos("unpack", "out.memcube", "copy.cube"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert texts(memos, "copy.cube") == A
    assert metadata.load(Path("copy.cube/current")).plaintext.table is None
    assert memos("audit", "copy.cube", "--deep").code == 0


def test_no_package_names_an_address(team: Bucket) -> None:
    from memos_cli.cube import bundle

    with pytest.raises(Damaged, match="expected a package with its memories in it"):
        bundle.layout(Path("team.cube/current").resolve())


def test_an_address_is_called_only_where_somebody_let_it_in(
    team: Bucket, memos: Memos, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = work / "other-home"
    (other / "cache").parent.mkdir()
    monkeypatch.setenv("MEMOS_HOME", str(other))
    monkeypatch.setattr(external, "_admitted", set())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # would be told as code 7 if it were called
    for verb in (["query", "team.cube", "Ann"], ["list", "team.cube"], ["audit", "team.cube"]):
        done = memos(*verb)
        assert (done.code, "memos trust" in done.err) == (5, True), done
    assert ok(memos("show", "team.cube", "--json")).json["memories"] == 2
    ok(memos("trust", "team.cube", "--table", "--dry-run"))
    assert memos("list", "team.cube").code == 5
    ok(memos("trust", "team.cube", "--table"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", team.address)
    assert texts(memos) == A


def test_out_and_back(bucket: Bucket, memos: Memos, work: Path) -> None:
    (work / "a.md").write_text("# Team\n\n- Releases go out on Tuesday.\n- Ann owns the build.\n")
    ok(memos("ingest", "team.cube", "a.md", "--embedder", "none"))
    assert memos("migrate", "team.cube", "--table", "local").code == 2
    ok(memos("migrate", "team.cube", "--table", bucket.url, "--dry-run"))
    ok(memos("migrate", "team.cube", "--table", bucket.url))
    assert (texts(memos), pin().url) == (A, bucket.url)
    current = (work / "team.cube" / "current").resolve()
    assert not (current / "plaintext" / "memories.lance").exists()
    assert "Ann" in ok(memos("query", "team.cube", "who owns the build?")).out
    for verb in (["reindex", "team.cube"], ["forget", "team.cube", "--subject", "Ann", "--purge", "--yes"]):
        done = memos(*verb)
        assert (done.code, "--table local" in done.err) == (2, True), done
    assert memos("init", "second.cube", "--table", bucket.url, "--embedder", "none").code == 2
    assert texts(memos) == A
    ok(memos("migrate", "team.cube", "--table", "local"))
    assert metadata.load(work / "team.cube" / "current").plaintext.table is None
    done = memos("forget", "team.cube", "--subject", "Ann", "--purge", "--yes")
    assert (done.code, "reads a table at" in done.err) == (2, True)  # an earlier version still does
    ok(memos("gc", "team.cube", "--keep", "1", "--yes"))
    ok(memos("forget", "team.cube", "--subject", "Ann", "--purge", "--yes"))
    assert memos("audit", "team.cube", "--deep").code == 0


@pytest.mark.long
def test_a_cube_that_could_not_be_made_leaves_no_table(
    bucket: Bucket, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMOS_FAULT", "published:eio")
    faults.reset()
    assert memos("init", "team.cube", "--table", bucket.url, "--embedder", "none").code == 1
    monkeypatch.setenv("MEMOS_FAULT", "root_synced:eio")  # past the commit point
    faults.reset()
    assert memos("init", "team.cube", "--table", bucket.url, "--embedder", "none").code == 1
    monkeypatch.delenv("MEMOS_FAULT")
    assert pin().url == bucket.url
    assert texts(memos) == set()


@pytest.mark.long
def test_a_fork_reads_the_same_table_and_goes_its_own_way(team: Bucket, memos: Memos) -> None:
    ok(memos("init", "fork.cube", "--from", "team.cube"))
    ok(memos("ingest", "fork.cube", "b.md"))
    assert (texts(memos), texts(memos, "fork.cube")) == (A, A | B)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hush-hush-hush-4711@bucket/x", "s3://hush-hush-hush-4711@bucket/x",
        "s3://bucket/x?secret=hush-hush-hush-4711", "az://c/x#hush-hush-hush-4711", "s3://bucket", "s3:///x",
        "bucket/x", "http://bucket/x", "file:///etc", "s3://bucket/../x", "s3://bucket/a b", "s3://bucket/x\n",
        "s3://[x/y", "", "memory://x/y", "s3://bucket/" + "x" * 2000,
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_table(url: str) -> None:
    with pytest.raises(Usage) as caught:
        check_url(url)
    assert "hush" not in caught.value.message
    with pytest.raises(Damaged) as damaged:
        from_table({"url": url, "version": 1, "manifest": f"sha256:{'0' * 64}"}, place="here")
    assert "hush" not in damaged.value.message


def test_a_pin_in_a_file_is_read_strictly() -> None:
    good = {"url": "s3://bucket/x", "version": 3, "manifest": f"sha256:{'a' * 64}"}
    assert from_table(good, place="here") == Pin("s3://bucket/x", 3, good["manifest"])
    assert check_url("gs://bucket/x/") == "gs://bucket/x"
    for wrong in ({"version": 0}, {"version": True}, {"version": 2**63}, {"manifest": "x"}, {"url": "s3://bucket/x/"}):
        with pytest.raises(Damaged):
            from_table({**good, **wrong}, place="here")


def test_secrets_are_cut_out_of_what_a_store_says() -> None:
    said = "Generic S3 error: GET http://h/p?X-Amz-Signature=abcdef&y=1 said open-sesame, /x/src/y.rs:3:1"
    told = external._plain(said, {"AWS_SECRET_ACCESS_KEY": "open-sesame"})
    assert told == "Generic S3 error: GET http://h/p?... said ..."
