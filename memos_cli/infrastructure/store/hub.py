"""A package in a repository of the Hugging Face hub: `hf://owner/name`, or `hf://datasets/owner/name`.

The repository holds the same tree of files as a folder would. Large files go up first, by their digest and only when
the hub has them not; a commit then puts them in their places together with index.json, and names the commit that it
was made upon, so two pushes at once lose nothing of each other. A repository that is not there is made, private. What
comes down is hashed by who asked for it, whatever the hub says of it.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from memos_cli.cube.digest import digest_of
from memos_cli.errors import StoreFailed, Usage
from memos_cli.infrastructure.store.hubline import Line
from memos_cli.infrastructure.store.lfs import Upload
from memos_cli.infrastructure.store.reference import is_name
from memos_cli.infrastructure.store.transport import Blob, Outgoing, Piece, Stream
from memos_cli.infrastructure.store.wire import Wire, next_page, range_start

BRANCH = "main"
SAMPLE_BYTES = 512
# What the hub may ask to have inside a commit; what is larger goes up by itself.
INLINE_LIMIT_BYTES = 16 << 20
PAGES_LIMIT = 100
_KINDS = {"models": "model", "datasets": "dataset"}
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_RESERVED = ("datasets", "models", "spaces")
_MARKS = ("oci-layout", "index.json")


@dataclass(frozen=True, slots=True)
class _Staged:
    """A file that waits for a commit: its size and its line there."""

    size: int
    line: Mapping[str, Any]


class Hub:
    """The files of a repository."""

    def __init__(self, path: str, *, wire: Wire) -> None:
        """Raises Usage for a path that no repository has."""
        self._kind, self._owner, self._name = _parse(path)
        self.place = f"hf://{path}"
        self._line = Line(wire)
        self._api = f"/api/{self._kind}/{self._owner}/{self._name}"
        self._tree = f"{_prefix(self._kind)}/{self._owner}/{self._name}"
        self._staged: dict[str, _Staged] = {}
        self._lock = threading.Lock()
        self._there = False
        self._exposed = False

    def size(self, path: str) -> int | None:
        if (staged := self._staged.get(path)) is not None:
            return staged.size
        asked = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"paths": path, "expand": "False"}).encode()
        answer = self._line.ask("POST", f"{self._api}/paths-info/{BRANCH}", expect=(200, 404), headers=asked, body=body)
        data = answer.body(1 << 20)
        try:
            sizes = [one["size"] for one in json.loads(data) if one["path"] == path] if answer.status == 200 else []
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise self._line.odd("POST", f"{self._api}/paths-info") from error
        return sizes[0] if sizes and type(sizes[0]) is int else None

    def read(self, path: str, offset: int) -> Stream:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._line.ask("GET", self._at(path), expect=(200, 206), headers=headers, once=True)
        return Stream(range_start(answer), answer.pieces())

    def write(self, path: str, out: Outgoing, sent: Callable[[int], None]) -> None:
        self._make()
        size = out.blob.size
        if self._is_inline(path, out):
            data = b"".join(bytes(piece) for piece in out.pieces(0, size))
            out.check()
            sent(size)
            line: dict[str, Any] = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
            staged = _Staged(size, {"key": "file", "value": line})
        else:
            Upload(self._line, self._tree, out, sent).run()
            line = {"path": path, "algo": "sha256", "oid": out.blob.hex, "size": size}
            staged = _Staged(size, {"key": "lfsFile", "value": line})
        with self._lock:
            self._staged[path] = staged

    def small(self, path: str, limit_bytes: int) -> tuple[bytes, str] | None:
        found = self._short(path, BRANCH, limit_bytes)
        if found is None or _COMMIT.fullmatch(found[1]):
            return found
        # kept as a large file, of which no answer tells the commit
        head = self._head() or BRANCH
        again = self._short(path, head, limit_bytes)
        return (again[0], head) if again else None

    def swap(self, path: str, data: bytes, state: str | None) -> bool:
        self._make()
        parent = state if state is not None else self._head()
        if state is None and self._short(path, parent or BRANCH, len(data) + (1 << 20)) is not None:
            return False

        def content(offset: int) -> Iterator[Piece]:
            yield data[offset:]

        self.write(path, Outgoing(Blob(digest_of(data), len(data)), content), lambda count: None)
        return self._commit(path, parent)

    def folders(self) -> Sequence[str]:
        return []

    def _commit(self, path: str, parent: str | None) -> bool:
        """Commits all that waits; False when another commit came in between, and `path` is forgotten."""
        with self._lock:
            staged = dict(self._staged)
        header = {"summary": f"memos: {path}", "description": ""} | ({"parentCommit": parent} if parent else {})
        lines = [{"key": "header", "value": header}, *(one.line for one in staged.values())]
        answer = self._line.ask(
            "POST", f"{self._api}/commit/{BRANCH}", expect=(200, 201, 409, 412),
            headers={"Content-Type": "application/x-ndjson"},
            body=b"".join(json.dumps(line).encode() + b"\n" for line in lines),
        ).done()  # fmt: skip
        done = answer.status in (200, 201)
        with self._lock:
            for name in staged if done else [path]:
                self._staged.pop(name, None)
        return done

    def _is_inline(self, path: str, out: Outgoing) -> bool:
        """Whether the hub wants the file inside the commit. Raises StoreFailed when it wants it not at all."""
        if not out.blob.size:
            return True
        sample = b"".join(bytes(piece) for piece in out.pieces(0, min(SAMPLE_BYTES, out.blob.size)))
        asked = {"path": path, "sample": base64.b64encode(sample).decode(), "size": out.blob.size}
        where = f"{self._api}/preupload/{BRANCH}"
        _, told = self._line.told("POST", where, given={"files": [asked]})
        try:
            (found,) = told["files"]
            mode, ignored = found["uploadMode"], found.get("shouldIgnore")
        except (LookupError, TypeError, ValueError) as error:
            raise self._line.odd("POST", where) from error
        if ignored:
            raise StoreFailed(f"a .gitignore in {self.place} keeps {path} out", hint="take it away there")
        return bool(mode == "regular" and out.blob.size <= INLINE_LIMIT_BYTES)

    def _make(self) -> None:
        """Makes the repository when there is none. StoreFailed when it did not become private, for all who ask."""
        with self._lock:
            if self._exposed:
                # another thread made it: it is there for this one too, and no less open to everyone
                raise self._not_private()
            if self._there:
                return
            answer, _ = self._line.told("GET", self._api, expect=(200, 404))
            if answer.status == 404:
                self._create()
            self._there = True

    def _create(self) -> None:
        given = {"name": self._name, "organization": self._owner, "type": _KINDS[self._kind], "visibility": "private"}
        answer, _ = self._line.told("POST", "/api/repos/create", expect=(200, 201, 409), given=given)
        if answer.status == 409:
            return  # somebody else was first, and decided who sees it
        _, facts = self._line.told("GET", self._api)
        if not isinstance(facts, dict) or facts.get("private") is not True:
            self._exposed = True
            raise self._not_private()

    def _not_private(self) -> StoreFailed:
        return StoreFailed(
            f"{self.place} was made, and is not private as was asked; nothing was sent",
            hint=f"set who sees it at {self._line.base}{self._tree}/settings, then the same command",
        )

    def _head(self) -> str | None:
        """The commit that the branch is at; None when there is none."""
        where = f"{self._api}/revision/{BRANCH}"
        answer, told = self._line.told("GET", where, expect=(200, 404))
        if answer.status == 404:
            return None
        found = told.get("sha") if isinstance(told, dict) else None
        if not isinstance(found, str) or _COMMIT.fullmatch(found) is None:
            raise self._line.odd("GET", where)
        return found

    def _short(self, path: str, revision: str, limit_bytes: int) -> tuple[bytes, str] | None:
        """A short file, and the commit it is of as far as the answer tells."""
        answer = self._line.ask("GET", self._at(path, revision), expect=(200, 404))
        if answer.status == 404:
            answer.done()
            return None
        return answer.body(limit_bytes), answer.headers.get("x-repo-commit", "")

    def _at(self, path: str, revision: str = BRANCH) -> str:
        return f"{self._tree}/resolve/{revision}/{quote(path)}"


def repositories(path: str, *, wire: Wire) -> list[str]:
    """The names of the packages among the repositories of `owner` or `datasets/owner`, as far as the hub shows them."""
    kind, _, owner = path.rpartition("/") if path.startswith("datasets/") else ("models", "", path)
    if kind not in _KINDS or owner in _RESERVED or _REPOSITORY.fullmatch(owner) is None:
        raise Usage(f"expected an owner on the hub, found {path[:120]!r}", hint="hf://OWNER, or hf://datasets/OWNER")
    line, found = Line(wire), list[str]()
    url: str | None = f"/api/{kind}?{urlencode({'author': owner, 'full': 'true', 'limit': 100})}"
    for _ in range(PAGES_LIMIT):
        if url is None:
            break
        answer, told = line.told("GET", url)
        try:
            found += [one["id"].rpartition("/")[2] for one in told if _holds_package(one)]
        except (LookupError, TypeError, AttributeError) as error:
            raise line.odd("GET", url) from error
        url = next_page(answer)
    return sorted(name for name in set(found) if is_name(name))


def _holds_package(told: Any) -> bool:
    names = {one["rfilename"] for one in told.get("siblings") or ()}
    return all(mark in names for mark in _MARKS)


def _parse(path: str) -> tuple[str, str, str]:
    """Kind, owner and name of a repository. Raises Usage."""
    *kind, owner, name = path.split("/") if path.count("/") in (1, 2) else ("", "", "")
    fits = all(_REPOSITORY.fullmatch(part) and "--" not in part and ".." not in part for part in (owner, name))
    if kind not in ([], ["datasets"]) or not fits or owner in _RESERVED or name.endswith(".git"):
        raise _no_repository(path)
    return "datasets" if kind else "models", owner, name


def _no_repository(path: str) -> Usage:
    return Usage(
        f"expected a repository of the hub, found {path[:120]!r}", hint="hf://OWNER/NAME, or hf://datasets/OWNER/NAME"
    )


def _prefix(kind: str) -> str:
    return "" if kind == "models" else f"/{kind}"
