"""Repositories of the Hugging Face hub, by a small hub in this process; what the hub's own client makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, NotFound, StoreFailed, Usage
from memos_cli.infrastructure.store import hubline, reference, transfer
from memos_cli.infrastructure.store.opening import Ways
from memos_cli.infrastructure.store.transport import Blob, Taken, Transport
from memos_cli.infrastructure.store.wire import LoginWanted, Wire
from tests.infrastructure.store.fake_hub import FakeHub, hub
from tests.infrastructure.store.parcels import noise, parcel

BIG = noise(300_000)
TEAM = "models/acme/team"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    with hub() as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", fake.token)
        yield fake


def at(ways: Ways, text: str = "hf://acme/team") -> Transport:
    return ways.package(reference.parse(text), writing=True)


def down(ways: Ways, blob: Blob, folder: Path) -> bytes:
    transfer.fetch(at(ways), [blob], folder, wire=ways.wire)
    return (folder / blob.hex).read_bytes()


def test_there_and_back(there: FakeHub, ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG, b"small", b"")
    with pytest.raises(NotFound):
        at(ways).manifest("1.0.0")
    sent = transfer.push(at(ways), goods)
    assert sent.bytes == len(BIG) + len(b"small") + len(b"{}")
    assert there.repos[TEAM].private
    files = there.files(TEAM)
    assert files[f"blobs/sha256/{goods.blobs[1][0].hex}"] == BIG
    assert {"oci-layout", "index.json"} <= files.keys()
    assert at(ways).manifest("1.0.0").digest == goods.digest
    assert list(at(ways).tags()) == ["1.0.0"]
    for blob, _ in goods.blobs:
        assert len(down(ways, blob, tmp_path / "down")) == blob.size
    # the token is for the hub, and nobody else
    assert not [one for one in there.stored if {"Authorization", "Transfer-Encoding"} & one[2].keys()]
    assert all(one[2]["Authorization"] == f"Bearer {there.token}" for one in there.asked)


def test_only_what_is_missing_travels(there: FakeHub, ways: Ways) -> None:
    transfer.push(at(ways), parcel(BIG, b"small"))
    before, puts = there.repos[TEAM].head, there.count("PUT")
    assert transfer.push(at(ways), parcel(BIG, b"small")).bytes == 0
    assert (there.repos[TEAM].head, there.count("PUT")) == (before, puts)
    with pytest.raises(Taken):
        transfer.push(at(ways), parcel(b"other"))
    transfer.push(at(ways), parcel(BIG, b"more", version="1.1.0"))
    assert there.count("PUT") == puts
    assert sorted(at(ways).tags()) == ["1.0.0", "1.1.0"]
    # a large file that the hub knows from elsewhere does not travel either
    transfer.push(at(ways, "hf://datasets/acme/team"), parcel(BIG))
    assert there.count("PUT") == puts
    assert "datasets/acme/team" in there.repos


def test_a_stopped_push_goes_on(there: FakeHub, ways: Ways) -> None:
    goods = parcel(BIG, noise(200_000, 1))
    there.faults.answers = [(f"PUT /put/{goods.blobs[2][0].hex}", 507, {})]
    with pytest.raises(StoreFailed, match="507"):
        transfer.push(at(ways), goods)
    assert "index.json" not in there.files(TEAM)
    transfer.push(at(ways), goods)
    assert there.count(f"PUT /put/{goods.blobs[1][0].hex}") == 1


def test_in_parts(there: FakeHub, ways: Ways) -> None:
    there.faults.part_bytes = 70_000
    there.faults.drop_upload_at = [1000]
    there.faults.answers = [(r"PUT /put/\w+/3", 503, {"Retry-After": "0"})]
    told: list[int] = []
    goods = parcel(BIG)
    transfer.push(at(ways), goods, progress=lambda done, whole, name: told.append(done))
    assert there.large[goods.blobs[1][0].hex] == BIG
    assert there.count("PUT") == 5 + 2
    assert told[-1] == len(BIG) + 2
    assert told == sorted(told)


def test_faults_on_the_way_up(there: FakeHub, ways: Ways) -> None:
    there.faults.drop_upload_at = [10_000, 0]
    there.faults.answers = [
        ("POST .*/batch", 429, {"Retry-After": "0"}), ("POST .*/commit/main", 503, {"Retry-After": "0"}),
        ("POST .*/preupload", 502, {}), ("PUT .*", 403, {}),
    ]  # fmt: skip
    goods = parcel(BIG)
    transfer.push(at(ways), goods)
    assert there.files(TEAM)[f"blobs/sha256/{goods.blobs[1][0].hex}"] == BIG
    assert there.faults.answers == []


def test_faults_on_the_way_down(there: FakeHub, ways: Ways, tmp_path: Path) -> None:
    goods = parcel(BIG)
    blob = goods.blobs[1][0]
    transfer.push(at(ways), goods)
    there.faults.drop_download_at = [50_000, 0, 100_000]
    there.faults.answers = [("GET /get/.*", 503, {"Retry-After": "0"}), ("GET .*/resolve/.*", 429, {})]
    assert down(ways, blob, tmp_path / "down") == BIG
    assert len([one for one in there.stored if one[0] == "GET" and one[2].get("Range")]) >= 2
    there.faults.wrong_bytes = {blob.hex}
    with pytest.raises(Damaged):
        down(ways, blob, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_another_commit_in_between(there: FakeHub, ways: Ways) -> None:
    transfer.push(at(ways), parcel(BIG))
    there.faults.in_between = True
    transfer.push(at(ways), parcel(b"more", version="1.1.0"))
    assert sorted(at(ways).tags()) == ["1.0.0", "1.1.0"]
    assert there.files(TEAM)["README.md"] == b"somebody was here"


def test_answers_that_tell_no_commit(there: FakeHub, ways: Ways) -> None:
    there.faults.cached = True
    transfer.push(at(ways), parcel(BIG))
    there.faults.in_between = True
    transfer.push(at(ways), parcel(b"more", version="1.1.0"))
    assert sorted(at(ways).tags()) == ["1.0.0", "1.1.0"]


def test_a_push_whose_source_changes(there: FakeHub, ways: Ways) -> None:
    blob = parcel(BIG).blobs[1][0]
    with pytest.raises(Damaged):
        at(ways).write(blob, lambda offset: iter([bytes(len(BIG) - offset)]), lambda sent: None)
    assert there.large == {}


@pytest.mark.parametrize("where", ["environment", "home", "path"])
def test_the_token(where: str, there: FakeHub, ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer.push(at(ways), parcel(BIG))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(LoginWanted) as caught:
        at(ways).tags()
    assert "hf auth login" in str(caught.value.hint)
    (tmp_path / "hf").mkdir()
    if where == "environment":
        monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", f" {there.token}\n")
    elif where == "home":
        (tmp_path / "hf" / "token").write_text(f"{there.token}\n")
    else:
        (tmp_path / "mine").write_text(there.token)
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "mine"))
    assert list(at(ways).tags()) == ["1.0.0"]


def test_an_expired_token(there: FakeHub, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer.push(at(ways), parcel(BIG))
    opened = at(ways)
    there.token = "hf_another"
    with pytest.raises(LoginWanted) as caught:
        opened.tags()
    assert "hf_" not in f"{caught.value.message} {caught.value.hint}"
    # a new one is taken up by what is under way
    opened = at(ways)
    monkeypatch.setenv("HF_TOKEN", there.token)
    assert list(opened.tags()) == ["1.0.0"]
    monkeypatch.setenv("HF_TOKEN", "two words")
    with pytest.raises(StoreFailed, match="expected a token"):
        at(ways)


def test_a_repository_that_everyone_could_see(there: FakeHub, ways: Ways) -> None:
    there.faults.public = True
    opened = at(ways)
    with pytest.raises(StoreFailed, match="not private"):
        transfer.push(opened, parcel(BIG))
    # nor do blobs go that waited beside the one for which it was made
    with pytest.raises(StoreFailed, match="not private"):
        transfer.push(opened, parcel(BIG))
    assert there.large == {}
    there.faults.ignored = True
    with pytest.raises(StoreFailed, match="gitignore"):
        transfer.push(at(ways), parcel(BIG))


def test_public_packages_need_no_login(there: FakeHub, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer.push(at(ways), parcel(BIG))
    transfer.push(at(ways, "hf://acme/other"), parcel(b"x"))
    there.repos["models/acme/weights"] = there.repos[TEAM].__class__(False)
    there.repos["models/acme/weights"].commit({"model.safetensors": b"x"})
    there.repos[TEAM].private = False
    assert ways.packages(reference.parse_place("hf://acme")) == ["other", "team"]
    monkeypatch.delenv("HF_TOKEN")
    assert ways.packages(reference.parse_place("hf://acme")) == ["team"]
    assert list(at(ways).tags()) == ["1.0.0"]
    with pytest.raises(LoginWanted):
        transfer.push(at(ways), parcel(b"more", version="2.0.0"))


@pytest.mark.long
def test_the_hubs_own_client(there: FakeHub, ways: Ways, tmp_path: Path) -> None:
    """It gets what memos pushed, and memos what it uploaded: so the small hub here answers as its client expects."""
    goods = parcel(BIG, b"small")
    transfer.push(at(ways), goods)
    names = [f"blobs/sha256/{goods.blobs[1][0].hex}", "index.json"]
    script = f"""
