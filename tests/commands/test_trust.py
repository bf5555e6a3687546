"""Signing, trusting and refusing, as a person does it at a terminal: two homes, one file between them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memos_cli.cube import archive
from tests.conftest import Memos


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A switch to another home: the environment is what tells them apart."""
    (tmp_path / "other").mkdir()
    return str(tmp_path / "other")


def test_from_a_signed_package_to_a_trusted_cube(
    memos: Memos, work: Path, other: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "notes.md").write_text("- The train leaves at nine.\n")
    memos("ingest", "team.cube", "notes.md", "--embedder", "none")
    new = memos("keys", "new", "release")
    assert new.code == 0
    line = memos("keys", "export", "release").lines[0]
    assert new.lines == [line]
    signed = memos("pack", "team.cube", "--sign", "release", "--json").json
    assert memos("pack", "team.cube", "--sign", "nobody", "-o", "x.memcube").code == 3
    again = memos("pack", "team.cube", "--sign", "release", "-o", "again.memcube", "--json").json
    assert (again["digest"], again["key"]) == (signed["digest"], signed["key"])
    assert Path("again.memcube").read_bytes() == Path(signed["path"]).read_bytes()

    monkeypatch.setenv("MEMOS_HOME", other)
    refused = memos("unpack", signed["path"], "copy.cube", "--require", "signed")
    assert refused.code == 5
    assert line in refused.err
    assert not Path("copy.cube").exists()
    assert memos("unpack", signed["path"], "first.cube", "--json").json["trusted"] is False
    assert memos("keys", "trust", line, "--name", "ann", "--dry-run").code == 0
    assert memos("keys", "trust", line, "--name", "ann").code == 0
    assert [json.loads(one)["name"] for one in memos("keys", "--json").lines] == ["identity", "ann"]
    taken = memos("unpack", signed["path"], "copy.cube", "--require", "signed", "--json").json
    assert (taken["trusted"], taken["key"]) == (True, signed["key"])
    assert memos("query", "copy.cube", "train", "--json").json["untrusted"] == []

    # the same package without its signature
    monkeypatch.setenv("MEMOS_HOME", str(home))
    memos("pack", "team.cube", "-o", "bare.memcube")
    monkeypatch.setenv("MEMOS_HOME", other)
    stripped = memos("unpack", "bare.memcube", "bare.cube")
    assert stripped.code == 5
    assert "was signed by" in stripped.err
    assert not Path("bare.cube").exists()
    assert memos("unpack", "bare.memcube", "bare.cube", "--require", "none").code == 0

    # a later release is taken, and then the earlier one is not the newest any more
    monkeypatch.setenv("MEMOS_HOME", str(home))
    (work / "more.md").write_text("- The safe is in the cellar.\n")
    memos("ingest", "team.cube", "more.md")
    twice = memos("pack", "team.cube", "--sign", "release", "-o", "twice.memcube")
    assert twice.code == 5  # one version is one thing
    assert "a version never changes" in twice.err
    later = memos("pack", "team.cube", "--version", "0.2.0", "--sign", "release", "--json").json
    monkeypatch.setenv("MEMOS_HOME", other)
    assert memos("unpack", later["path"], "later.cube").code == 0
    rolled = memos("unpack", signed["path"], "old.cube")
    assert rolled.code == 5
    assert "was seen before" in rolled.err
    assert not Path("old.cube").exists()


def test_what_a_signed_package_says_of_itself(memos: Memos, work: Path) -> None:
    (work / "notes.md").write_text("- The train leaves at nine.\n")
    memos("ingest", "team.cube", "notes.md", "--embedder", "none")
    memos("pack", "team.cube", "--sign", "identity", "-o", "x.memcube")
    from memos_cli.infrastructure.signing import open_envelope

    release, provenance = (open_envelope(data) for data in archive.open_archive(Path("x.memcube")).signatures)
    if release.release is None:  # they lie in the order of their digests
        release, provenance = provenance, release
    assert release.release
    assert (release.release.name, release.release.version) == ("team", "0.1.0")
    said = provenance.said["buildDefinition"]
    assert said["internalParameters"]["operation"] == "ingest"
    assert [one["uri"] for one in said["resolvedDependencies"] if one["name"] == "source"] == ["notes.md"]
    assert provenance.said["runDetails"]["builder"]["id"].startswith("memos/")


@pytest.mark.parametrize(
    "words",
    [["keys", "nonsense"], ["keys", "new"], ["keys", "trust"], ["keys", "list", "x"], ["keys", "new", "A B"],
     ["keys", "new", "x", "--source", "y"], ["keys", "new", "x", "--dry-run"], ["unpack", "x", "--require", "maybe"]],
)  # fmt: skip
def test_odd_calls(words: list[str], memos: Memos, work: Path) -> None:
    (work / "x").write_text("")
    assert memos(*words).code == 2


def test_a_key_comes_from_a_file_too(memos: Memos, work: Path) -> None:
    line = memos("keys", "export").lines[0]
    Path("ann.pub").write_text(line + "\n")
    assert memos("keys", "trust", "ann.pub", "--name", "ann", "--source", "oci://x").code == 0
    assert memos("keys", "trust", "nowhere.pub").code == 3
    Path("bad.pub").write_text("hello")
    assert memos("keys", "trust", "bad.pub").code == 4
