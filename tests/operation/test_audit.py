"""The audit of a real cube: nothing is found in a sound one, and every kind of harm is found and named."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import metadata
from memos_cli.cube.metadata import EmbedderIdentity, Governance, Plaintext
from memos_cli.cube.plaintext import LIVE, Memories, table_of
from memos_cli.errors import Damaged, NotFound
from memos_cli.infrastructure import trail, vault
from memos_cli.operation.audit import audit
from memos_cli.operation.findings import DAMAGE, NOTICE, WARNING, Audit

STAMP = vault.Stamp("ingest", {"key": "ed25519:00", "user": "tester"}, "2026-01-31T12:00:00Z")
EMBEDDER = EmbedderIdentity(name="tiny", digest="sha256:00", dim=4, window=16, precision="fp32")
NOW = datetime(2026, 1, 31, tzinfo=UTC)


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A row as ingest would write it."""
    return {
        "id": f"{number:020x}", "text": f"memory {number}", "near": "", "wide": "", "kind": "paragraph",
        "source": "a.md", "source_digest": "sha256:00", "position": number, "words": 2, "content_key": f"k{number}",
        "valid_from": NOW, "created_at": NOW, "updated_at": NOW, "line_start": 1, "line_end": 2,
        "vector": [1.0, 0.0, 0.0, 0.0], "near_vector": [0.0, 1.0, 0.0, 0.0], **fields,
    }  # fmt: skip


def write(tree: Path, rows: list[dict[str, Any]], cube: metadata.Memcube) -> None:
    """Add rows to the table of a draft and say so in its metadata."""
    directory = tree / "plaintext"
    is_there = (directory / "memories.lance").is_dir()
    memories = Memories.open(directory) if is_there else Memories.create(directory, embedder=EMBEDDER)
    memories.append(table_of(rows, embedder=EMBEDDER))
    counts = Plaintext(memories=memories.count(), live=memories.count(LIVE), sources=1, embedder=EMBEDDER)
    vault.write_bytes(tree / metadata.FILE, metadata.dumps(metadata.touched(cube, plaintext=counts)))


def make(root: Path, *batches: list[dict[str, Any]]) -> Path:
    """A cube with a version for each batch of rows, and two lines in its trail."""
    cube = metadata.new("a", governance=Governance(owner="ed25519:00"))
    vault.create(root, stamp=STAMP, cube_id=cube.id, write=lambda tree: write(tree, batches[0], cube))
    for batch in batches[1:]:
        with vault.draft(root, stamp=STAMP) as draft:
            write(draft.path, batch, cube)
            draft.commit()
    for _ in range(2):
        trail.append(root, home=root, cube_id=cube.id, actor={}, verb="show", version=1)
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound cube of three versions, not to be changed."""
    return make(tmp_path_factory.mktemp("audit") / "a.cube", *([row(2 * n), row(2 * n + 1)] for n in range(3)))


@pytest.fixture
def cube(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to harm; hard links become files of their own, so each harm stays in one version."""
    return Path(shutil.copytree(whole, tmp_path / "a.cube", symlinks=True))


def codes(found: Audit) -> set[tuple[str, str]]:
    return {(finding.severity, finding.code) for finding in found.findings}


def file_of(cube: Path, pattern: str) -> Path:
    """A file of the current version, made writable."""
    path = next(iter(sorted((cube / "current").resolve().glob(pattern))))
    path.chmod(0o644)
    return path


def test_nothing_is_found_in_a_sound_cube(whole: Path) -> None:
    shallow, deep = audit(whole), audit(whole, deep=True)
    assert shallow.findings == deep.findings == ()
    assert not deep.damaged
    assert (shallow.versions, shallow.rows, shallow.bytes, shallow.log_lines) == (3, 0, 0, 2)
    assert (deep.versions, deep.rows, deep.files) == (3, 6, shallow.files)
    # Shared files are hashed once, and the manifests are told by their folders' names.
    manifests = sum((version.path / "MANIFEST.json").stat().st_size for version in vault.versions(whole))
    assert deep.bytes == vault.measure(whole).all_bytes - manifests


def test_an_audit_changes_nothing(whole: Path) -> None:
    before = sorted(str(path) for path in whole.rglob("*"))
    audit(whole, deep=True)
    assert sorted(str(path) for path in whole.rglob("*")) == before


def test_findings_say_where_what_and_what_to_do(cube: Path) -> None:
    path = file_of(cube, "plaintext/memories.lance/data/*.lance")
    path.unlink()
    found = audit(cube)
    finding = next(item for item in found.findings if item.code == "missing-file")
    assert found.damaged
    assert finding.place == str(path)
    assert "not there" in finding.message
    assert f"memos rollback {cube}" in finding.remedy


