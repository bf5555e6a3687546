"""Labels: they rise by an edit, fall by a signed declassification alone, and bound what leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from memos_cli.errors import Damaged
from memos_cli.infrastructure import declassified, vault
from memos_cli.infrastructure.identity import fingerprint_of, is_signed, me, public_key, sign
from memos_cli.interface import frame
from tests.conftest import Begin, Memos, ok
from tests.interface.people import People

LOWER = ["--sensitivity", "public", "--declassify", "--reason", "it is on our site"]


def confidential(memos: Memos) -> None:
    Path("a.md").write_text("- The price is ten.\n- The margin is four.\n")
    ok(memos("ingest", "a.cube", "a.md", "--embedder", "none", "--sensitivity", "confidential"))


@pytest.fixture
def ids(begin: Begin, memos: Memos) -> list[str]:
    begin(confidential)
    return ok(memos("list", "a.cube", "-q")).lines


def test_a_lower_label_needs_a_signature_and_a_reason(ids: list[str], memos: Memos) -> None:
    done = memos("edit", "a.cube", ids[0], "--sensitivity", "public")
    assert (done.code, "--declassify" in done.err) == (5, True)
    assert memos("edit", "a.cube", ids[0], "--sensitivity", "public", "--declassify").code == 2
    assert memos("edit", "a.cube", ids[0], *LOWER, "--topic", "x").code == 2
    assert memos("edit", "a.cube", ids[0], "--sensitivity", "restricted", "--declassify", "-m", "no").code == 2
    assert memos("edit", "a.cube", ids[0], *LOWER, "--dry-run").code == 0
    assert ok(memos("show", "a.cube", ids[0], "--json")).json["sensitivity"] == "confidential"
    ok(memos("edit", "a.cube", ids[0], *LOWER))
    assert ok(memos("show", "a.cube", ids[0], "--json")).json["sensitivity"] == "public"
    ok(memos("edit", "a.cube", ids[1], "--sensitivity", "restricted"))  # raising needs neither


def test_a_declassification_is_in_the_chain_and_verifies(ids: list[str], home: Path, memos: Memos) -> None:
    ok(memos("edit", "a.cube", ids[0], *LOWER))
    ok(memos("edit", "a.cube", "--sensitivity", "restricted"))
    ok(memos("edit", "a.cube", "--sensitivity", "internal", "--declassify", "--reason", "ours"))
    first, second = map(json.loads, ok(memos("log", "a.cube", "--declassified", "--json")).lines)
    assert (first["memories"], first["was"], first["to"], first["reason"]) == (
        [ids[0]], {"confidential": 1}, "public", "it is on our site",
    )  # fmt: skip
    assert (second["memories"], second["was"], second["to"]) == ([], {"restricted": 1}, "internal")
    assert first["signed_by"] == second["signed_by"] == me(home).key
    assert "declassify" in ok(memos("log", "a.cube")).out
    manifest = json.loads(Path("a.cube/current/MANIFEST.json").read_text())
    assert declassified.FILE in [entry["path"] for entry in manifest["files"]]


@pytest.mark.parametrize(
    "change",
    [('"to":"public"', '"to":"internal"'), ("it is on our site", "no reason"), ('"signature":"', '"signature":"00')],
)
def test_a_changed_line_is_signed_by_nobody(
    ids: list[str], home: Path, memos: Memos, tmp_path: Path, change: tuple[str, str]
) -> None:
    ok(memos("edit", "a.cube", ids[0], *LOWER))
    cube_id = json.loads(Path("a.cube/current/MANIFEST.json").read_text())["cube_id"]
    line = (Path("a.cube/current") / declassified.FILE).read_text()
    (entry,) = declassified.read(Path("a.cube/current"), cube_id=cube_id)
    assert entry.signed_by == me(home).key
    (tmp_path / declassified.FILE).write_text(line.replace(*change))
    (entry,) = declassified.read(tmp_path, cube_id=cube_id)
    assert entry.signed_by == ""
    (tmp_path / declassified.FILE).write_text(line)
    (entry,) = declassified.read(tmp_path, cube_id="another")
    assert entry.signed_by == ""
    (tmp_path / declassified.FILE).write_text("[]\n")
    with pytest.raises(Damaged):
        list(declassified.read(tmp_path, cube_id=cube_id))


def test_a_line_in_the_name_of_another_key_is_signed_by_nobody(home: Path, tmp_path: Path) -> None:
    record = {
        "cube": "c", "memories": [], "was": {"internal": 1}, "to": "public", "reason": "r",
        "actor": {"key": "ed25519:" + "0" * 32, "user": "x"}, "time": "t", "parent": "p",
    }  # fmt: skip
    declassified.append(tmp_path, record, home=home)
    (entry,) = declassified.read(tmp_path, cube_id="c")
    assert entry.signed_by == ""


def test_a_signature_is_of_this_key_and_these_bytes(home: Path) -> None:
    public, signature = public_key(home), sign(home, b"words")
    assert fingerprint_of(public) == me(home).key
    assert is_signed(public, signature, b"words")
    assert not is_signed(public, signature, b"Words")
    assert not is_signed(public[:-1], signature, b"words")


def test_no_way_round_the_declassification(ids: list[str], work: Path, memos: Memos) -> None:
    """An ingest of the same file, a rollback to a version of before, and a copy: none lowers a label."""
    assert memos("ingest", "a.cube", "a.md", "--sensitivity", "public").code == 5
    (work / "a.md").write_text("- The price is ten.\n- The margin is five.\n")
    assert memos("ingest", "a.cube", "a.md", "--sensitivity", "public").code == 5
    ok(memos("edit", "a.cube", ids[0], "--sensitivity", "restricted"))
    ok(memos("rollback", "a.cube", "2"))
    assert ok(memos("show", "a.cube", ids[0], "--json")).json["sensitivity"] == "restricted"
    ok(memos("edit", "a.cube", "--sensitivity", "restricted"))
    ok(memos("rollback", "a.cube", "2"))
    assert ok(memos("show", "a.cube", "--json")).json["sensitivity"] == "restricted"
    assert memos("init", "b.cube", "--from", "a.cube", "--sensitivity", "public").code == 5


@pytest.mark.long
def test_a_rollback_keeps_the_record_of_what_was_declassified(ids: list[str], memos: Memos) -> None:
    ok(memos("edit", "a.cube", ids[0], *LOWER))
    ok(memos("rollback", "a.cube", "2"))
    assert len(ok(memos("log", "a.cube", "--declassified", "--json")).lines) == 1


def test_only_who_governs_declassifies_or_changes_scopes(
    ids: list[str], home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(memos("edit", "a.cube", "--write-scope", "anyone"))
    friend = People(home, memos, monkeypatch)("friend")
    ok(friend.run("edit", "a.cube", ids[0], "--type", "fact"))
    for words in (
        ["edit", "a.cube", ids[0], *LOWER], ["edit", "a.cube", ids[0], "--share-scope", "anyone"],
        ["edit", "a.cube", "--share-scope", "anyone"], ["edit", "a.cube", ids[0], "--hold"],
        ["edit", "a.cube", ids[0], "--freeze"], ["ingest", "a.cube", "a.md", "--share-scope", "anyone"],
    ):  # fmt: skip
        done = friend.run(*words)
        assert (done.code, "only its owner" in done.err) == (5, True), (words, done.err)
    ok(friend.run("edit", "a.cube", ids[1], "--owner", "hr"))
    Path("rules.toml").write_text(
        '[[access.rules]]\nname = "hr"\neffect = "forbid"\nverbs = ["share"]\nowners = ["hr"]\n'
    )
    ok(memos("edit", "a.cube", "--rules", "rules.toml"))
    for words in (["edit", "a.cube", ids[1], "--owner", "none"], ["ingest", "a.cube", "a.md", "--owner", "none"]):
        assert friend.run(*words).code == 5, words  # a rule looks at the label now
    Path("rules.toml").write_text(
        f'[[access.rules]]\nname = "press-office"\neffect = "permit"\nverbs = ["declassify"]\nwho = ["{friend.key}"]\n'
    )
    ok(memos("edit", "a.cube", "--rules", "rules.toml"))
    ok(friend.run("edit", "a.cube", ids[0], *LOWER))
    (line,) = ok(friend.run("log", "a.cube", "--declassified", "--json")).lines
    assert json.loads(line)["signed_by"] == friend.key


def test_a_label_bounds_what_leaves(ids: list[str], home: Path, memos: Memos) -> None:
    ok(memos("edit", "a.cube", ids[0], *LOWER))
    done = memos("convert", "a.cube", "--to", "prompt", "--ids", ids[1], "-o", "pack.jsonl")
    assert (done.code, "at most 'internal' goes to 'file'" in done.err) == (5, True)
    assert not Path("pack.jsonl").exists()
    (home / "policy.toml").write_text('[access.maximum]\nfile = "public"\n')
    assert memos("convert", "a.cube", "--to", "prompt", "--ids", ids[1]).code == 5
    (home / "policy.toml").write_text('[access.maximum]\nfile = "secret"\n')
    assert memos("list", "a.cube").code == 4


def test_what_is_read_into_a_file_passes_the_share_gate(
    ids: list[str], home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memos_cli.console import Output

    ok(memos("edit", "a.cube", ids[0], *LOWER))
    friend = People(home, memos, monkeypatch)("friend")
    asked = (["query", "a.cube", "price margin", "--mode", "text"], ["list", "a.cube"])
    assert all("margin" in ok(friend.run(*words)).out for words in asked)
    monkeypatch.setattr(Output, "destination", "file")
    for words in asked:
        done = ok(memos(*words))
        assert ("price" in done.out, "margin is four" in done.out) == (True, False)
        assert "at most 'internal'" in done.err
        refused = friend.run(*words)
        assert (refused.code, "share_scope" in refused.err) == (5, True)


def test_stdout_tells_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memos_cli.console import Output

    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        assert Output().destination == "file"


def test_an_answer_from_another_cube_is_written_back_only_if_it_may_leave(
    ids: list[str], home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memos_cli.errors import NotAllowed
    from memos_cli.interface import api, frame, remembering

    friend = People(home, memos, monkeypatch)("friend")
    desk = frame.desk(friend.home)
    answered = api.query("a.cube", "price", mode="text", home=friend.home)
    with pytest.raises(NotAllowed, match="share_scope"):
        remembering._elsewhere(desk, [answered], cube=Path("mine.cube"))  # type: ignore[list-item]
    shutil.rmtree("a.cube/log")


def test_the_operating_systems_user_is_no_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = me(home).user
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert me(home).user == before != "somebody-else"


def codes(memos: Memos, cube: str = "a.cube") -> list[str]:
    found = [one["code"] for one in memos("audit", cube, "--json").json["findings"]]
    return [code for code in found if code.startswith("declassified")]


def put_lines(home: Path, data: bytes) -> None:
    """A version whose file of declassifications is another, by somebody who can write the folder."""
    with frame.changing(frame.desk(home), "a.cube", "edit") as draft:
        vault.write_bytes(draft.path / declassified.FILE, data)
        draft.commit({})


def test_an_audit_finds_declassifications_that_nobody_signed(
    ids: list[str], home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(memos("edit", "a.cube", ids[0], *LOWER))
    ok(memos("audit", "a.cube", "--deep"))
    line = (Path("a.cube/current") / declassified.FILE).read_bytes()
    put_lines(home, line + line.replace(b"it is on our site", b"nobody will look"))
    done = memos("audit", "a.cube", "--json")
    (found,) = [one for one in done.json["findings"] if one["code"].startswith("declassified")]
    assert (done.code, found["code"], found["severity"]) == (9, "declassified-unsigned", "warning")
    assert found["place"].endswith(f"{declassified.FILE}:2")
    assert found["remedy"].endswith(f"a.cube {ids[0]} --sensitivity confidential")
    # by a key that is right, and of nobody who may
    stranger = People(home, memos, monkeypatch)("stranger")
    record = {**json.loads(line)["record"], "actor": {"key": stranger.key, "user": "x"}}
    put_lines(home, line)
    with frame.changing(frame.desk(home), "a.cube", "edit") as draft:
        declassified.append(draft.path, record, home=stranger.home)
        draft.commit({})
    assert set(codes(memos)) == {"declassified-foreign", "declassified-gone"}
    put_lines(home, b"[]\n")
    assert "declassified" in codes(memos)
    assert memos("audit", "a.cube").code == 4


@pytest.mark.long
def test_an_audit_finds_a_declassification_that_is_gone(ids: list[str], home: Path, memos: Memos) -> None:
    ok(memos("edit", "a.cube", ids[0], *LOWER))
    ok(memos("edit", "a.cube", ids[1], *LOWER))
    ok(memos("rollback", "a.cube", "2"))
    assert codes(memos) == []
    lines = (Path("a.cube/current") / declassified.FILE).read_bytes().splitlines(keepends=True)
    put_lines(home, lines[1])
    assert codes(memos) == ["declassified-gone"]
