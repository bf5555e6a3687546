"""Uploads by Git LFS, as the Hugging Face hub takes large files: by digest, and only what it has not.

The hub says where to put a file, as a whole or in parts. What is dropped is sent again, of a file in parts only the
part; a file that the hub has, from whatever push, does not travel. The last piece waits until all is known to be right.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memos_cli.errors import StoreFailed
from memos_cli.infrastructure.store.hubline import Line
from memos_cli.infrastructure.store.transport import Outgoing, Piece
from memos_cli.infrastructure.store.wire import Answer, Body, Dropped, checked_redirect

MEDIA_TYPE = "application/vnd.git-lfs+json"
# What the hub gives an address for is there for an hour or so: once more is asked when it is refused.
ADDRESSES = 2
PARTS_LIMIT = 10_000
_HEADERS = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}


@dataclass(frozen=True, slots=True)
class Way:
    """Where the hub wants a file: at `href`, or in parts of `part_bytes` with `href` told at the end."""

    href: str
    headers: Mapping[str, str]
    parts: tuple[str, ...]
    part_bytes: int
    verify: str


class Upload:
    """One file on its way up to the repository at `path`, such as `/acme/team`."""

    def __init__(self, line: Line, path: str, out: Outgoing, sent: Callable[[int], None]) -> None:
        self._line, self._path, self._out, self._sent = line, path, out, sent
        self._told = 0

    def run(self) -> None:
        """Sends the file unless the hub has it. Raises StoreFailed, Damaged when the source has changed."""
        for left in reversed(range(ADDRESSES)):
            way = self._way()
            if way is None or self._send(way, last=not left):
                break
        if way is not None and way.verify:
            self._say(way.verify, self._name())
        self._tell(self._out.blob.size)

    def _name(self) -> dict[str, Any]:
        return {"oid": self._out.blob.hex, "size": self._out.blob.size}

    def _way(self) -> Way | None:
        """Where to put the file; None when it is there."""
        path = f"{self._path}.git/info/lfs/objects/batch"
        asked = {"operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
                 "objects": [self._name()]}  # fmt: skip
        _, told = self._line.told("POST", path, given=asked, headers=_HEADERS)
        try:
            (found,) = told["objects"]
            if "error" in found:
                raise StoreFailed(f"{self._line.host} does not take {self._out.blob.short}: "
                                  f"{str(found['error'].get('message'))[:200]}")  # fmt: skip
            return self._parsed(found["actions"]) if found.get("actions") else None
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._line.odd("POST", path) from error

    def _parsed(self, actions: dict[str, Any]) -> Way:
        """Raises LookupError, TypeError, ValueError for what says no way; StoreFailed for one that is less safe."""
        upload, verify = actions["upload"], actions.get("verify") or {}
        headers = {str(name): str(value) for name, value in (upload.get("header") or {}).items()}
        part_bytes = int(headers.pop("chunk_size", 0))
        parts = sorted((int(name), url) for name, url in headers.items() if name.isdigit())
        if part_bytes and (len(parts) != -(-self._out.blob.size // part_bytes) or len(parts) > PARTS_LIMIT):
            raise ValueError("as many parts as the file has")
        plain = {name: value for name, value in headers.items() if not name.isdigit()}
        way = Way(str(upload["href"]), plain, tuple(url for _, url in parts) if part_bytes else (), part_bytes,
                  str(verify.get("href", "")))  # fmt: skip
        for url in filter(None, (way.href, *way.parts, way.verify)):
            checked_redirect(self._line.base, url)
        return way

    def _send(self, way: Way, *, last: bool) -> bool:
        """Whether it arrived; False when the address was refused, as one that is too old is."""
        size = self._out.blob.size
        if not way.parts:
            return self._put(way.href, 0, size, way.headers, last=last) is not None
        parts = []
        for number, url in enumerate(way.parts, 1):
            start = (number - 1) * way.part_bytes
            answer = self._put(url, start, min(way.part_bytes, size - start), {}, last=last)
            if answer is None:
                return False
            if not answer.headers.get("etag"):
                raise self._line.odd("PUT", url)
            parts.append({"partNumber": number, "etag": answer.headers["etag"]})
        self._say(way.href, {"oid": self._out.blob.hex, "parts": parts})
        return True

    def _say(self, url: str, given: dict[str, Any]) -> None:
        """Tells the hub something; what it says to that is of no use, as long as it does not refuse."""
        body = json.dumps(given).encode()
        self._line.ask("POST", url, expect=(200, 201, 202, 204), headers=_HEADERS, body=body).done()

    def _put(self, url: str, start: int, length: int, headers: Mapping[str, str], *, last: bool) -> Answer | None:
        """The answer to some bytes of the file, sent until they arrive; None for an address that is too old."""
        wire, until, attempt = self._line.wire, time.monotonic() + self._line.wire.retry_seconds, 0
        expect = (200, 201, 204) if last else (200, 201, 204, 403)
        while True:
            before = self._told
            try:
                shown = {**headers, "Content-Length": str(length)}
                answer = self._line.ask(
                    "PUT", url, expect=expect, headers=shown, body=self._body(start, length), once=True
                )
                answer.done()
                return None if answer.status == 403 else answer
            except Dropped as error:
                if self._told > before:
                    until, attempt = time.monotonic() + wire.retry_seconds, 0
                if not wire.wait(until, attempt, error):
                    raise
                attempt += 1

    def _body(self, start: int, length: int) -> Body:
        def pieces() -> Iterator[Piece]:
            at = start
            whole = start + length == self._out.blob.size
            for piece in self._out.checked(start) if whole else self._out.pieces(start, length):
                yield piece
                at += len(piece)
                self._tell(at)

        return pieces

    def _tell(self, at: int) -> None:
        """Bytes are told once, however often they are sent."""
        if at > self._told:
            self._sent(at - self._told)
            self._told = at
