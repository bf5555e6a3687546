"""A registry and a web server in this process, with the faults that real ones have."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Faults:
    """What is to go wrong. Each fault is used up, unless it says otherwise."""

    drop_upload_after: int | None = None  # bytes of one chunk that are read (and kept), then the line is cut
    keep_dropped: bool = True  # whether what was read of that chunk counts
    drop_download_at: list[int] = field(default_factory=list)  # bytes of a blob that are sent, then the line is cut
    answers: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)  # "METHOD regex", status, headers
    wrong_bytes: set[str] = field(default_factory=set)  # digests that are served with a flipped byte, always
    more_bytes: set[str] = field(default_factory=set)  # digests that are served without an end, always
    no_range: bool = False
    no_chunks_over: int | None = None
    lose_uploads: bool = False  # sessions are forgotten once
    redirect_blobs: str | None = None
    tokens: bool = False
    basic: str | None = None  # user:password
    token_uses: int | None = None  # a token is good for so many requests
    realm: str | None = None


@dataclass
class State:
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    received: Counter[str] = field(default_factory=Counter)  # bytes of bodies, by method
    tokens: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Fake:
    """A registry on loopback: `host`, what is in it, what it was asked."""

    def __init__(self) -> None:
        self.faults, self.state = Faults(), State()
        self.server = _Server(("127.0.0.1", 0), _Registry)
        self.server.fake = self
        self.host = f"127.0.0.1:{self.server.server_port}"

    def count(self, pattern: str) -> int:
        return sum(bool(re.match(pattern, f"{method} {path}")) for method, path, _ in self.state.asked)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Lines that were cut are what these servers are for."""


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def registry() -> Iterator[Fake]:
    fake = Fake()
    with serving(fake.server):
        yield fake


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


