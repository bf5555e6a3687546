"""A Hugging Face hub in this process: its API on one port, its storage of large files on another, and their faults.

It speaks the endpoints that the hub's own client uses, and a test has that client use them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.infrastructure.store.fake import _Handler, _Server, serving

INLINE_BYTES = 4096


@dataclass
class HubFaults:
    """What is to go wrong. Each is used up, unless it says otherwise."""

    answers: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)  # "METHOD regex", status, headers
    drop_upload_at: list[int] = field(default_factory=list)  # bytes of a body that storage reads, then the line is cut
    drop_download_at: list[int] = field(default_factory=list)
    wrong_bytes: set[str] = field(default_factory=set)  # oids that are served with a flipped byte, always
    part_bytes: int | None = None  # large files are wanted in such parts, always
    in_between: bool = False  # somebody else commits just before the next commit
    public: bool = False  # repositories become public whatever is asked, always
    cached: bool = False  # short files are redirected to a path of the hub that tells no commit, always
    ignored: bool = False  # a .gitignore keeps all out, always


@dataclass
class Repo:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # a file is its bytes, or `lfs:` and an oid
    head: str = ""

    def commit(self, files: dict[str, bytes]) -> str:
        tree = {**self.commits.get(self.head, {}), **files}
        self.head = hashlib.sha1(repr((self.head, sorted(tree.items()))).encode()).hexdigest()
        self.commits[self.head] = tree
        return self.head


class FakeHub:
    """`url`, the repositories by kind and name, the large files by oid, and what was asked of both ports."""

    def __init__(self) -> None:
        self.faults = HubFaults()
        self.token = "hf_secret"
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.stored: list[tuple[str, str, dict[str, str]]] = []
        self.lock = threading.Lock()
        self.api, self.storage = _Server(("127.0.0.1", 0), _Api), _Server(("127.0.0.1", 0), _Storage)
        self.api.fake = self.storage.fake = self
        self.host, self.store = (f"127.0.0.1:{one.server_port}" for one in (self.api, self.storage))
        self.url = f"http://{self.host}"

    def files(self, name: str) -> dict[str, bytes]:
        """What a repository has now."""
        repo = self.repos[name]
        return {path: self.large[data[4:].decode()] if data.startswith(b"lfs:") else data
                for path, data in repo.commits[repo.head].items()}  # fmt: skip

    def count(self, pattern: str) -> int:
        return sum(bool(re.match(pattern, f"{method} {path}")) for method, path, _ in [*self.asked, *self.stored])


@contextmanager
def hub() -> Iterator[FakeHub]:
    fake = FakeHub()
    with serving(fake.api), serving(fake.storage):
        yield fake


class _Hubbed(_Handler):
    heard = "asked"

    @property
    def fake(self) -> FakeHub:
        return self.server.fake  # type: ignore[attr-defined,no-any-return]

    def handle_any(self) -> None:
        fake = self.fake
        with fake.lock:
            getattr(fake, self.heard).append((self.command, self.path, dict(self.headers.items())))
            for number, (pattern, status, headers) in enumerate(fake.faults.answers):
                if re.match(pattern, f"{self.command} {self.path}"):
                    del fake.faults.answers[number]
                    self.given()
                    return self.reply(status, b"as asked", **headers)
        return self.route()

    do_GET = do_HEAD = do_PUT = do_POST = handle_any

    def route(self) -> None:
        raise NotImplementedError

    def given(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def say(self, value: Any, status: int = 200, **headers: str) -> None:
        self.reply(status, json.dumps(value).encode(), Content_Type="application/json", **headers)


class _Api(_Hubbed):
    def route(self) -> None:
        shown = self.headers.get("Authorization")
        if shown is not None and shown != f"Bearer {self.fake.token}":
            self.given()
            return self.reply(401, b'{"error":"Invalid username or password."}')
        url = urlsplit(self.path)
        if url.path == "/api/repos/create":
            return self.create(json.loads(self.given()))
        if match := re.fullmatch(r"/api/(models|datasets)", url.path):
            return self.listing(match[1], parse_qs(url.query))
        if match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?", url.path):
            return self.of_repo(match[1], match[2], match[3] or "", url.query)
        if match := re.fullmatch(r"(?:/(datasets))?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", url.path):
            return self.resolve(match[1] or "models", match[2], match[3], unquote(match[4]))
        if match := re.fullmatch(r"(?:/(datasets))?/([^/]+/[^/]+)\.git/info/lfs/objects/batch", url.path):
            return self.batch(match[1] or "models", match[2])
        if match := re.fullmatch(r"/complete/(\w+)", url.path):
            return self.complete(match[1])
        if url.path == "/verify":
            told = json.loads(self.given())
            return self.reply(200 if len(self.fake.large.get(told["oid"], b"")) == told["size"] else 422, b"OK")
        self.given()
        return self.reply(404)

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") is not None

    def repo(self, kind: str, name: str) -> Repo | None:
        """The repository, when it is there and may be seen; otherwise the refusal was said."""
        repo = self.fake.repos.get(f"{kind}/{name}")
        if repo is None or repo.private and not self.known:
            self.given()
            self.reply(404 if self.known else 401, b'{"error":"Repository not found"}', X_Error_Code="RepoNotFound")
            return None
        return repo

    def create(self, told: dict[str, Any]) -> None:
        name = f"{told.get('type', 'model')}s/{told['organization']}/{told['name']}"
        if not self.known:
            return self.reply(401)
        if name in self.fake.repos:
            return self.reply(409, b'{"error":"You already created this repo"}')
        private = told.get("visibility") == "private" and not self.fake.faults.public
        self.fake.repos[name] = Repo(private)
        self.fake.repos[name].commit({".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n"})
        return self.say({"url": f"{self.fake.url}/{told['organization']}/{told['name']}"})

    def of_repo(self, kind: str, name: str, rest: str, query: str) -> None:
        repo = self.repo(kind, name)
        if repo is None:
            return None
        what, _, more = rest.partition("/")
        if what in ("", "revision"):
            return self.say(self.facts(name, repo))
        return getattr(self, what.replace("-", "_"))(kind, name, repo, more)  # type: ignore[no-any-return]

    def facts(self, name: str, repo: Repo) -> dict[str, Any]:
        siblings = [{"rfilename": path} for path in repo.commits[repo.head]]
        return {"id": name, "private": repo.private, "sha": repo.head, "siblings": siblings, "tags": [], "downloads": 0}

    def paths_info(self, kind: str, name: str, repo: Repo, revision: str) -> None:
        tree, asked = self.fake.files(f"{kind}/{name}"), parse_qs(self.given().decode())
        self.say([{"type": "file", "path": path, "size": len(tree[path]), "oid": "0" * 40}
                  for path in asked["paths"] if path in tree])  # fmt: skip

    def tree(self, kind: str, name: str, repo: Repo, revision: str) -> None:
        tree = self.fake.files(f"{kind}/{name}")
        self.say([{"type": "file", "path": path, "size": len(data), "oid": "0" * 40} for path, data in tree.items()])

    def preupload(self, kind: str, name: str, repo: Repo, revision: str) -> None:
        told = json.loads(self.given())["files"]
        ignored = self.fake.faults.ignored
        self.say(
            {"files": [{"path": one["path"], "uploadMode": self.mode(one), "shouldIgnore": ignored} for one in told]}
        )

    def mode(self, one: dict[str, Any]) -> str:
        try:
            base64.b64decode(one["sample"]).decode()
        except UnicodeDecodeError:
            return "lfs"
        return "lfs" if one["size"] > INLINE_BYTES else "regular"

    def commit(self, kind: str, name: str, repo: Repo, revision: str) -> None:
        header, *lines = [json.loads(line) for line in self.given().splitlines()]
        if not self.known:
            return self.reply(401)
        if self.fake.faults.in_between:
            self.fake.faults.in_between = False
            repo.commit({"README.md": b"somebody was here"})
        parent = header["value"].get("parentCommit")
        if parent is not None and parent != repo.head:
            return self.reply(412, b'{"error":"A commit has happened since. Please refresh and try again."}')
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "lfsFile":
                if len(self.fake.large.get(value["oid"], b"")) != value["size"]:
                    return self.reply(400, b'{"error":"LFS pointer pointed to a file that does not exist"}')
                files[value["path"]] = b"lfs:" + value["oid"].encode()
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        sha = repo.commit(files)
        return self.say({"commitUrl": f"{self.fake.url}/{name}/commit/{sha}", "commitOid": sha, "pullRequestUrl": None})

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repo = self.repo(kind, name)
        if repo is None:
            return None
        data = repo.commits.get(repo.head if revision == "main" else revision, {}).get(path)
        if data is None:
            return self.reply(404, X_Error_Code="EntryNotFound")
        if not data.startswith(b"lfs:"):
            if self.fake.faults.cached and not self.path.endswith("?cached"):
                return self.reply(307, Location=f"{self.path}?cached", X_Repo_Commit=repo.head)
            if self.fake.faults.cached:
                return self.reply(200, data)
            etag = hashlib.sha1(data).hexdigest()
            return self.reply(200, data, X_Repo_Commit=repo.head, ETag=f'"{etag}"')
        oid = data[4:].decode()
        return self.reply(302, Location=f"http://{self.fake.store}/get/{oid}", X_Repo_Commit=repo.head,
                          X_Linked_ETag=f'"{oid}"', X_Linked_Size=str(len(self.fake.large[oid])))  # fmt: skip

    def batch(self, kind: str, name: str) -> None:
        told, faults = json.loads(self.given()), self.fake.faults
        if not self.known or self.repo(kind, name) is None:
            return self.reply(401)
        objects = []
        for one in told["objects"]:
            oid, size = one["oid"], one["size"]
            if oid in self.fake.large:
                objects.append({"oid": oid, "size": size})
                continue
            upload: dict[str, Any] = {"href": f"http://{self.fake.store}/put/{oid}"}
            if faults.part_bytes:
                count = -(-size // faults.part_bytes)
                parts = {f"{n:05d}": f"http://{self.fake.store}/put/{oid}/{n}" for n in range(1, count + 1)}
                header = {"chunk_size": str(faults.part_bytes), **parts}
                upload = {"href": f"{self.fake.url}/complete/{oid}", "header": header}
            verify = {"href": f"{self.fake.url}/verify"}
            objects.append({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
        return self.say({"transfer": "basic", "objects": objects})

    def complete(self, oid: str) -> None:
        told = json.loads(self.given())
        data = b"".join(self.fake.parts[oid, one["partNumber"]] for one in told["parts"])
        if hashlib.sha256(data).hexdigest() != oid:
            return self.reply(400)
        self.fake.large[oid] = data
        return self.reply(200)

    def listing(self, kind: str, query: dict[str, list[str]]) -> None:
        """One repository a page, so that pages are followed."""
        (author,) = query["author"]
        start = f"{kind}/{author}/"
        names = sorted(name for name, repo in self.fake.repos.items()
                       if name.startswith(start) and (self.known or not repo.private))  # fmt: skip
        at = int(query.get("cursor", ["0"])[0])
        more = f'<{self.fake.url}/api/{kind}?author={author}&cursor={at + 1}>; rel="next"'
        headers = {"Link": more} if at + 1 < len(names) else {}
        self.say([self.facts(name.partition("/")[2], self.fake.repos[name]) for name in names[at : at + 1]], **headers)


class _Storage(_Hubbed):
    heard = "stored"

    def route(self) -> None:
        _, verb, oid, *number = urlsplit(self.path).path.split("/")
        if verb == "get":
            return self.hand_out(oid)
        faults = self.fake.faults
        if faults.drop_upload_at:
            self.rfile.read(faults.drop_upload_at.pop(0))
            return self.cut()
        data = self.given()
        if len(data) < int(self.headers.get("Content-Length") or 0):
            return self.cut()  # whoever sent it went away: storage keeps nothing of that
        if number:
            self.fake.parts[oid, int(number[0])] = data
        else:
            self.fake.large[oid] = data
        return self.reply(200, ETag='"etag"')

    def hand_out(self, oid: str) -> None:
        data, faults = self.fake.large[oid], self.fake.faults
        if oid in faults.wrong_bytes:
            data = data[:-1] + bytes([data[-1] ^ 1])
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(begin[1]) if begin else 0
        part, status = data[start:], 206 if begin else 200
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if begin else {}
        if faults.drop_download_at:
            self.reply(status, part[: faults.drop_download_at.pop(0)], Content_Length=str(len(part)), **headers)
            return self.cut()
        return self.reply(status, part, **headers)