@pytest.mark.many(2)
@pytest.mark.parametrize("seed", range(4))
def test_any_flipped_byte_of_any_file_is_found_by_the_deep_audit(cube: Path, seed: int) -> None:
    chance = random.Random(seed)
    files = sorted(path for path in (cube / "versions").rglob("*") if path.is_file())
    for path in chance.sample(files, 12):
        whole = path.read_bytes()
        if not whole:
            continue
        place = chance.randrange(len(whole))
        path.chmod(0o644)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
        found = audit(cube, deep=True)
        assert found.damaged, path
        version = path.relative_to(cube / "versions").parts[0]
        assert any(version in finding.place for finding in found.findings), path
        path.write_bytes(whole)
    assert audit(cube, deep=True).findings == ()


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda c: file_of(c, "MANIFEST.json").write_bytes(b"{}"), "manifest"),
        (lambda c: file_of(c, "MANIFEST.json").unlink(), "manifest"),
        (lambda c: file_of(c, "memcube.toml").write_bytes(b"x = ["), "metadata"),
        (lambda c: file_of(c, "memcube.toml").unlink(), "metadata"),
        (lambda c: (c / "current").resolve().joinpath("extra.bin").write_bytes(b"x"), "extra-file"),
        (lambda c: (c / "current").resolve().joinpath("link").symlink_to("/etc/passwd"), "odd-file"),
        (lambda c: os.truncate(file_of(c, "plaintext/memories.lance/data/*.lance"), 10), "size"),
        (lambda c: shutil.rmtree((c / "current").resolve() / "plaintext/memories.lance"), "missing-file"),
        (lambda c: (c / "current").unlink(), "pointer"),
        (lambda c: shutil.rmtree((c / "current").resolve()), "pointer"),
    ],
)
def test_damage_is_found_by_the_shallow_audit(cube: Path, harm: Callable[[Path], object], code: str) -> None:
    harm(cube)
    found = audit(cube)
    assert (DAMAGE, code) in codes(found)
    assert found.damaged
    assert found.findings[0].severity == DAMAGE
    assert all(finding.remedy for finding in found.findings)


def test_a_pointer_that_leads_out_of_the_cube_is_found(cube: Path) -> None:
    (cube / "current").unlink()
    (cube / "current").symlink_to("/etc")
    assert (DAMAGE, "pointer") in codes(audit(cube, deep=True))


def test_a_version_of_another_history_is_found(cube: Path, tmp_path: Path) -> None:
    """Two cubes of one id, whose version 2 differs: the chain tells."""
    other = Path(shutil.copytree(cube, tmp_path / "b.cube", symlinks=True))
    for root, text in ((cube, b"x"), (other, b"y")):
        for _ in range(2):
            with vault.draft(root, stamp=STAMP) as draft:
                vault.write_bytes(draft.path / "note", text)
                draft.commit()
    theirs = vault.versions(other)[1].path
    shutil.rmtree(vault.versions(cube)[1].path)
    shutil.copytree(theirs, cube / "versions" / theirs.name)
    assert (DAMAGE, "chain") in codes(audit(cube))


def test_leavings_are_notices_and_strays_are_warnings(cube: Path) -> None:
    (cube / "staging" / "rest").mkdir()
    (cube / ".lock.holder.1-0a.tmp").write_text("")
    (cube / ".current.new").symlink_to("x")
    (cube / "notes.txt").write_text("mine")
    (cube / "versions" / "draft").mkdir()
    (cube / "tags").mkdir()
    (cube / "tags" / "gone").symlink_to("../versions/00000099-0123456789abcdef")
    found = audit(cube)
    assert not found.damaged
    assert codes(found) == {(NOTICE, "staging"), (WARNING, "stray"), (WARNING, "tag")}
    assert [finding.severity for finding in found.findings] == [WARNING] * 3 + [NOTICE] * 3


@pytest.mark.parametrize("name", ["staging", "tags", "log", "versions"])
def test_a_link_in_the_place_of_a_folder_is_found(cube: Path, tmp_path: Path, name: str) -> None:
    if (cube / name).exists():
        (cube / name).rename(tmp_path / "elsewhere")
    (cube / name).symlink_to(tmp_path / "elsewhere")
    assert (DAMAGE, "link") in codes(audit(cube, deep=True))


def test_a_version_past_the_current_one_is_a_notice(cube: Path) -> None:
    second = vault.versions(cube)[1].path.name
    (cube / "current").unlink()
    (cube / "current").symlink_to(f"versions/{second}")
    assert codes(audit(cube)) == {(NOTICE, "unpublished")}


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda data: data.replace(b'"verb":"show"', b'"verb":"list"', 1), (DAMAGE, "log-edited")),
        (lambda data: data.split(b"\n", 1)[1], (DAMAGE, "log-chain")),
        (lambda data: b"x\n" + data, (DAMAGE, "log-unreadable")),
        (lambda data: data[:-5], (NOTICE, "log-torn")),
    ],
)
def test_harm_to_the_access_log_is_found(cube: Path, harm: Callable[[bytes], bytes], code: tuple[str, str]) -> None:
    path = trail.path_of(cube)
    path.write_bytes(harm(path.read_bytes()))
    assert code in codes(audit(cube))


