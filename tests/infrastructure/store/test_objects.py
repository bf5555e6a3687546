"""Buckets, by a small one in this process that speaks S3."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from memos_cli.errors import Damaged, NotFound, StoreFailed
from memos_cli.infrastructure.store import reference, transfer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.transport import Taken, Transport
from memos_cli.infrastructure.store.wire import Wire
from tests.infrastructure.store.fake import _Handler, _Server, serving
from tests.infrastructure.store.parcels import noise, parcel

pytest.importorskip("obstore")
BIG = noise(20 << 20)


class _Bucket(_Handler):
    """Objects by path; conditional puts, ranges, uploads in parts, a list with a delimiter."""

    def do_PUT(self) -> None:
        data, query, there = self.given(), parse_qs(urlsplit(self.path).query), self.server.fake  # type: ignore[attr-defined]
        if "uploadId" in query:
            there["parts"][query["uploadId"][0], int(query["partNumber"][0])] = data
            return self.reply(200, ETag='"part"')
        old = there["objects"].get(self.key)
        if self.headers.get("If-None-Match") == "*" and old is not None:
            return self.reply(412)
        if (wanted := self.headers.get("If-Match")) and (old is None or wanted.strip('"') != _etag(old)):
            return self.reply(412)
        there["objects"][self.key] = data
        return self.reply(200, ETag=f'"{_etag(data)}"')

    def do_POST(self) -> None:
        query, there = parse_qs(urlsplit(self.path).query, keep_blank_values=True), self.server.fake  # type: ignore[attr-defined]
        self.given()
        if "uploads" in query:
            body = f"<InitiateMultipartUploadResult><UploadId>{len(there['parts'])}x</UploadId>"
            return self.reply(200, f"{body}</InitiateMultipartUploadResult>".encode())
        upload = query["uploadId"][0]
        parts = sorted((number, data) for (name, number), data in there["parts"].items() if name == upload)
        there["objects"][self.key] = b"".join(data for _, data in parts)
        return self.reply(200, b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")

    def do_GET(self) -> None:
        there = self.server.fake["objects"]  # type: ignore[attr-defined]
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            return self.listing(query.get("prefix", [""])[0], there)
        if self.key not in there:
            return self.reply(404)
        data = there[self.key]
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(begin[1]) if begin else 0
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if begin else {}
        stamp = {"Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": f'"{_etag(data)}"'}
        return self.reply(206 if begin else 200, data[start:], **headers, **stamp,
                          Content_Length=str(len(data) - start))  # fmt: skip

    do_HEAD = do_GET

    def listing(self, prefix: str, there: dict[str, bytes]) -> None:
        found = {name[len(prefix) :].partition("/")[0] for name in there if name.startswith(prefix)}
        body = "".join(f"<CommonPrefixes><Prefix>{prefix}{name}/</Prefix></CommonPrefixes>" for name in sorted(found))
        self.reply(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{body}</ListBucketResult>".encode())

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/bucket/")

    def given(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What is in the bucket."""
    server = _Server(("127.0.0.1", 0), _Bucket)
    server.fake = {"objects": {}, "parts": {}}
    told = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "quiet", "AWS_REGION": "x"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with serving(server):
        yield server.fake["objects"]


def at(ways: Ways) -> Transport:
    return ways.package(reference.parse("s3://bucket/shelf/team"), writing=True)


def test_there_and_back(objects: dict[str, bytes], ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG, b"small", b"")
    with pytest.raises(NotFound):
        at(ways).manifest("1.0.0")
    sent = transfer.push(at(ways), goods)
    assert transfer.push(at(ways), goods).bytes == 0
    assert objects[f"shelf/team/blobs/sha256/{goods.blobs[1][0].hex}"] == BIG
    blobs = [blob for blob, _ in goods.blobs]
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / f"{blobs[1].hex}.part").write_bytes(BIG[: 5 << 20])
    assert transfer.fetch(at(ways), blobs, tmp_path / "down", wire=ways.wire) == sent.bytes - (5 << 20)
    assert ways.packages(reference.parse_place("s3://bucket/shelf")) == ["team"]
    with pytest.raises(Taken):
        transfer.push(at(ways), parcel(b"other"))
    transfer.push(at(ways), parcel(b"other", version="1.1.0"))
    assert sorted(at(ways).tags()) == ["1.0.0", "1.1.0"]


def test_wrong_bytes(objects: dict[str, bytes], ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    blob = goods.blobs[1][0]
    with pytest.raises(Damaged):
        at(ways).write(blob, lambda offset: iter([bytes(len(BIG) - offset)]), lambda sent: None)
    assert not at(ways).has(blob)
    transfer.push(at(ways), goods)
    objects[f"shelf/team/blobs/sha256/{blob.hex}"] = BIG[:-1] + b"?"
    with pytest.raises(Damaged):
        transfer.fetch(at(ways), [blob], tmp_path / "down", wire=ways.wire)


def test_offline_and_away(objects: dict[str, bytes], ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreFailed, match="--offline"):
        at(Ways(ways.home, Wire(offline=True)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreFailed) as caught:
        at(Ways(ways.home, Wire(retry_seconds=0.1))).tags()
    assert "quiet" not in caught.value.message
