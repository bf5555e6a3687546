"""Digests, canonical JSON and the manifest: what is written is read back, and nothing else is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_cli.cube import digest
from memos_cli.cube.digest import Entry, Manifest
from memos_cli.errors import Damaged

SEGMENTS = st.text("abcXYZ019_", min_size=1, max_size=8)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def entry(path: str, size: int = 3, sha256: str = "ab" * 32) -> Entry:
    return Entry(path, size, sha256)


def build(files: list[Entry], **fields: Any) -> Manifest:
    values: dict[str, Any] = {
        "cube_id": "0123456789abcdef",
        "version": 17,
        "parent": "sha256:" + "0f" * 32,
        "operation": "ingest",
        "actor": {"user": "tester"},
        "time": "2026-01-31T12:00:00Z",
        **fields,
    }
    return digest.build(files, **values)


GOOD = build([entry("memcube.toml"), entry("plaintext/memories.lance/data/a.lance")], summary={"added": 3})


def without_clashes(paths: list[str]) -> list[str]:
    """The paths that neither repeat another but for case nor are a folder of another."""
    folders = {"/".join(path.lower().split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    seen = {path.lower(): path for path in paths}
    return [path for folded, path in seen.items() if folded not in folders]


@given(st.lists(PATHS, max_size=8), HEX, st.integers(0, 1 << 50), st.dictionaries(st.text(), JSON, max_size=4))
@settings(deadline=None)
def test_a_manifest_is_read_back_as_it_was_written(
    paths: list[str], sha256: str, size: int, summary: dict[str, Any]
) -> None:
    files = [Entry(path, size, sha256) for path in without_clashes(paths)]
    try:
        manifest = build(files, summary=summary)
        data = manifest.to_bytes()
    except Damaged:
        # The one thing in these values that canonical JSON cannot hold is half of a surrogate pair.
        assert any(0xD800 <= ord(letter) < 0xE000 for letter in json.dumps(summary, ensure_ascii=False))
        return
    assert digest.parse(data) == manifest
    assert digest.parse(data).to_bytes() == data


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_manifest_with_any_byte_changed_is_refused_or_another_manifest(data: st.DataObject) -> None:
    whole = bytearray(GOOD.to_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        found = digest.parse(bytes(whole))
    except Damaged:
        return
    assert found.to_bytes() == bytes(whole)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        digest.parse(data)


@given(st.dictionaries(st.sampled_from(list(json.loads(GOOD.to_bytes()))), JSON | st.floats(), min_size=1))
@settings(max_examples=200, deadline=None)
def test_a_manifest_with_any_field_of_another_kind_never_crashes(changed: dict[str, Any]) -> None:
    value = {**json.loads(GOOD.to_bytes()), **changed}
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    try:
        found = digest.parse(data)
    except Damaged:
        return
    assert found.to_bytes() == data


@given(st.lists(st.dictionaries(st.sampled_from(["path", "size", "sha256", "x"]), JSON), min_size=1, max_size=3))
@settings(deadline=None)
def test_odd_file_entries_never_crash(files: list[dict[str, Any]]) -> None:
    value = {**json.loads(GOOD.to_bytes()), "files": files}
    with pytest.raises(Damaged):
        digest.parse(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "../x", "a/../b", "a/./b", "./a", "a//b", "a/", ".git/config", "a/.hidden", "a\\b",
        "a b", "a\n", "a\x00b", "é", "a\u202eb", "C:x", "-rf", "a/" * 20 + "b", "x" * 300, "MANIFEST.json",
        "manifest.JSON", "~root", "$HOME", "a:b", "a*",
    ],
)  # fmt: skip
def test_a_path_that_is_not_safe_is_refused(path: str) -> None:
    with pytest.raises(Damaged):
        build([entry(path)])
    with pytest.raises(Damaged):
        digest.parse(replace(GOOD, files=(entry(path),)).to_bytes())


@pytest.mark.parametrize("path", ["a", "memcube.toml", "plaintext/x.lance/_versions/18446744073709551614.manifest",
                                  "activation/a1b2.qwen-2.5+cpu=fp32.kv.safetensors", "a@b"])  # fmt: skip
def test_the_paths_that_lance_and_the_forms_use_are_safe(path: str) -> None:
    assert build([entry(path)]).files[0].path == path


@pytest.mark.parametrize(
    "files",
    [
        [entry("a"), entry("a")],
        [entry("a"), entry("A")],
        [entry("a"), entry("a/b")],
        [entry("A"), entry("a/b")],
        [entry("x/a"), entry("x/a/b/c")],
    ],
)
def test_files_that_clash_are_refused(files: list[Entry]) -> None:
    with pytest.raises(Damaged):
        build(files)


def test_files_out_of_order_are_refused_when_read_and_sorted_when_built() -> None:
    files = (entry("b"), entry("a"))
    assert [item.path for item in build(list(files)).files] == ["a", "b"]
    with pytest.raises(Damaged, match="in order"):
        digest.parse(replace(GOOD, files=files).to_bytes())


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 0}, {"version": -1}, {"version": 10**8}, {"version": True}, {"version": "1"},
        {"parent": ""}, {"parent": "sha256:../../x"}, {"parent": "md5:" + "0" * 64}, {"parent": "sha256:" + "G" * 64},
        {"cube_id": ""}, {"cube_id": "../x"}, {"cube_id": "a/b/c/d/e"}, {"operation": ""}, {"operation": "rm -rf"},
        {"time": "yesterday"}, {"time": "2026-01-31"}, {"reason": "x" * 5000}, {"actor": {"user": 3}},
        {"summary": {"a": 1.5}}, {"summary": {"a": float("nan")}}, {"summary": {"a": 2**60}}, {"summary": {"a": b"x"}},
        {"summary": {1: "a"}},
    ],
)  # fmt: skip
def test_a_field_outside_its_grammar_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        build([entry("a")], **fields)


@pytest.mark.parametrize(
    ("size", "sha256"),
    [(-1, "ab" * 32), (1 << 60, "ab" * 32), (True, "ab" * 32), (1, "AB" * 32), (1, ""), (1, "ab" * 31)],
)
def test_an_odd_size_or_digest_is_refused(size: int, sha256: str) -> None:
    with pytest.raises(Damaged):
        build([Entry("a", size, sha256)])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 100_000,
        b'{"version":' + b"9" * 9999 + b"}",
        GOOD.to_bytes() + b"\n", b" " + GOOD.to_bytes(), GOOD.to_bytes()[:-1], b"\xef\xbb\xbf" + GOOD.to_bytes(),
        GOOD.to_bytes().replace(b'"version":17', b'"version":17.0'),
        GOOD.to_bytes().replace(b'"version":17', b'"version":16,"version":17'),
        GOOD.to_bytes().replace(b'"version":17', b'"version":NaN'),
        GOOD.to_bytes().replace(b'"reason":""', b'"reason":"\\ud800"'),
        GOOD.to_bytes().replace(b'"added":3', b'"added":1e0'),
        GOOD.to_bytes().replace(b'"added":3', b'"added":' + b"[" * 50 + b"]" * 50),
    ],
)  # fmt: skip
def test_a_hostile_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        digest.parse(data)


def test_a_huge_manifest_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "MANIFEST_LIMIT_BYTES", 100)
    with pytest.raises(Damaged, match="at most 100 bytes"):
        digest.parse(GOOD.to_bytes())


def test_a_newer_and_an_older_format_are_told_apart() -> None:
    with pytest.raises(Damaged, match="newer memos") as newer:
        digest.parse(GOOD.to_bytes().replace(b'"format_version":1', b'"format_version":2'))
    assert "upgrade" in str(newer.value.hint)
    with pytest.raises(Damaged, match="older") as older:
        digest.parse(GOOD.to_bytes().replace(b'"format_version":1', b'"format_version":0'))
    assert "memos migrate" in str(older.value.hint)


def test_canonical_json_is_sorted_compact_utf_8() -> None:
    value = {"b": [1, None, True], "a": {"é": "ü\n", "Z": -5}}
    assert digest.canonical(value) == '{"a":{"Z":-5,"é":"ü\\n"},"b":[1,null,true]}'.encode()
    for odd in (1.0, float("inf"), 2**53, b"x", {1: 2}, "\udcff"):
        with pytest.raises(Damaged):
            digest.canonical({"x": odd})


def test_a_file_and_bytes_have_the_same_digest(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert digest.hash_file(tmp_path / "a") == digest.sha256_hex(data) == expected
    assert digest.digest_of(data) == f"sha256:{expected}"


def test_the_difference_of_two_manifests() -> None:
    old = build([entry("same"), entry("gone"), entry("edited", sha256="11" * 32)])
    new = build([entry("same"), entry("fresh"), entry("edited", size=9, sha256="22" * 32)])
    found = digest.diff(old, new)
    assert [item.path for item in found.added] == ["fresh"]
    assert [item.path for item in found.removed] == ["gone"]
    assert [(a.path, a.size, b.size) for a, b in found.changed] == [("edited", 3, 9)]
    assert found.unchanged == 1
    assert new.size_bytes == 15
