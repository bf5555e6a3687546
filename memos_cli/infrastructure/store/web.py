"""A tree of files on a web server: read only, any server that hands out files will do, better one that knows Range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from memos_cli.errors import NotFound, StoreFailed
from memos_cli.infrastructure.store.transport import Outgoing, Stream
from memos_cli.infrastructure.store.wire import Wire, range_start


class Web:
    """The files below an address."""

    def __init__(self, url: str, *, wire: Wire) -> None:
        self.place, self._wire = url, wire

    def size(self, path: str) -> int | None:
        answer = self._wire.ask("HEAD", self._url(path), expect={200, 404}).done()
        size = answer.headers.get("content-length", "")
        return int(size) if answer.status == 200 and size.isdigit() else None

    def read(self, path: str, offset: int) -> Stream:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._wire.ask("GET", self._url(path), expect={200, 206}, headers=headers, once=True)
        return Stream(range_start(answer), answer.pieces())

    def write(self, path: str, out: Outgoing, sent: Callable[[int], None]) -> None:
        raise self._read_only()

    def small(self, path: str, limit_bytes: int) -> tuple[bytes, str] | None:
        try:
            answer = self._wire.ask("GET", self._url(path), expect={200})
        except NotFound:
            return None
        return answer.body(limit_bytes), answer.headers.get("etag", "")

    def swap(self, path: str, data: bytes, state: str | None) -> bool:
        raise self._read_only()

    def folders(self) -> Sequence[str]:
        return []

    def _url(self, path: str) -> str:
        return f"{self.place}/{quote(path)}"

    def _read_only(self) -> StoreFailed:
        return StoreFailed(
            f"{self.place} is a web server, and can only be read",
            hint="push to the folder that it serves: file:///...",
        )
