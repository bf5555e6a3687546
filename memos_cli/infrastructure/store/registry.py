"""An OCI registry as a store: one repository per package, a tag per version.

Blobs go up in chunks, and the registry is asked how far it got whenever a chunk did not arrive whole, so an
interruption costs at most the chunk that was under way. By the OCI distribution specification 1.1; registries of 1.0
do (no referrers interface is needed).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from memos_cli.cube.digest import digest_of
from memos_cli.errors import Damaged, Interrupted, MemosError, NotFound, StoreFailed, Usage
from memos_cli.infrastructure.store.login import RegistryLogin, credentials_for
from memos_cli.infrastructure.store.reference import Reference
from memos_cli.infrastructure.store.transport import (
    MANIFEST_LIMIT_BYTES,
    MANIFEST_TYPE,
    Blob,
    Content,
    Named,
    Outgoing,
    Piece,
    Stream,
    Taken,
)
from memos_cli.infrastructure.store.uploads import Uploads
from memos_cli.infrastructure.store.wire import Answer, Dropped, LoginWanted, Wire, is_loopback, next_page, range_start

# Chunks begin here and double while they are quick: an interruption costs one, a large number of them costs time.
CHUNK_BYTES = 8 << 20
LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 1 << 20, 32 << 20
QUICK_SECONDS, SLOW_SECONDS = 1.0, 4.0
TAGS_LIMIT = 100_000
PAGES_LIMIT = 1_000
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_ACCEPT = f"{MANIFEST_TYPE}, application/vnd.oci.image.index.v1+json"


def base_url(scheme: str, host: str) -> str:
    """Where a registry listens: https, except on this machine or when `oci+http` asks for it."""
    plain = scheme == "oci+http" or is_loopback(host)
    return f"{'http' if plain else 'https'}://{'registry-1.docker.io' if host == 'docker.io' else host}"


class Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, *, wire: Wire, state: Path, writing: bool = False) -> None:
        """Raises Usage for a name that no repository has."""
        host, _, path = f"{reference.place}/{reference.name}".partition("/")
        if _REPOSITORY.fullmatch(path) is None:
            raise Usage(f"a registry's repositories have lower-case names, found {path[:120]!r}", hint="another name")
        self.place = reference.package
        self._host, self._wire = host, wire
        self._url = f"{base_url(reference.scheme, host)}/v2/{path}"
        scope = f"repository:{path}:{'pull,push' if writing else 'pull'}"
        known = None if wire.offline else credentials_for(host)
        self._login = RegistryLogin(wire, self._url, scope=scope, credentials=known)
        self._uploads = Uploads(state, self._url)
        self._most_chunk = MOST_CHUNK_BYTES

    def has(self, blob: Blob) -> bool:
        answer = self._ask("HEAD", f"/blobs/{blob.digest}", expect={200, 404}).done()
        size = answer.headers.get("content-length", "")
        return answer.status == 200 and (not size.isdigit() or int(size) == blob.size)

    def read(self, blob: Blob, offset: int) -> Stream:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._ask("GET", f"/blobs/{blob.digest}", expect={200, 206}, headers=headers, once=True)
        return Stream(range_start(answer), answer.pieces())

    def write(self, blob: Blob, content: Content, sent: Callable[[int], None]) -> None:
        _Upload(self, blob, Outgoing(blob, content), sent).run()

    def manifest(self, name: str) -> Named:
        answer = self._ask("GET", f"/manifests/{name}", expect={200}, headers={"Accept": _ACCEPT})
        data = answer.body(MANIFEST_LIMIT_BYTES)
        return Named(data, digest_of(data), answer.headers.get("content-type", "").partition(";")[0].strip())

    def tags(self) -> Sequence[str]:
        found: list[str] = []
        url: str | None = f"{self._url}/tags/list?n=1000"
        for _ in range(PAGES_LIMIT):
            if url is None or len(found) > TAGS_LIMIT:
                break
            answer = self._wire.ask("GET", url, expect={200, 404}, login=self._login)
            if answer.status == 404:
                answer.done()
                return []
            url = next_page(answer)
            found += listed(answer.body(MANIFEST_LIMIT_BYTES), "tags", self._host)
        return found

    def tag(self, name: str | None, data: bytes, *, media_type: str, artifact_type: str = "", replace: bool) -> None:
        digest = digest_of(data)
        if name is not None and not replace and (found := self.digest_of(name)) not in (None, digest):
            raise Taken.by(self.place, name, str(found), digest)
        headers = {"Content-Type": media_type}
        self._ask("PUT", f"/manifests/{name or digest}", expect={201, 202}, headers=headers, body=data).done()

    def digest_of(self, tag: str) -> str | None:
        """The digest of the manifest under a tag, from its bytes when the registry does not say it; None for no tag."""
        try:
            return self.manifest(tag).digest
        except NotFound:
            return None

    def _ask(
        self, method: str, path: str, *, expect: Iterable[int], headers: dict[str, str] | None = None,
        body: bytes | None = None, once: bool = False,
    ) -> Answer:  # fmt: skip
        return self._wire.ask(
            method, f"{self._url}{path}", expect=frozenset(expect), headers=headers, body=body, login=self._login,
            once=once,
        )  # fmt: skip


class _Upload:
    """One blob on its way up."""

    def __init__(self, registry: Registry, blob: Blob, out: Outgoing, sent: Callable[[int], None]) -> None:
        self.registry, self.blob, self.out, self.sent = registry, blob, out, sent
        self.wire, self.login = registry._wire, registry._login
        self.address, self.offset, self.told = "", 0, 0
        self.chunk = min(CHUNK_BYTES, registry._most_chunk)
        self.stop: BaseException | None = None

    def run(self) -> None:
        """Sends what the registry has not. Raises StoreFailed when it makes no way for as long as the wire waits."""
        until, attempt = time.monotonic() + self.wire.retry_seconds, 0
        self._take_up()
        while True:
            before = self.offset
            try:
                if not self.address:
                    self._begin()
                if self.offset >= self.blob.size or self.blob.size <= self.chunk:
                    self._finish()
                    self.registry._uploads.forget(self.blob.digest)
                    return
                self._send_chunk()
            except Dropped as error:
                if not self.wire.wait(until, attempt, error):
                    raise
                attempt += 1
                self._look()
            if self.offset > before:
                until, attempt = time.monotonic() + self.wire.retry_seconds, 0

    def _take_up(self) -> None:
        """Goes on with the session of an interrupted run, if the registry still knows it."""
        self.address = self.registry._uploads.find(self.blob.digest) or ""
        if self.address and urlsplit(self.address).netloc != urlsplit(self.registry._url).netloc:
            self.address = ""
        if self.address:
            self._look()
            self._tell(self.offset)

    def _begin(self) -> None:
        answer = self._ask("POST", f"{self.registry._url}/blobs/uploads/", expect={202}, body=b"").done()
        self._follow(answer)
        self.offset = 0
        least = answer.headers.get("oci-chunk-min-length", "")
        if least.isdigit() and int(least) < 1 << 30:
            self.chunk = max(self.chunk, int(least))

    def _send_chunk(self) -> None:
        start, length = self.offset, min(self.chunk, self.blob.size - self.offset)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{start}-{start + length - 1}",
        }
        began = time.monotonic()
        answer = self._ask(
            "PATCH", self.address, expect={202, 204, 404, 413, 416}, headers=headers,
            body=lambda: self._counted(start, length),
        ).done()  # fmt: skip
        if answer.status == 413:
            self._shrink(length)
        if answer.status in (404, 413, 416):
            raise Dropped(f"{self.registry._host} lost its place in the upload ({answer.status})")
        self._follow(answer)
        self.offset = start + length
        self.registry._uploads.save(self.blob.digest, self.address)
        if self.stop:
            raise self.stop
        self._pace(time.monotonic() - began)

    def _shrink(self, length: int) -> None:
        """Smaller chunks, for a registry that takes none of `length`. Raises StoreFailed when that is small already."""
        if length <= LEAST_CHUNK_BYTES:
            raise StoreFailed(f"{self.registry._host} takes no chunks, not even of {length:,} bytes")
        self.chunk = self.registry._most_chunk = max(LEAST_CHUNK_BYTES, length // 4)

    def _pace(self, seconds: float) -> None:
        """Chunks of a second or so: one is soon ended when the user stops, and soon sent again when it drops."""
        if seconds < QUICK_SECONDS:
            self.chunk = min(2 * self.chunk, max(self.chunk, self.registry._most_chunk))
        elif seconds > SLOW_SECONDS:
            self.chunk = max(LEAST_CHUNK_BYTES, self.chunk // 2)

    def _finish(self) -> None:
        """Closes the upload: with the whole blob when it is small, otherwise when all chunks are there."""
        length = self.blob.size - self.offset
        if not length:
            self.out.check()
        mark = "&" if urlsplit(self.address).query else "?"
        answer = self._ask(
            "PUT", f"{self.address}{mark}digest={self.blob.digest}", expect={201, 204, 400, 404, 416},
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(length)},
            body=(lambda: self.out.checked(self.offset)) if length else b"",
        ).done()  # fmt: skip
        if answer.status == 400:
            self.registry._uploads.forget(self.blob.digest)
            raise Damaged(
                f"{self.registry._host} found other bytes than {self.blob.digest}; nothing was published",
                hint="the same command again: what the registry had of this blob is given up",
            )
        if answer.status in (404, 416):
            raise Dropped(f"{self.registry._host} lost the upload ({answer.status})")
        self._tell(self.blob.size)

    def _look(self) -> None:
        """Asks how far the registry got; a session it no longer knows is given up."""
        if not self.address:
            return
        try:
            answer = self._ask("GET", self.address, expect={204, 202, 404, 400, 416}).done()
        except MemosError as error:
            if isinstance(error, Dropped):
                return  # asked again before the next chunk is tried, for the registry refuses a chunk out of place
            raise
        if answer.status in (202, 204):
            found = _RANGE.fullmatch(answer.headers.get("range", ""))
            self.offset = int(found[1]) + 1 if found and int(found[1]) else 0
            if self.offset <= self.blob.size and self._follow(answer):
                return
        self.address, self.offset = "", 0
        self.registry._uploads.forget(self.blob.digest)

    def _follow(self, answer: Answer) -> bool:
        """Takes the address that the registry gives for the next step. Raises StoreFailed when it gives none."""
        target = answer.headers.get("location")
        if target is None:
            if not self.address:
                raise StoreFailed(f"{self.registry._host} does not say where to upload to")
            return True
        self.address = urljoin(answer.url, target)
        return True

    def _ask(self, method: str, url: str, **more: object) -> Answer:
        return self.wire.ask(method, url, login=self.login, once=True, **more)  # type: ignore[arg-type]

    def _counted(self, start: int, length: int) -> Iterable[Piece]:
        at = start
        for piece in self.out.pieces(start, length):
            yield piece
            at += len(piece)
            try:
                self._tell(at)
            # distribution 2.x gives up an upload of which a chunk was cut: the chunk is ended first, then all stops
            except (Interrupted, KeyboardInterrupt) as stop:
                self.stop = stop

    def _tell(self, at: int) -> None:
        """Bytes are told once, however often they are sent."""
        if at > self.told:
            self.sent(at - self.told)
            self.told = at


def listed(body: bytes, key: str, host: str) -> list[str]:
    """The list of names in a registry's JSON. Raises StoreFailed."""
    try:
        found = json.loads(body).get(key) or []
        if isinstance(found, list) and all(isinstance(name, str) for name in found):
            return found
    except (ValueError, AttributeError, RecursionError):
        pass
    raise StoreFailed(f"expected a list of {key} from {host}, found something else")


def repositories(scheme: str, place: str, *, wire: Wire) -> list[str]:
    """The repositories directly below a place, for registries that list theirs; others are empty."""
    host, _, prefix = place.partition("/")
    base = base_url(scheme, host)
    login = RegistryLogin(wire, base, scope="registry:catalog:*", credentials=credentials_for(host))
    found: list[str] = []
    url: str | None = f"{base}/v2/_catalog?n=1000"
    for _ in range(PAGES_LIMIT):
        if url is None or len(found) > TAGS_LIMIT:
            break
        try:
            answer = wire.ask("GET", url, expect={200, 401, 403, 404, 405}, login=login)
        except LoginWanted:
            return []
        if answer.status != 200:
            answer.done()
            return []
        url = next_page(answer)
        found += listed(answer.body(MANIFEST_LIMIT_BYTES), "repositories", host)
    start = f"{prefix}/" if prefix else ""
    return sorted(
        name.removeprefix(start) for name in found if name.startswith(start) and "/" not in name[len(start) :]
    )