class _Registry(_Handler):
    @property
    def fake(self) -> Fake:
        return self.server.fake  # type: ignore[attr-defined,no-any-return]

    def handle_any(self) -> None:
        state, faults = self.fake.state, self.fake.faults
        with state.lock:
            state.asked.append((self.command, self.path, dict(self.headers.items())))
        for number, (pattern, status, headers) in enumerate(faults.answers):
            if re.match(pattern, f"{self.command} {self.path}"):
                del faults.answers[number]
                self.body()
                return self.reply(status, b"as asked", **headers)
        if self.path.startswith("/token"):
            return self.token()
        if not self.allowed():
            self.body()
            kind = f'Bearer realm="{faults.realm or f"http://{self.fake.host}/token"}",service="fake"'
            return self.reply(401, WWW_Authenticate=kind if faults.tokens else 'Basic realm="fake"')
        return self.route()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def allowed(self) -> bool:
        faults, state = self.fake.faults, self.fake.state
        shown = self.headers.get("Authorization", "")
        if faults.tokens:
            token = shown.removeprefix("Bearer ")
            left = state.tokens.get(token, 0)
            state.tokens[token] = left - 1
            return left > 0
        if faults.basic:
            return shown == "Basic " + base64.b64encode(faults.basic.encode()).decode()
        return True

    def token(self) -> None:
        faults, state = self.fake.faults, self.fake.state
        self.body()
        if faults.basic:
            wanted = "Basic " + base64.b64encode(faults.basic.encode()).decode()
            if self.headers.get("Authorization") != wanted:
                return self.reply(401, b"who are you?")
        name = f"token-{len(state.tokens)}"
        state.tokens[name] = faults.token_uses or 1_000_000
        return self.reply(200, json.dumps({"token": name}).encode())

    def route(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/v2/_catalog":
            names = sorted({repo for repo, _ in self.fake.state.tags})
            return self.reply(200, json.dumps({"repositories": names}).encode())
        match = re.fullmatch(r"/v2/(.+?)/(blobs/uploads|blobs|manifests|tags)/?(.*)", url.path)
        if match is None:
            return self.reply(404)
        repo, kind, rest = match.groups()
        return getattr(self, kind.replace("/", "_"))(repo, rest, parse_qs(url.query))  # type: ignore[no-any-return]

    def blobs(self, repo: str, digest: str, query: dict[str, list[str]]) -> None:
        faults = self.fake.faults
        data = self.fake.state.blobs.get((repo, digest))
        if data is None:
            return self.reply(404)
        if self.command == "HEAD":
            return self.reply(200, Content_Length=str(len(data)))
        if faults.redirect_blobs:
            return self.reply(307, Location=f"{faults.redirect_blobs}/{digest.replace(':', '-')}")
        if digest in faults.wrong_bytes:
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(begin[1]) if begin and not faults.no_range else 0
        part = data[start:]
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if digest in faults.more_bytes:
            part += b"x" * 5_000_000
        if faults.drop_download_at:
            at = faults.drop_download_at.pop(0)
            self.reply(206 if start else 200, part[:at], Content_Length=str(len(part)), **headers)
            return self.cut()
        return self.reply(206 if start else 200, part, **headers)

    def blobs_uploads(self, repo: str, session: str, query: dict[str, list[str]]) -> None:
        state, faults = self.fake.state, self.fake.faults
        if self.command == "POST":
            session = hashlib.sha256(str(len(state.asked)).encode()).hexdigest()[:12]
            state.uploads[session] = bytearray()
            return self.at(202, repo, session)
        if faults.lose_uploads:
            faults.lose_uploads = False
            state.uploads.clear()
        if session not in state.uploads:
            self.body()
            return self.reply(404)
        if self.command == "GET":
            return self.at(204, repo, session)
        return self.take(repo, session, query)

    def take(self, repo: str, session: str, query: dict[str, list[str]]) -> None:
        state, faults = self.fake.state, self.fake.faults
        length = int(self.headers.get("Content-Length") or 0)
        held = state.uploads[session]
        if faults.no_chunks_over is not None and length > faults.no_chunks_over:
            self.body()
            return self.reply(413)
        begin = re.match(r"(\d+)-", self.headers.get("Content-Range") or "")
        if begin and int(begin[1]) != len(held):
            self.body()
            return self.reply(416)
        if faults.drop_upload_after is not None and length > faults.drop_upload_after:
            data = self.rfile.read(faults.drop_upload_after)
            faults.drop_upload_after = None
            state.received[self.command] += len(data)
            if faults.keep_dropped:
                held += data
            return self.cut()
        data = self.rfile.read(length)
        state.received[self.command] += len(data)
        held += data
        if self.command == "PATCH":
            return self.at(202, repo, session)
        digest = query["digest"][0]
        if f"sha256:{hashlib.sha256(held).hexdigest()}" != digest:
            return self.reply(400, b"digest mismatch")
        state.blobs[repo, digest] = bytes(state.uploads.pop(session))
        return self.reply(201)

    def at(self, status: int, repo: str, session: str) -> None:
        held = len(self.fake.state.uploads[session])
        self.reply(status, Location=f"/v2/{repo}/blobs/uploads/{session}?_state=x", Range=f"0-{max(0, held - 1)}")

    def manifests(self, repo: str, name: str, query: dict[str, list[str]]) -> None:
        state = self.fake.state
        if self.command == "PUT":
            data = self.body()
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            missing = [one for one in _named(data) if (repo, one) not in state.blobs]
            if missing:
                return self.reply(400, b"manifest names blobs that are not here")
            state.manifests[repo, digest] = (data, self.headers["Content-Type"])
            if not name.startswith("sha256:"):
                state.tags[repo, name] = digest
            return self.reply(201)
        digest = name if name.startswith("sha256:") else state.tags.get((repo, name), "")
        if (repo, digest) not in state.manifests:
            return self.reply(404)
        data, kind = state.manifests[repo, digest]
        return self.reply(200, data, Content_Type=kind)

    def tags(self, repo: str, rest: str, query: dict[str, list[str]]) -> None:
        """Two names a page, so that pages are followed."""
        names = sorted(tag for own, tag in self.fake.state.tags if own == repo)
        if not names:
            return self.reply(404)
        last = query.get("last", [""])[0]
        page = [name for name in names if name > last][:2]
        more = {"Link": f'</v2/{repo}/tags/list?n=2&last={page[-1]}>; rel="next"'} if names[-1] != page[-1] else {}
        return self.reply(200, json.dumps({"tags": page}).encode(), **more)


def _named(manifest: bytes) -> list[str]:
    value = json.loads(manifest)
    return [one["digest"] for one in [value["config"], *value["layers"]]]


@dataclass
class Web:
    """A folder served over HTTP, with Range unless told otherwise."""

    root: Path
    host: str = ""
    ranges: bool = True
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    drop_at: list[int] = field(default_factory=list)


@contextmanager
def web(root: Path) -> Iterator[Web]:
    server = _Server(("127.0.0.1", 0), _Files)
    server.fake = Web(root, host=f"127.0.0.1:{server.server_port}")
    with serving(server):
        yield server.fake


class _Files(_Handler):
    def do_GET(self) -> None:
        told: Web = self.server.fake  # type: ignore[attr-defined]
        told.asked.append((self.command, self.path, dict(self.headers.items())))
        path = told.root / self.path.lstrip("/")
        if not path.is_file():
            return self.reply(404)
        data = path.read_bytes()
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(begin[1]) if begin and told.ranges else 0
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if told.drop_at and len(data) > 4096:
            part = data[start:][: told.drop_at.pop(0)]
            self.reply(206 if start else 200, part, Content_Length=str(len(data) - start), **headers)
            return self.cut()
        return self.reply(206 if start else 200, data[start:], **headers)

    do_HEAD = do_GET
