"""Registries: a fake one with every fault, and Debian's own."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from memos_cli.errors import Damaged, NotFound, StoreFailed, Usage
from memos_cli.infrastructure.store import reference, transfer
from memos_cli.infrastructure.store import registry as module
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.registry import Registry
from memos_cli.infrastructure.store.transport import Blob, Taken
from memos_cli.infrastructure.store.wire import Wire
from tests.infrastructure.store.fake import Fake, web
from tests.infrastructure.store.parcels import noise, parcel

CHUNK = 64 << 10


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(module, "LEAST_CHUNK_BYTES", CHUNK // 16)
    monkeypatch.setattr(module, "MOST_CHUNK_BYTES", CHUNK)


def at(host: str, ways: Ways, *, writing: bool = True) -> Registry:
    found = ways.package(reference.parse(f"oci://{host}/acme/team"), writing=writing)
    assert isinstance(found, Registry)
    return found


BIG, SMALL = noise(10 * CHUNK + 17), noise(1000, 1)


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_there_and_back(kind: str, ways: Ways, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    served = request.getfixturevalue(kind)
    host = served if isinstance(served, str) else served.host
    goods = parcel(BIG, SMALL, b"")
    store = at(host, ways)
    with pytest.raises(NotFound):
        store.manifest("1.0.0")
    assert store.tags() == []
    heard: list[tuple[int, int | None]] = []
    sent = transfer.push(store, goods, progress=lambda done, total, what: heard.append((done, total)))
    assert (sent.bytes, sent.there) == (len(BIG) + len(SMALL) + 2, 0)
    assert heard[-1] == (sent.bytes, sent.bytes)
    assert store.manifest("1.0.0").data == goods.manifest
    again = transfer.push(store, goods)
    assert (again.bytes, again.there) == (0, 4)
    assert store.tags() == ["1.0.0"]
    blobs = [blob for blob, _ in goods.blobs]
    assert transfer.fetch(store, blobs, tmp_path / "down", wire=ways.wire) == sent.bytes
    for blob, content in goods.blobs:
        assert (tmp_path / "down" / blob.hex).read_bytes() == b"".join(content(0))
    # and what is there already does not travel
    assert transfer.fetch(store, blobs, tmp_path / "down", wire=ways.wire) == 0
    with pytest.raises(Taken):
        transfer.push(store, parcel(b"other"))


@pytest.mark.parametrize("keep", [True, False])
def test_an_upload_that_drops_goes_on(keep: bool, fake: Fake, ways: Ways) -> None:
    fake.faults.drop_upload_after, fake.faults.keep_dropped = CHUNK // 2, keep
    sent = transfer.push(at(fake.host, ways), parcel(BIG))
    assert sent.bytes == len(BIG) + 2
    assert sum(fake.state.received.values()) - sent.bytes <= CHUNK
    assert not list((ways.home / "cache" / "uploads").glob("*"))


def test_an_upload_goes_on_in_the_next_process(fake: Fake, ways: Ways) -> None:
    goods = parcel(BIG)

    def fail(done: int, total: int | None, what: str) -> None:
        if done > 5 * CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.push(at(fake.host, ways), goods, progress=fail)
    first = sum(fake.state.received.values())
    assert 4 * CHUNK <= first < len(BIG)
    transfer.push(at(fake.host, Ways(ways.home, Wire(retry_seconds=3))), goods)
    assert sum(fake.state.received.values()) - len(BIG) - 2 <= CHUNK
    assert fake.count("POST") == 2  # one for each blob


def test_the_real_one_goes_on_in_the_next_process(real: str, ways: Ways) -> None:
    big = noise(10 * CHUNK + 5, 7)
    goods = parcel(big, version="7.0.0")

    def fail(done: int, total: int | None, what: str) -> None:
        if done > 5 * CHUNK:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.push(at(real, ways), goods, progress=fail)
    sent: list[int] = []
    store = at(real, Ways(ways.home, Wire(retry_seconds=3)))
    original = store._wire.ask

    def counted(method: str, url: str, **more):  # type: ignore[no-untyped-def]
        if method == "PATCH":
            sent.append(int(more["headers"]["Content-Length"]))
        return original(method, url, **more)

    store._wire.__class__ = type("Counted", (Wire,), {"__slots__": (), "ask": staticmethod(counted)})
    transfer.push(store, goods)
    assert 0 < sum(sent) <= len(big) - 4 * CHUNK


def test_the_real_one_survives_a_cut_chunk(real: str, ways: Ways, tmp_path: Path) -> None:
    """It gives the whole upload up then, as distribution 2.x does, so it is sent anew."""
    big = noise(6 * CHUNK + 5, 8)
    cut = [True]

    def content(offset: int):  # type: ignore[no-untyped-def]
        for start in range(offset, len(big), 1000):
            if start > 3.5 * CHUNK and cut:
                cut.clear()
                raise ConnectionResetError("cut")
            yield big[start : start + 1000]

    goods = parcel(big, version="8.0.0")
    goods = transfer.Parcel("8.0.0", goods.manifest, "application/x", [goods.blobs[0], (goods.blobs[1][0], content)])
    transfer.push(at(real, ways), goods)
    assert cut == []
    blob = goods.blobs[1][0]
    transfer.fetch(at(real, ways), [blob], tmp_path / "down", wire=ways.wire)
    assert (tmp_path / "down" / blob.hex).read_bytes() == big


def test_a_forgotten_session_begins_anew(fake: Fake, ways: Ways) -> None:
    fake.faults.drop_upload_after, fake.faults.lose_uploads = CHUNK // 2, False
    store = at(fake.host, ways)

    def lose(done: int, total: int | None, what: str) -> None:
        if done > 3 * CHUNK and fake.faults.token_uses is None:
            fake.faults.token_uses, fake.faults.lose_uploads = 0, True

    assert transfer.push(store, parcel(BIG), progress=lose).bytes == len(BIG) + 2


def test_a_registry_that_takes_smaller_chunks(fake: Fake, ways: Ways) -> None:
    fake.faults.no_chunks_over = CHUNK // 4
    assert transfer.push(at(fake.host, ways), parcel(BIG)).bytes == len(BIG) + 2
    fake.faults.no_chunks_over = 10
    with pytest.raises(StoreFailed, match="chunks"):
        transfer.push(at(fake.host, ways), parcel(noise(3 * CHUNK, 5), version="2.0.0"))


@pytest.mark.many(6)
@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize("what", ["HEAD", "POST", "PATCH", "PUT .*blobs", "PUT .*manifests", "GET .*manifests"])
def test_a_busy_registry_is_asked_again(status: int, what: str, fake: Fake, ways: Ways) -> None:
    fake.faults.answers = [(what, status, {"Retry-After": "0"})] * 2
    assert transfer.push(at(fake.host, ways), parcel(BIG, SMALL)).bytes == len(BIG) + len(SMALL) + 2
    assert fake.faults.answers == []


def test_a_wait_past_the_deadline_is_told_at_once(fake: Fake, ways: Ways) -> None:
    fake.faults.answers = [("HEAD", 429, {"Retry-After": "3600"})] * 9
    begin = time.monotonic()
    with pytest.raises(StoreFailed) as caught:
        transfer.push(at(fake.host, ways), parcel(SMALL))
    assert time.monotonic() - begin < 2
    assert "429" in caught.value.message
    assert "3600 s" in str(caught.value.hint)


def test_a_busy_registry_is_given_up(fake: Fake, ways: Ways) -> None:
    fake.faults.answers = [("PATCH", 503, {})] * 99
    begin = time.monotonic()
    with pytest.raises(StoreFailed, match="503"):
        transfer.push(at(fake.host, ways), parcel(BIG))
    assert time.monotonic() - begin < 8
    assert fake.state.tags == {}


def test_nobody_listens(ways: Ways) -> None:
    begin = time.monotonic()
    with pytest.raises(StoreFailed, match="cannot be reached"):
        at("127.0.0.1:9", ways).tags()
    assert time.monotonic() - begin < 5


def test_offline(fake: Fake, ways: Ways) -> None:
    with pytest.raises(StoreFailed, match="--offline"):
        at(fake.host, Ways(ways.home, Wire(offline=True))).tags()
    assert fake.state.asked == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_drops_goes_on(ranges: bool, fake: Fake, ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    transfer.push(at(fake.host, ways), goods)
    fake.faults.drop_download_at, fake.faults.no_range = [1000, 5000, 0], not ranges
    blob = goods.blobs[1][0]
    travelled = transfer.fetch(at(fake.host, ways), [blob], tmp_path / "down", wire=ways.wire)
    assert (tmp_path / "down" / blob.hex).read_bytes() == BIG
    assert travelled == len(BIG) + (0 if ranges else 6000)


def test_a_download_goes_on_in_the_next_process(fake: Fake, ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    transfer.push(at(fake.host, ways), goods)
    blob = goods.blobs[1][0]
    fake.faults.drop_download_at = [5 * CHUNK, *[0] * 99]
    with pytest.raises(StoreFailed, match="broke off|cannot be reached"):
        transfer.fetch(at(fake.host, ways), [blob], tmp_path / "down", wire=Wire(retry_seconds=0.5))
    fake.faults.drop_download_at = []
    travelled = transfer.fetch(at(fake.host, ways), [blob], tmp_path / "down", wire=ways.wire)
    assert travelled == len(BIG) - 5 * CHUNK
    # what lies about is not believed: a partial file of other bytes costs a new download, never a wrong blob
    (tmp_path / "down" / blob.hex).rename(tmp_path / "down" / f"{blob.hex}.part")
    with open(tmp_path / "down" / f"{blob.hex}.part", "r+b") as stream:
        stream.truncate(5 * CHUNK)
        stream.write(b"other bytes")
    transfer.fetch(at(fake.host, ways), [blob], tmp_path / "down", wire=ways.wire)
    assert (tmp_path / "down" / blob.hex).read_bytes() == BIG


@pytest.mark.parametrize("fault", ["wrong_bytes", "more_bytes"])
def test_wrong_bytes_are_never_kept(fault: str, fake: Fake, ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    transfer.push(at(fake.host, ways), goods)
    blob = goods.blobs[1][0]
    getattr(fake.faults, fault).add(blob.digest)
    with pytest.raises(Damaged) as caught:
        transfer.fetch(at(fake.host, ways), [blob], tmp_path / "down", wire=ways.wire)
    assert blob.digest in caught.value.message
    assert list((tmp_path / "down").iterdir()) == []
    with pytest.raises(Damaged):
        transfer.small(at(fake.host, ways), blob, limit_bytes=1 << 30)


def test_a_manifest_of_another_digest(fake: Fake, ways: Ways) -> None:
    goods = parcel(SMALL)
    transfer.push(at(fake.host, ways), goods)
    fake.state.manifests["acme/team", goods.digest] = (goods.manifest + b" ", "application/x")
    with pytest.raises(Damaged, match="expected the manifest"):
        transfer.verified(at(fake.host, ways), goods.digest)


def test_a_source_that_changes_is_not_published(fake: Fake, ways: Ways) -> None:
    goods = parcel(BIG)
    blob = goods.blobs[1][0]
    lied = transfer.Parcel("1.0.0", goods.manifest, "application/x", [goods.blobs[0], (blob, lambda at: iter([bytes(len(BIG) - at)]))])  # noqa: E501  # fmt: skip
    with pytest.raises(Damaged, match="source changed"):
        transfer.push(at(fake.host, ways), lied)
    short = transfer.Parcel("1.0.0", goods.manifest, "application/x", [goods.blobs[0], (blob, lambda at: iter([BIG[at:-1]]))])  # noqa: E501  # fmt: skip
    with pytest.raises(Damaged, match="source changed"):
        transfer.push(at(fake.host, ways), short)
    assert fake.state.tags == {}


def login(host: str, user: str, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir(exist_ok=True)
    auth = base64.b64encode(user.encode()).decode()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def test_a_plain_login(fake: Fake, ways: Ways, tmp_path: Path) -> None:
    fake.faults.basic = "ruth:quiet"
    with pytest.raises(StoreFailed, match="login") as caught:
        at(fake.host, ways).tags()
    assert caught.value.hint == f"docker login {fake.host}"
    login(fake.host, "ruth:wrong", tmp_path)
    with pytest.raises(StoreFailed, match="refused") as caught:
        at(fake.host, ways).tags()
    assert "wrong" not in caught.value.message
    login(fake.host, "ruth:quiet", tmp_path)
    assert transfer.push(at(fake.host, ways), parcel(BIG)).bytes


def test_tokens_and_their_end(fake: Fake, ways: Ways, tmp_path: Path) -> None:
    fake.faults.basic, fake.faults.tokens, fake.faults.token_uses = "ruth:quiet", True, 3
    login(fake.host, "ruth:quiet", tmp_path)
    assert transfer.push(at(fake.host, ways), parcel(BIG, SMALL)).bytes
    assert fake.count("GET /token") >= 5
    scopes = {path for _, path, _ in fake.state.asked if path.startswith("/token")}
    assert all("repository%3Aacme%2Fteam%3Apull%2Cpush" in path for path in scopes)


def test_a_helper_is_asked(fake: Fake, ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.faults.basic = "ruth:quiet"
    helper = tmp_path / "bin" / "docker-credential-mine"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\nread host\necho "{\\"Username\\":\\"ruth\\",\\"Secret\\":\\"quiet\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"credHelpers": {fake.host: "mine"}}))
    assert at(fake.host, ways).tags() == []
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"credsStore": "../evil"}))
    with pytest.raises(StoreFailed, match="credential helper"):
        at(fake.host, ways)


def test_a_token_server_elsewhere_hears_nothing(fake: Fake, ways: Ways, tmp_path: Path) -> None:
    fake.faults.basic, fake.faults.tokens = "ruth:quiet", True
    fake.faults.realm = "https://elsewhere.example/token"
    login(fake.host, "ruth:quiet", tmp_path)
    with pytest.raises(StoreFailed, match="not of its own domain"):
        at(fake.host, ways).tags()


def test_a_login_does_not_follow_a_redirect(fake: Fake, ways: Ways, tmp_path: Path) -> None:
    fake.faults.basic = "ruth:quiet"
    login(fake.host, "ruth:quiet", tmp_path)
    goods = parcel(SMALL)
    transfer.push(at(fake.host, ways), goods)
    blob = goods.blobs[1][0]
    (tmp_path / "cdn").mkdir()
    (tmp_path / "cdn" / blob.digest.replace(":", "-")).write_bytes(SMALL)
    with web(tmp_path / "cdn") as cdn:
        fake.faults.redirect_blobs = f"http://{cdn.host}"
        transfer.fetch(at(fake.host, ways), [blob], tmp_path / "down", wire=ways.wire)
        assert cdn.asked
        assert all("Authorization" not in headers for _, _, headers in cdn.asked)


def test_redirects_end(fake: Fake, ways: Ways) -> None:
    fake.faults.answers = [("GET", 302, {"Location": "/v2/acme/team/tags/list"})] * 99
    with pytest.raises(StoreFailed, match="redirects more than"):
        at(fake.host, ways).tags()
    fake.faults.answers = [("GET", 302, {"Location": "file:///etc/passwd"})]
    with pytest.raises(StoreFailed, match="not encrypted"):
        at(fake.host, ways).tags()


def test_answers_without_end(fake: Fake, ways: Ways) -> None:
    fake.state.manifests["acme/team", "sha256:" + "0" * 64] = (b"x" * (5 << 20), "application/x")
    with pytest.raises(StoreFailed, match="more than"):
        at(fake.host, ways).manifest("sha256:" + "0" * 64)
    fake.faults.answers = [("GET", 200, {"Link": '</v2/acme/team/tags/list?n=2>; rel="next"'})] * 2000
    with pytest.raises(StoreFailed):
        at(fake.host, ways).tags()


def test_pages_of_tags_and_the_catalogue(fake: Fake, ways: Ways) -> None:
    for number in range(5):
        transfer.push(at(fake.host, ways), parcel(SMALL, version=f"1.{number}.0"))
    assert sorted(at(fake.host, ways).tags()) == [f"1.{number}.0" for number in range(5)]
    assert list(ways.packages(reference.parse_place(f"oci://{fake.host}/acme"))) == ["team"]
    assert list(ways.packages(reference.parse_place(f"oci://{fake.host}"))) == []


def test_a_name_that_no_repository_has(fake: Fake, ways: Ways) -> None:
    with pytest.raises(Usage, match="lower-case"):
        ways.package(reference.parse(f"oci://{fake.host}/acme/Team"))


def test_a_blob_of_another_size_is_not_there(fake: Fake, ways: Ways) -> None:
    goods = parcel(SMALL)
    transfer.push(at(fake.host, ways), goods)
    blob = goods.blobs[1][0]
    assert at(fake.host, ways).has(blob)
    assert not at(fake.host, ways).has(Blob(blob.digest, blob.size + 1))
