"""Folders and web servers: the same tree, written by one and read by the other."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from memos_cli.errors import Damaged, NotFound, StoreFailed
from memos_cli.infrastructure.store import layout, reference, transfer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.transport import Blob, Taken, Transport
from memos_cli.infrastructure.store.wire import Wire
from tests.infrastructure.store.fake import web
from tests.infrastructure.store.parcels import noise, parcel

BIG, SMALL = noise(3 << 20), noise(1000, 1)


def at(root: Path, ways: Ways) -> Transport:
    return ways.package(reference.parse(f"file://{root}/team"), writing=True)


def test_there_and_back(ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG, SMALL, b"")
    store = at(tmp_path / "store", ways)
    assert store.tags() == []
    with pytest.raises(NotFound):
        store.manifest("1.0.0")
    assert transfer.push(store, goods, dry_run=True).bytes == len(BIG) + len(SMALL) + 2
    assert not (tmp_path / "store").exists()
    sent = transfer.push(store, goods)
    assert transfer.push(store, goods).bytes == 0
    assert store.manifest("1.0.0").data == store.manifest(goods.digest).data == goods.manifest
    blobs = [blob for blob, _ in goods.blobs]
    assert transfer.fetch(store, blobs, tmp_path / "down", wire=ways.wire) == sent.bytes
    assert ways.packages(reference.parse_place(f"file://{tmp_path}/store")) == ["team"]
    assert oct((tmp_path / "store" / "team" / "index.json").stat().st_mode)[-3:] == "644"
    assert not list((tmp_path / "store").rglob("*.part"))


def test_versions_never_change_and_other_tags_do(ways: Ways, tmp_path: Path) -> None:
    store = at(tmp_path, ways)
    transfer.push(store, parcel(SMALL))
    with pytest.raises(Taken, match="published already"):
        transfer.push(store, parcel(BIG))
    assert store.tags() == ["1.0.0"]
    other = parcel(BIG, version="1.1.0")
    transfer.push(store, other)
    store.tag("1.0.0", other.manifest, media_type="application/x", replace=True)
    assert store.manifest("1.0.0").digest == other.digest


def test_a_partial_file_goes_on(ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    blob, content = goods.blobs[1]
    folder = tmp_path / "team" / "blobs" / "sha256"
    folder.mkdir(parents=True)
    partial = folder / f".{blob.hex}.part"
    for left, travels in ((BIG[: 1 << 20], 2 << 20), (b"other" * 100, 3 << 20), (BIG + b"more", 0)):
        partial.write_bytes(left)
        sent: list[int] = []
        at(tmp_path, ways).write(blob, content, sent.append)
        assert sum(sent) == travels
        assert (folder / blob.hex).read_bytes() == BIG
        assert not partial.exists()
        (folder / blob.hex).unlink()


def test_a_source_that_changes_leaves_nothing(ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    with pytest.raises(Damaged):
        at(tmp_path, ways).write(goods.blobs[1][0], lambda offset: iter([bytes(len(BIG) - offset)]), lambda sent: None)
    assert not at(tmp_path, ways).has(goods.blobs[1][0])


def _push_one(root: Path, number: int) -> None:
    transfer.push(at(root, Ways(root / "home")), parcel(SMALL, version=f"1.{number}.0"))


def test_pushes_at_once_lose_nothing_of_each_other(ways: Ways, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_push_one, args=(tmp_path, number)) for number in range(6)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0] * 6
    assert sorted(at(tmp_path, ways).tags()) == [f"1.{number}.0" for number in range(6)]


@pytest.mark.many(2)
@pytest.mark.parametrize(
    "index",
    [b"", b"[]", b"{", b'{"manifests":{}}', b'{"manifests":[{}]}', b'{"manifests":[{"digest":"sha256:../x","size":1}]}',
     b"[" * 100_000, b'{"manifests":[{"digest":"sha256:' + b"0" * 64 + b'","size":-1}]}'],
)  # fmt: skip
def test_an_index_that_is_none(index: bytes, ways: Ways, tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "index.json").write_bytes(index)
    # what other tests left is finalised here, and not at the bottom of a recursion
    gc.collect()
    with pytest.raises(Damaged):
        at(tmp_path, ways).tags()


def test_an_index_that_is_too_large(ways: Ways, tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "index.json").write_bytes(b" " * (layout.MANIFEST_LIMIT_BYTES + 1))
    with pytest.raises(StoreFailed):
        at(tmp_path, ways).tags()


def test_a_damaged_store_is_told(ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    transfer.push(at(tmp_path, ways), goods)
    blob = goods.blobs[1][0]
    path = tmp_path / "team" / "blobs" / "sha256" / blob.hex
    path.write_bytes(BIG[:-1] + b"?")
    with pytest.raises(Damaged, match="nothing of it is kept"):
        transfer.fetch(at(tmp_path, ways), [blob], tmp_path / "down", wire=ways.wire)
    path.write_bytes(BIG[:-1])
    with pytest.raises(StoreFailed, match="ends"):
        transfer.fetch(at(tmp_path, ways), [blob], tmp_path / "down", wire=Wire(retry_seconds=0.5))
    path.unlink()
    with pytest.raises(NotFound):
        transfer.fetch(at(tmp_path, ways), [blob], tmp_path / "down", wire=ways.wire)


def test_a_store_that_cannot_be_written(ways: Ways, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreFailed):
        transfer.push(at(tmp_path / "file", ways), parcel(SMALL))


def test_a_link_in_the_place_of_a_partial_file_is_not_followed(ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    folder = tmp_path / "team" / "blobs" / "sha256"
    folder.mkdir(parents=True)
    (tmp_path / "precious").write_text("precious")
    os.symlink(tmp_path / "precious", folder / f".{goods.blobs[1][0].hex}.part")
    with pytest.raises(StoreFailed):
        transfer.push(at(tmp_path, ways), goods)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_web_server_hands_out_the_folder(ranges: bool, ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG, SMALL)
    transfer.push(at(tmp_path / "store", ways), goods)
    with web(tmp_path / "store") as served:
        served.ranges, served.drop_at = ranges, [1 << 20, 1000]
        there = ways.package(reference.parse(f"http://{served.host}/team"))
        assert there.tags() == ["1.0.0"]
        assert transfer.verified(there, goods.digest).data == there.manifest("1.0.0").data
        assert there.has(goods.blobs[1][0])
        assert not there.has(Blob("sha256:" + "0" * 64, 1))
        blobs = [blob for blob, _ in goods.blobs]
        transfer.fetch(there, blobs, tmp_path / "down", wire=ways.wire)
        for blob, content in goods.blobs:
            assert (tmp_path / "down" / blob.hex).read_bytes() == b"".join(content(0))
        with pytest.raises(StoreFailed, match="only be read"):
            ways.package(reference.parse(f"http://{served.host}/team"), writing=True)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_other_tools_read_the_folder(ways: Ways, tmp_path: Path) -> None:
    config = json.dumps({}).encode()
    goods = parcel(SMALL)
    value = {**json.loads(goods.manifest), "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    value["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
    data = json.dumps(value).encode()
    transfer.push(at(tmp_path, ways), transfer.Parcel("1.0.0", data, "application/x", goods.blobs))
    assert config == b"{}"
    copied = ["skopeo", "--insecure-policy", "copy", f"oci:{tmp_path}/team:1.0.0", f"oci:{tmp_path}/copy:1.0.0"]
    subprocess.run(copied, check=True, capture_output=True)
    entry = json.loads((tmp_path / "copy" / "index.json").read_bytes())["manifests"][0]
    assert entry["digest"] == transfer.digest_of(data)
