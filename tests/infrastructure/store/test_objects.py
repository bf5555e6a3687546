"""Buckets of three kinds, by small ones in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, NotFound, StoreFailed
from memos_cli.infrastructure.store import reference, transfer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.transport import Taken, Transport
from memos_cli.infrastructure.store.wire import Wire
from tests.infrastructure.store.buckets import KINDS, settings
from tests.infrastructure.store.fake import _Server, serving
from tests.infrastructure.store.parcels import noise, parcel

pytest.importorskip("obstore")
BIG = noise(20 << 20)


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What is in the bucket."""
    server = _Server(("127.0.0.1", 0), KINDS[kind])
    server.fake = {"objects": {}, "parts": {}}
    for name, value in settings(kind, f"http://127.0.0.1:{server.server_port}").items():
        monkeypatch.setenv(name, value)
    with serving(server):
        yield server.fake["objects"]


def at(ways: Ways, kind: str) -> Transport:
    return ways.package(reference.parse(f"{kind}://bucket/shelf/team"), writing=True)


def test_there_and_back(kind: str, objects: dict[str, bytes], ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG, b"small", b"")
    with pytest.raises(NotFound):
        at(ways, kind).manifest("1.0.0")
    sent = transfer.push(at(ways, kind), goods)
    assert transfer.push(at(ways, kind), goods).bytes == 0
    assert objects[f"shelf/team/blobs/sha256/{goods.blobs[1][0].hex}"] == BIG
    blobs = [blob for blob, _ in goods.blobs]
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / f"{blobs[1].hex}.part").write_bytes(BIG[: 5 << 20])
    assert transfer.fetch(at(ways, kind), blobs, tmp_path / "down", wire=ways.wire) == sent.bytes - (5 << 20)
    assert ways.packages(reference.parse_place(f"{kind}://bucket/shelf")) == ["team"]
    with pytest.raises(Taken):
        transfer.push(at(ways, kind), parcel(b"other"))
    transfer.push(at(ways, kind), parcel(b"other", version="1.1.0"))
    assert sorted(at(ways, kind).tags()) == ["1.0.0", "1.1.0"]


def test_wrong_bytes(kind: str, objects: dict[str, bytes], ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    blob = goods.blobs[1][0]
    with pytest.raises(Damaged):
        at(ways, kind).write(blob, lambda offset: iter([bytes(len(BIG) - offset)]), lambda sent: None)
    assert not at(ways, kind).has(blob)
    transfer.push(at(ways, kind), goods)
    objects[f"shelf/team/blobs/sha256/{blob.hex}"] = BIG[:-1] + b"?"
    with pytest.raises(Damaged):
        transfer.fetch(at(ways, kind), [blob], tmp_path / "down", wire=ways.wire)


def test_offline_and_away(kind: str, objects: dict[str, bytes], ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreFailed, match="--offline"):
        at(Ways(ways.home, Wire(offline=True)), kind)
    for name, value in settings(kind, "http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreFailed) as caught:
        at(Ways(ways.home, Wire(retry_seconds=0.1)), kind).tags()
    assert "quiet" not in caught.value.message


def test_a_bucket_that_is_not_there(kind: str, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(handler: Any) -> None:
        handler.given()
        handler.reply(404, b"<Error><Code>ContainerNotFound</Code></Error>")

    verbs = ("do_GET", "do_HEAD", "do_PUT", "do_POST")
    server = _Server(("127.0.0.1", 0), type("Gone", (KINDS[kind],), dict.fromkeys(verbs, gone)))
    server.fake = {"objects": {}, "parts": {}}
    for name, value in settings(kind, f"http://127.0.0.1:{server.server_port}").items():
        monkeypatch.setenv(name, value)
    with serving(server), pytest.raises(StoreFailed, match="bucket is not there"):
        transfer.push(at(ways, kind), parcel(BIG))