import json, os
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
for name in {names!r}:
    path = hf_hub_download("acme/team", name)
    print(os.path.getsize(path))
print([one.path for one in api.get_paths_info("acme/team", {names!r})])
print([one.id for one in api.list_models(author="acme", full=True)])
api.create_repo("acme/copied", visibility="private")
print(api.repo_info("acme/copied").private)
api.upload_folder(repo_id="acme/copied", folder_path={str(tmp_path / "tree")!r})
"""
    for path, data in there.files(TEAM).items():
        if not path.startswith("."):
            (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "tree" / path).write_bytes(data)
    # by LFS, since nothing here speaks its other protocol
    more = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **more}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(len(BIG)), str(len(there.files(TEAM)["index.json"])), str(names), "['acme/team']", "True",
    ]  # fmt: skip
    copied = at(ways, "hf://acme/copied")
    assert copied.manifest("1.0.0").digest == goods.digest
    assert transfer.push(copied, goods).bytes == 0


@pytest.mark.parametrize("text", ["hf://team", "hf://spaces/acme/team", "hf://a/b/c/team", "hf://acme/te--am",
                                  "hf://acme/team.git", "hf://-acme/team", "hf://datasets/team"])  # fmt: skip
def test_what_no_repository_is(text: str, there: FakeHub, ways: Ways) -> None:
    with pytest.raises(Usage):
        at(ways, text)
    assert there.asked == []


@pytest.mark.parametrize("place", ["hf://spaces/acme", "hf://a/b/c", "hf://datasets"])
def test_what_no_owner_is(place: str, there: FakeHub, ways: Ways) -> None:
    with pytest.raises(Usage):
        ways.packages(reference.parse_place(place))


def test_no_network(there: FakeHub, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreFailed, match="--offline"):
        at(Ways(ways.home, Wire(offline=True)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StoreFailed, match="HF_HUB_OFFLINE"):
        at(ways)
    assert there.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreFailed) as caught:
        at(Ways(ways.home, Wire(retry_seconds=0.1))).tags()
    assert "hf_secret" not in caught.value.message
    monkeypatch.setenv("HF_ENDPOINT", "https://user:pass@example.org")
    with pytest.raises(Usage) as odd:
        at(ways)
    assert "pass" not in odd.value.message


def test_a_token_is_not_shown_unencrypted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert hubline.HubLogin("https://hub.example").header() == "Bearer hf_secret"
    assert hubline.HubLogin("http://hub.example").header() is None
    assert not hubline.HubLogin("http://hub.example").renew("", None)


@pytest.mark.parametrize(
    ("pattern", "body"),
    [("GET /api/models/acme/team$", b"<html>"), ("POST .*/preupload", b"[]"), ("POST .*/batch", b'{"objects":[1]}'),
     ("POST .*/batch", b'{"objects":[{"actions":{"upload":{"href":"ftp://x/y"}}}]}'),
     ("POST .*/batch", b'{"objects":[{"actions":{"upload":{"href":"http://x","header":{"chunk_size":"1"}}}}]}'),
     ("POST .*/paths-info", b"[[[[[["), ("GET .*/revision/main", b'{"sha":"../../x"}')],
)  # fmt: skip
def test_a_hub_that_is_none(
    pattern: str, body: bytes, there: FakeHub, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    goods = parcel(BIG)
    there.faults.answers = [(pattern, 200, {})]
    handler = there.api.RequestHandlerClass
    reply = handler.reply

    def odd(own: Any, status: int, data: bytes = b"", **more: str) -> None:
        reply(own, status, body if data == b"as asked" else data, **more)

    monkeypatch.setattr(handler, "reply", odd)
    with pytest.raises(StoreFailed):
        transfer.push(at(ways), goods)
    assert TEAM not in there.repos or "index.json" not in there.files(TEAM)