@pytest.mark.many(5)
@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row(1), row(1)], "row-twice"),
        ([row(1, supersedes="f" * 20)], "row-link"),
        ([row(1, superseded_by="f" * 20, state="archived")], "row-link"),
        ([row(1, valid_to=datetime(2020, 1, 1, tzinfo=UTC))], "row-span"),
        ([row(1, line_start=9)], "row-span"),
        ([row(1, state="asleep")], "row-state"),
        ([row(1, sensitivity="secret")], "row-label"),
        ([row(1, text="")], "row-empty"),
        ([row(1, id="")], "row-empty"),
        ([row(1, vector=[float("inf"), 0, 0, 1])], "row-vector"),
        ([row(1, near_vector=[1.0, 1.0, 0, 0])], "row-vector"),
    ],
)
def test_rows_that_break_a_rule_are_found_by_the_deep_audit(
    tmp_path: Path, rows: list[dict[str, Any]], code: str
) -> None:
    root = make(tmp_path / "a.cube", [row(0), *rows])
    assert audit(root).findings == ()
    found = audit(root, deep=True)
    assert codes(found) == {(DAMAGE, code)}
    assert "memory" in found.findings[0].place


def test_rows_that_are_linked_repeated_when_archived_or_without_vectors_are_sound(tmp_path: Path) -> None:
    rows = [
        row(1, state="archived", valid_to=NOW, superseded_by=f"{2:020x}"),
        row(2, supersedes=f"{1:020x}"),
        row(3, state="archived", valid_to=NOW),
        row(3),
        row(4, vector=None, near_vector=None),
    ]
    assert audit(make(tmp_path / "a.cube", rows), deep=True).findings == ()


def test_metadata_that_does_not_fit_the_table_is_found(tmp_path: Path) -> None:
    root = make(tmp_path / "a.cube", [row(1)])
    with vault.draft(root, stamp=STAMP) as draft:
        cube = metadata.load(draft.path)
        other = EmbedderIdentity("other", "sha256:11", 4, 16, "fp32")
        wrong = metadata.touched(cube, plaintext=Plaintext(memories=7, live=1, sources=1, embedder=other))
        vault.write_bytes(draft.path / metadata.FILE, metadata.dumps(wrong))
        draft.commit()
    assert codes(audit(root)) == {(DAMAGE, "embedder"), (DAMAGE, "counts")}


def test_a_cube_of_another_id_is_found(tmp_path: Path) -> None:
    cube = metadata.new("a", governance=Governance(owner="ed25519:00"))
    vault.create(tmp_path / "a.cube", stamp=STAMP, cube_id="0123456789", write=lambda tree: write(tree, [row(1)], cube))
    assert codes(audit(tmp_path / "a.cube")) == {(DAMAGE, "identity")}


def test_what_is_no_cube_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        audit(tmp_path / "none")
    with pytest.raises(Damaged):
        audit(tmp_path)


def test_an_audit_survives_versions_that_are_swept_meanwhile(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [version.path.name for version in vault.versions(cube)]
    vault.sweep(cube, keep=1)
    from memos_cli.infrastructure import versions

    monkeypatch.setattr(versions, "version_names", lambda root: names)
    assert audit(cube).findings == ()


def test_files_that_no_form_knows_are_told(tmp_path: Path) -> None:
    root = make(tmp_path / "a.cube", [row(1)])
    with vault.draft(root, stamp=STAMP) as draft:
        for name in ("notes.txt", "plaintext/rest.bin", "plaintext/sources.arrow", "extra/a.lance"):
            (draft.path / name).parent.mkdir(exist_ok=True)
            vault.write_bytes(draft.path / name, b"x")
        draft.commit()
    found = audit(root)
    assert codes(found) == {(NOTICE, "orphan")}
    assert {Path(finding.place).name for finding in found.findings} == {"notes.txt", "rest.bin", "a.lance"}


def test_a_table_that_makes_lance_give_up_is_a_finding(tmp_path: Path) -> None:
    """A byte in a type's name, in the manifest of the table: it opens, and then panics in the native code."""
    root = make(tmp_path / "a.cube", [row(1)])
    for place in (root / "current" / "plaintext" / "memories.lance" / "_versions").glob("*.manifest"):
        place.chmod(0o644)
        place.write_bytes(place.read_bytes().replace(b"string", b"s\x18ring"))
    assert (DAMAGE, "table") in codes(audit(root))
    assert codes(audit(root, deep=True)) == {(DAMAGE, "content")}
