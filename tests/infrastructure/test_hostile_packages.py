"""Packages that somebody forged: each ends in its exit code and words, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import ustar
from memos_cli.cube.oci import TITLE, VERSION
from memos_cli.infrastructure import vault
from memos_cli.infrastructure.versions import VERSIONS
from tests.conftest import Memos
from tests.infrastructure.hostile import (
    Forger,
    add_file,
    entry_header,
    first_file,
    header,
    layer,
    same,
    set_key,
    without,
)

LANCE = "plaintext/memories.lance"
ZIP = b"PK\x03\x04" + b"\0" * 60
PICKLE = b"\x80\x04\x95" + b"\0" * 60
ELF = b"\x7fELF" + b"\0" * 60


@pytest.fixture(scope="session")
def forger(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Forger:
    """Forges packages of a small real cube."""
    from memos_cli.interface import api

    place = tmp_path_factory.mktemp("forger")
    (place / "home").mkdir()
    (place / "notes.md").write_text("- The train leaves at nine.\n- The safe is in the cellar.\n")
    api.ingest(place / "team.cube", [place / "notes.md"], embedder="none", home=place / "home")
    return Forger(vault.current_version(place / "team.cube").path)


def append(data: bytes) -> Callable[[bytes], bytes]:
    return lambda archive: archive + data


def toml(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """memcube.toml with other words."""

    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        assert old in files["memcube.toml"]
        return {**files, "memcube.toml": files["memcube.toml"].replace(old, new)}

    return change


def replaced(suffix: str, data: bytes) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """The first file of a kind, with other bytes."""

    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        path = next(path for path in sorted(files) if path.endswith(suffix))
        return {**files, path: data}

    return change


def spoilt(suffix: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """The first file of a kind, with its middle changed and its end as it was."""

    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        path = next(path for path in sorted(files) if path.endswith(suffix))
        data = files[path]
        return {**files, path: b"\xff" * (len(data) - 4) + data[-4:]}

    return change


def twice(number: int) -> Callable[[list[Any]], list[Any]]:
    return lambda made: [*made, made[number]]


def swapped(made: list[Any]) -> list[Any]:
    return [made[1], made[0], *made[2:]]


def renamed(number: int, name: str) -> Callable[[list[Any]], list[Any]]:
    """An entry under another name."""

    def change(made: list[Any]) -> list[Any]:
        head = header(made[number][0], 0, name.encode().ljust(100, b"\0"))
        return [(head, body) if index == number else (other, body) for index, (other, body) in enumerate(made)]

    return change


def other_bytes(number: int) -> Callable[[list[Any]], list[Any]]:
    """An entry with one byte changed under the digest of before."""

    def change(made: list[Any]) -> list[Any]:
        head, body = made[number]
        return [*made[:number], (head, bytes([body[0] ^ 1]) + body[1:]), *made[number + 1 :]]

    return change


def in_index(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda held: {**held, "manifests": [{**held["manifests"][0], **changes}]}


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


# What is forged: the level and its change, and words of the message. All end with 4, unsafe or damaged input.
FORGED: dict[str, tuple[dict[str, Any], str]] = {
    # the archive
    "empty": ({"whole": lambda data: b""}, "cut short"),
    "text": ({"whole": lambda data: b"hello world\n" * 100}, "as a name"),
    "only the end": ({"whole": lambda data: ustar.END}, "first entries"),
    "a zip": ({"whole": lambda data: ZIP.ljust(2048, b"\0")}, "as a name"),
    "a gzip": ({"whole": lambda data: b"\x1f\x8b\x08".ljust(2048, b"\1")}, "as a name"),
    "cut in a header": ({"whole": lambda data: data[:700]}, "cut short"),
    "cut in a file": ({"whole": lambda data: data[: len(data) // 2]}, "cut short"),
    "cut before the end": ({"whole": lambda data: data[:-1024]}, "cut short"),
    "half an end": ({"whole": lambda data: data[:-512]}, "cut short"),
    "more after the end": ({"whole": append(b"\0" * 512)}, "nothing after it"),
    "another archive after it": ({"whole": lambda data: data + data}, "nothing after it"),
    "padding that is no zeros": (
        {"whole": lambda data: data.replace(b'"}' + b"\0" * 8, b'"}' + b"\1" * 8, 1)},
        "zeros",
    ),
    "parent folder": ({"entries": renamed(2, "../../etc/passwd")}, "as a name"),
    "absolute path": ({"entries": renamed(2, "/etc/cron.d/x")}, "as a name"),
    "backslash": ({"entries": renamed(2, "blobs\\sha256\\x")}, "as a name"),
    "name after a NUL": ({"entries": renamed(2, "index.json\0/../../x")}, "as a name"),
    "terminal codes in a name": ({"entries": renamed(2, "\x1b[2Jblobs")}, "as a name"),
    "digest in capitals": ({"entries": renamed(2, "blobs/sha256/" + "A" * 64)}, "as a name"),
    "digest as a path": ({"entries": renamed(2, "blobs/sha256/../" + "a" * 61)}, "as a name"),
    "an entry twice": ({"entries": twice(3)}, "each entry once"),
    "index first": ({"entries": swapped}, "first entries"),
    "a link": ({"entries": entry_header(3, 156, b"2")}, "plain file"),
    "a hard link": ({"entries": entry_header(3, 156, b"1" + b"/etc/passwd")}, "plain file"),
    "a folder": ({"entries": entry_header(3, 156, b"5")}, "plain file"),
    "a device": ({"entries": entry_header(3, 156, b"3")}, "plain file"),
    "a pipe": ({"entries": entry_header(3, 156, b"6")}, "plain file"),
    "a pax header": ({"entries": entry_header(3, 156, b"x")}, "plain file"),
    "a long name of GNU": ({"entries": entry_header(3, 156, b"L")}, "plain file"),
    "a sparse file": ({"entries": entry_header(3, 156, b"S")}, "plain file"),
    "setuid": ({"entries": entry_header(3, 100, b"0004755\0")}, "plain file"),
    "an owner": ({"entries": entry_header(3, 108, b"0001750\0")}, "plain file"),
    "a time": ({"entries": entry_header(3, 136, b"14000000000\0")}, "plain file"),
    "a prefix": ({"entries": entry_header(3, 345, b"../..")}, "plain file"),
    "a negative size": ({"entries": entry_header(3, 124, b"\xff" * 12)}, "eleven octal digits"),
    "a size in base 256": ({"entries": entry_header(3, 124, b"\x80" + b"\0" * 10 + b"\5")}, "eleven octal digits"),
    "a huge size": ({"entries": entry_header(3, 124, b"77777777777\0")}, "cut short"),
    "a wrong checksum": (
        {"entries": lambda made: [(made[0][0][:148] + b"0" * 8 + made[0][0][156:], made[0][1]), *made[1:]]},
        "plain file",
    ),  # noqa: E501
    "a blob too many": (
        {"entries": lambda made: [*made, (ustar.header("blobs/sha256/" + "0" * 64, 3), b"abc")]},
        "too many",
    ),  # noqa: E501
    "a blob too few": ({"entries": lambda made: made[:-1]}, "missing"),
    "other bytes in the manifest": ({"entries": other_bytes(2)}, "other bytes under its name"),
    "other bytes in the config": ({"entries": other_bytes(3)}, "expected the digest"),
    "other bytes in the version": ({"entries": other_bytes(4)}, "expected the digest"),
    "other bytes in a bundle": ({"entries": other_bytes(5)}, "other bytes in the bundle"),
    "another layout": ({"layout": b'{"imageLayoutVersion":"9.9.9"}'}, "layout 1.0.0"),
    "a large layout": ({"layout": b" " * 4096}, "at most 64 bytes"),
    # index.json
    "index that is no JSON": ({"index": lambda held: b"{"}, "JSON in UTF-8"),
    "index that is a list": ({"index": lambda held: b"[]"}, "an object"),
    "index too large": ({"index": lambda held: b" " * 100_000}, "at most"),
    "index too deep": ({"index": lambda held: nested(30_000)}, "JSON in UTF-8"),
    "index of a number of many digits": ({"index": lambda held: b"9" * 60_000}, "JSON in UTF-8"),
    "index with white space": (
        {"index": lambda held: b'{"manifests": [], "mediaType": "x", "schemaVersion": 2}'},
        "index",
    ),  # noqa: E501
    "two manifests": ({"index": lambda held: {**held, "manifests": held["manifests"] * 2}}, "exactly one manifest"),
    "no manifest": ({"index": set_key("manifests", [])}, "exactly one manifest"),
    "index of a string": ({"index": set_key("manifests", "x")}, "exactly one manifest"),
    "index of another type": ({"index": in_index(artifactType="application/x")}, "the type"),
    "digest that is a path": ({"index": in_index(digest="sha256:../../../../etc/passwd")}, "sha256:<64 hex>"),
    "digest of another kind": ({"index": in_index(digest="md5:" + "0" * 64)}, "sha256:<64 hex>"),
    "digest that is a list": ({"index": in_index(digest=[])}, "sha256:<64 hex>"),
    "size of the manifest wrong": ({"index": in_index(size=7)}, "size and version"),
    "size that is true": ({"index": in_index(size=True)}, "a size in bytes"),
    "size below zero": ({"index": in_index(size=-1)}, "a size in bytes"),
    "signatures that are no digests": (
        {"index": in_index(annotations={"org.opencontainers.image.ref.name": "0.1.0", "dev.memos.signatures": "../x"})},
        "digests of signatures",
    ),  # noqa: E501
    "a signature that is not there": (
        {
            "index": in_index(
                annotations={"org.opencontainers.image.ref.name": "0.1.0", "dev.memos.signatures": "sha256:" + "0" * 64}
            )
        },
        "expected the blob",
    ),  # noqa: E501
    # the image manifest
    "manifest that is no JSON": ({"image": lambda held: b"nonsense"}, "JSON in UTF-8"),
    "manifest too deep": ({"image": lambda held: nested(200_000)}, "JSON in UTF-8"),
    "manifest without layers": ({"image": without("layers")}, "fields of a memcube"),
    "manifest with a key more": ({"image": set_key("subject", {})}, "fields of a memcube"),
    "manifest of another schema": ({"image": set_key("schemaVersion", 1)}, "schemaVersion 2"),
    "manifest of another type": (
        {"image": set_key("artifactType", "application/vnd.oci.image.config.v1+json")},
        "artifact",
    ),  # noqa: E501
    "no layer": ({"image": set_key("layers", [])}, "1 to 10,000 layers"),
    "too many layers": ({"image": lambda held: {**held, "layers": held["layers"] * 6_000}}, "1 to 10,000 layers"),
    "layers that are an object": ({"image": set_key("layers", {"0": {}})}, "1 to 10,000 layers"),
    "a layer that is a number": ({"image": set_key("layers", [7])}, "an object as a descriptor"),
    "a layer without a digest": (
        {"image": set_key("layers", [{"mediaType": "a", "size": 1}])},
        "mediaType, digest and size",
    ),  # noqa: E501
    "a size of a float": ({"image": lambda held: b'{"artifactType":1.5}'}, "fields of a memcube"),
    "a size with an exponent": ({"image": layer(1, size=10**30)}, "a size in bytes"),
    "another size of a layer": ({"image": layer(1, size=5)}, "bytes as"),
    "urls of a layer": ({"image": layer(1, urls=["http://localhost/x"])}, "mediaType, digest and size"),
    "data in a layer": ({"image": layer(1, data="aGk=")}, "mediaType, digest and size"),
    "terminal codes in an annotation": ({"image": layer(1, annotations={"a": "\x1b]0;x\x07"})}, "printable ASCII"),
    "a name of nothing": ({"image": set_key("annotations", {})}, "a name and a version"),
    "a layer of another kind": (
        {"image": layer(1, mediaType="application/vnd.oci.image.layer.v1.tar")},
        "found application",
    ),  # noqa: E501
    "a title on a bundle": ({"image": layer(1, annotations={"org.opencontainers.image.title": "../x"})}, "expected"),
    "layers in another order": ({"image": lambda held: {**held, "layers": held["layers"][::-1]}}, "the version"),
    "only the version": ({"image": lambda held: {**held, "layers": held["layers"][:1]}}, "missing"),
    "a bundle twice": ({"image": lambda held: {**held, "layers": [*held["layers"], held["layers"][1]]}}, "layers"),
    "a name that is a path": (
        {"image": set_key("annotations", {TITLE: "../evil", VERSION: "0.1.0"})},
        "a name of letters",
    ),
    "a name that is hidden": (
        {"image": set_key("annotations", {TITLE: ".evil", VERSION: "0.1.0"})},
        "a name of letters",
    ),
    "a version that is a path": (
        {"image": set_key("annotations", {TITLE: "team", VERSION: "../1.0"})},
        "a version such as",
    ),
    "a version with a build": (
        {"image": set_key("annotations", {TITLE: "team", VERSION: "1.0.0+x"})},
        "a version such as",
    ),
    # the config
    "config that is no JSON": ({"config": lambda held: b"{}}"}, "JSON in UTF-8"),
    "config with spaces": ({"config": lambda held: b'{"a": 1}'}, "canonical JSON"),
    "config of another format": ({"config": set_key("format_version", 2)}, "expected format 1"),
    "config without a name": ({"config": without("name")}, "expected name to be str"),
    "config of another name": ({"config": set_key("name", "bank")}, "expected the name"),
    "config of another version": ({"config": set_key("version", "9.9.9")}, "expected the name"),
    "config of a later sequence": ({"config": set_key("sequence", 99)}, "expected the version"),
    "config of another cube": ({"config": set_key("cube_id", "f" * 32)}, "expected the version"),
    "config of another version's digest": (
        {"config": set_key("version_digest", "sha256:" + "0" * 64)},
        "expected the version",
    ),  # noqa: E501
    "a lower label in the config": ({"config": set_key("sensitivity", "public")}, "the config says sensitivity"),
    "another owner in the config": ({"config": set_key("owner", "ed25519:" + "f" * 32)}, "the config says owner"),
    "fewer memories in the config": ({"config": set_key("memories", 1)}, "the config says memories"),
    "limits of nothing": ({"config": set_key("limits", {})}, "three sizes in order"),
    "limits that are texts": (
        {"config": set_key("limits", {"small_bytes": "1", "bundle_bytes": 2, "part_bytes": 3})},
        "three sizes in order",
    ),  # noqa: E501
    "limits out of order": (
        {"config": set_key("limits", {"small_bytes": 9, "bundle_bytes": 2, "part_bytes": 3})},
        "three sizes in order",
    ),  # noqa: E501
    "limits that divide otherwise": (
        {"config": set_key("limits", {"small_bytes": 1, "bundle_bytes": 2, "part_bytes": 3})},
        "layers",
    ),  # noqa: E501
    # the version's manifest
    "version that is no JSON": ({"version": lambda held: b"x"}, "JSON in UTF-8"),
    "version of a newer format": ({"version": set_key("format_version", 2)}, "newer memos"),
    "a path upwards": ({"version": first_file(path="../../x.toml")}, "a safe relative path"),
    "a path from the root": ({"version": first_file(path="/etc/x.toml")}, "a safe relative path"),
    "a path of a repository": ({"version": first_file(path=".git/config")}, "a safe relative path"),
    "a path with a newline": ({"version": first_file(path="a\nb.toml")}, "a safe relative path"),
    "a path that reads backwards": ({"version": first_file(path="a\u202etxt.exe")}, "a safe relative path"),
    "a path that is a number": ({"version": first_file(path=7)}, "a safe relative path"),
    "a file twice": ({"version": lambda held: {**held, "files": [held["files"][0], *held["files"]]}}, "each once"),
    "a file and a folder": ({"files": add_file("plaintext", b"x")}, "no file that is also a folder"),
    "names that differ by case": ({"files": add_file("MEMCUBE.TOML", b"x")}, "more than case"),
    "another hash of a file": ({"version": first_file(sha256="0" * 64)}, "other bytes in the bundle"),
    "a file that is larger than told": ({"version": first_file(size=1)}, "expected"),
    "a file that is huge": ({"version": first_file(size=2**60)}, "a size in bytes"),
    # what the files are
    "no metadata": ({"files": without("memcube.toml")}, "found none"),
    "a pickle": ({"files": add_file("activation/m.0123456789ab.kv.pkl", PICKLE)}, "kinds that a cube has"),
    "torch weights": ({"files": add_file("parameter/facts/adapter_model.bin", ZIP)}, "kinds that a cube has"),
    "a script": ({"files": add_file("plaintext/setup.py", b"import os")}, "kinds that a cube has"),
    "a library": ({"files": add_file("plaintext/x.so", ELF)}, "kinds that a cube has"),
    "a template": ({"files": add_file("parameter/facts/chat_template.jinja", b"{{x}}")}, "kinds that a cube has"),
    "a page": ({"files": add_file("index.html", b"<script>")}, "kinds that a cube has"),
    "a device name": ({"files": add_file("plaintext/CON", b"x")}, "kinds that a cube has"),
    "a pickle as safetensors": (
        {"files": add_file("parameter/facts/adapter_model.safetensors", PICKLE)},
        "a safetensors file",
    ),  # noqa: E501
    "safetensors with a huge header": (
        {"files": add_file("activation/m.0123456789ab.kv.safetensors", b"\xff" * 7 + b"\0{}")},
        "a safetensors file",
    ),  # noqa: E501
    "a library as a table": ({"files": replaced(".lance", ELF)}, "a file of Lance"),
    "a zip as a catalogue": ({"files": replaced("sources.arrow", ZIP)}, "an Arrow file"),
    "bytes as an adapter's notes": (
        {"files": add_file("parameter/facts/memory.toml", b"\xff\xfe\0")},
        "a text in UTF-8",
    ),
    "a large text": ({"files": add_file("parameter/facts/README.md", b"a" * (600 << 10))}, "at most 524,288"),
    "a key of many parts": ({"files": toml(b"[policy]", b"x" + b".x" * 8_000 + b" = 1\n[policy]")}, "16 parts"),
    "deep lists": ({"files": toml(b"[policy]", b"x = " + nested(5_000) + b"\n[policy]")}, "16 levels"),
    "metadata too large": ({"files": toml(b"[policy]", b"# " + b"a" * 300_000 + b"\n[policy]")}, "262,144 bytes"),
    "metadata of a newer format": ({"files": toml(b"format_version = 1", b"format_version = 7")}, "newer memos"),
    "metadata of another name": ({"files": toml(b'name = "team"', b'name = "bank"')}, "the config says name"),
    "metadata of another cube": ({"files": toml(b'\nid = "', b'\nid = "../')}, "is of cube"),
    "metadata of no owner": ({"files": toml(b"owner = ", b"owned = ")}, "governance.owner"),
    "metadata that counts wrong": ({"files": toml(b"memories = 2", b"memories = 7")}, "7 memories, found 2"),
    "a table that is spoilt": ({"files": spoilt(".manifest")}, "cannot be read|can be read|readable table"),
    "a table without data": (
        {"files": lambda held: {path: data for path, data in held.items() if "/data/" not in path}},
        "read",
    ),  # noqa: E501
    "a catalogue that is spoilt": ({"files": replaced("sources.arrow", b"ARROW1" + b"\0" * 90)}, "Arrow"),
    "a cache that is none": (
        {"files": add_file("activation/m.0123456789ab.kv.safetensors", b"\2" + b"\0" * 7 + b"{}")},
        "activation|safetensors|read",
    ),  # noqa: E501
}


@pytest.mark.many(24)
@pytest.mark.parametrize("case", FORGED)
def test_what_is_forged_is_refused_and_leaves_nothing(case: str, forger: Forger, memos: Memos, work: Path) -> None:
    changes, words = FORGED[case]
    Path("x.memcube").write_bytes(forger.forge(**changes))
    done = memos("unpack", "x.memcube", "copy.cube")
    assert done.code == 4, (done.out, done.err)
    assert done.out == ""
    assert any(word in done.err for word in words.split("|")), done.err
    assert "\x1b" not in done.err
    assert sorted(os.listdir()) == ["x.memcube"]


def test_there_are_enough_of_them() -> None:
    assert len(FORGED) > 100


def test_what_is_not_forged_is_taken(forger: Forger, memos: Memos, work: Path) -> None:
    """The forger makes packages as memos does: what is refused above is refused for what was changed."""
    Path("x.memcube").write_bytes(forger.forge(files=same))
    done = memos("unpack", "x.memcube", "copy.cube")
    assert done.code == 0, done.err
    assert memos("audit", "copy.cube", "--deep").code == 0


def test_a_name_that_is_a_path_names_no_place(forger: Forger, memos: Memos, work: Path) -> None:
    changes = {
        "image": set_key("annotations", {TITLE: "../evil", VERSION: "0.1.0"}),
        "config": set_key("name", "../evil"),
    }
    Path("x.memcube").write_bytes(forger.forge(**changes))
    assert memos("unpack", "x.memcube").code == 4
    assert sorted(path.name for path in work.parent.iterdir() if "evil" in path.name) == []


def test_other_things_than_packages(memos: Memos, work: Path) -> None:
    assert memos("unpack", "nowhere.memcube").code == 3
    Path("folder.memcube").mkdir()
    assert memos("unpack", "folder.memcube").code == 2
    os.mkfifo("pipe.memcube")
    assert memos("unpack", "pipe.memcube").code == 2
    Path("link.memcube").symlink_to("link.memcube")
    assert memos("unpack", "link.memcube").code in (1, 3)


def test_a_place_that_is_taken_is_left_as_it_is(forger: Forger, memos: Memos, work: Path) -> None:
    Path("x.memcube").write_bytes(forger.forge())
    Path("mine").mkdir()
    Path("mine/note").write_text("mine")
    Path("dangling").symlink_to("elsewhere")
    for place in ("./mine", "./x.memcube", "./dangling", "./nowhere/copy.cube"):
        assert memos("unpack", "x.memcube", place).code == 2
    assert Path("mine/note").read_text() == "mine"
    assert not Path("elsewhere").exists()


def test_a_schema_that_asks_for_code_is_refused(forger: Forger, memos: Memos, work: Path, tmp_path: Path) -> None:
    """The metadata with which a search for a text ran a file of the cube."""
    import lancedb  # noqa: TID253
    import pyarrow as pa  # noqa: TID253

    from memos_cli.cube.plaintext import schema

    # an empty list, or making it would load them here
    asks = schema(None).with_metadata({b"embedding_functions": b"[]"})
    lancedb.connect(str(tmp_path)).create_table("memories", schema=asks, data=pa.Table.from_pylist([], schema=asks))
    evil = {
        f"{LANCE}/{path.relative_to(tmp_path / 'memories.lance')}": path.read_bytes()
        for path in (tmp_path / "memories.lance").rglob("*")
        if path.is_file()
    }

    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        kept = {path: data for path, data in files.items() if not path.startswith(LANCE)}
        return {**kept, **evil}

    Path("x.memcube").write_bytes(forger.forge(files=change))
    done = memos("unpack", "x.memcube", "copy.cube")
    assert done.code == 4
    assert "embedding_functions" in done.err
    assert sorted(os.listdir()) == ["x.memcube"]


def test_what_is_unpacked_has_no_other_files_than_told(forger: Forger, memos: Memos, work: Path) -> None:
    Path("x.memcube").write_bytes(forger.forge())
    memos("unpack", "x.memcube", "copy.cube")
    assert set(os.listdir("copy.cube")) == {"current", VERSIONS, "origin.json", "log"}
