"""HTTP as stores need it: retries that end, redirects that carry no credentials, bodies with a floor on their speed.

One `Wire` serves one command. A status that a later try may better (429, 503 and their like) is waited out as the
server asks, until the deadline; what cannot get better is told at once. Credentials go to the origin they were given
for and nowhere else, whatever a server redirects to. Raises StoreFailed, with the host and never with a header.
"""

from __future__ import annotations

import email.utils
import itertools
import re
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit

from memos_cli.errors import MemosError, NotFound, StoreFailed
from memos_cli.infrastructure.store.transport import PIECE_BYTES

if TYPE_CHECKING:
    from urllib3 import PoolManager
    from urllib3.response import BaseHTTPResponse

RETRY_SECONDS = 60.0
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
SMALL_BODY_SECONDS = 60.0
# Slower than this over a whole window is as good as silence.
FLOOR_BYTES, FLOOR_SECONDS = 64 << 10, 30.0
REDIRECTS = 5
# Requests with a fresh login each, before it is taken for refused.
LOGINS = 4
REFUSALS = 3
BUSY = frozenset({408, 429, 500, 502, 503, 504})
_MOVED = frozenset({301, 302, 303, 307, 308})
_LINK = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})

Body = bytes | Callable[[], Iterable[bytes | memoryview]]


class Login(Protocol):
    """Who knows what to show a server; `hint` is the command that a person logs in with."""

    origin: str
    hint: str

    def header(self) -> str | None:
        """The value of Authorization now, if any."""

    def renew(self, challenge: str, shown: str | None) -> bool:
        """Answers a 401 to what was shown; whether there is something else to show by now."""


class Dropped(StoreFailed):
    """The connection broke, or the server is busy or too slow: a later try may do, after `asked` seconds if told."""

    def __init__(self, message: str, hint: str | None = None, asked: float | None = None) -> None:
        super().__init__(message, hint)
        self.asked = asked


class LoginWanted(StoreFailed):
    """The server wants to know who asks, and there is nothing (more) to show it."""


class Unanswered(Dropped):
    """Nobody listens there: worth a second look, for a server may be starting, but no long wait."""


@dataclass(slots=True)
class Answer:
    """What a server said; its body is read once, and only as far as is asked for."""

    status: int
    headers: Mapping[str, str]
    url: str
    _response: BaseHTTPResponse = field(repr=False)

    def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises StoreFailed past the limit, Dropped when it breaks off or drips."""
        until = time.monotonic() + SMALL_BODY_SECONDS
        found = bytearray()
        with closing(self.pieces()) as pieces:
            for piece in pieces:
                found += piece
                if len(found) > limit_bytes:
                    raise StoreFailed(f"{host_of(self.url)} sends more than the {limit_bytes:,} bytes expected")
                if time.monotonic() > until:
                    raise Dropped(f"{host_of(self.url)} needs more than {SMALL_BODY_SECONDS:g} s for a short answer")
        return bytes(found)

    def pieces(self) -> Generator[bytes, None, None]:
        """The body as it arrives. Raises Dropped."""
        import urllib3.exceptions as http

        began, window = time.monotonic(), 0
        try:
            while piece := self._response.read1(PIECE_BYTES, decode_content=False):
                yield piece
                window += len(piece)
                if (now := time.monotonic()) - began > FLOOR_SECONDS:
                    if window < FLOOR_BYTES:
                        raise Dropped(f"{host_of(self.url)} sent {window:,} bytes in {now - began:.0f} s")
                    began, window = now, 0
        except (http.HTTPError, OSError) as error:
            raise Dropped(f"{host_of(self.url)} broke off: {_told(error)}") from error
        finally:
            self.close()

    def quoted(self) -> str:
        """The start of the body, for an error's message."""
        try:
            with closing(self.pieces()) as pieces:
                text = next(pieces, b"")[:300].decode("utf-8", "replace")
        except Dropped:
            return ""
        return " ".join(text.split())[:200]

    def done(self) -> Answer:
        """Itself, its body read away, so that the connection serves again."""
        try:
            self._response.drain_conn()
        finally:
            self._response.release_conn()
        return self

    def close(self) -> None:
        self._response.close()


@dataclass(slots=True)
class Wire:
    """How servers are talked to. `notify` hears of waits; `offline` refuses before anything is sent."""

    offline: bool = False
    retry_seconds: float = RETRY_SECONDS
    notify: Callable[[str], None] = lambda text: None
    _pools: dict[str, PoolManager] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def close(self) -> None:
        """Lets go of all connections; the wire may be used again."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def ask(
        self,
        method: str,
        url: str,
        *,
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        login: Login | None = None,
        once: bool = False,
    ) -> Answer:
        """The answer whose status is in `expect`. Raises NotFound for a 404 that is not, StoreFailed for others.

        With `once` a dropped connection or a busy server raises Dropped at once, for callers that know where to go on.
        """
        until = time.monotonic() + self.retry_seconds
        for attempt in itertools.count():
            try:
                answer = self._signed(method, url, headers or {}, body, login)
                if answer.status in expect:
                    return answer
                raise _refused(method, answer, login)
            except Dropped as error:
                if once or not self.wait(until, attempt, error):
                    raise
        raise AssertionError("the loop ends by itself")

    def wait(self, until: float, attempt: int, error: Dropped) -> bool:
        """Waits before another try; False when the deadline will not have it."""
        pause = error.asked if error.asked is not None else min(0.25 * 2**attempt, 10.0)
        if time.monotonic() + pause > until or (isinstance(error, Unanswered) and attempt >= REFUSALS):
            return False
        if pause >= 2:
            self.notify(f"{error.message}; trying again in {pause:.0f} s")
        time.sleep(pause)
        return True

    def _signed(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, login: Login | None
    ) -> Answer:
        """One answer, after a new login when the first was not good enough.

        Of a token that is good for few requests others may have used up the new one too, so it is asked for again.
        """
        for _ in range(LOGINS):
            before = login.header() if login else None
            answer = self._followed(method, url, headers, body, login)
            if answer.status != 401 or login is None or origin_of(answer.url) != login.origin:
                return answer
            challenge = answer.headers.get("www-authenticate", "")
            answer.close()
            if not login.renew(challenge, before):
                break
        assert login is not None
        why = "the one it got is refused" if login.header() else "none is known"
        raise LoginWanted(f"{host_of(url)} wants a login (401), and {why}", hint=login.hint)

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, login: Login | None
    ) -> Answer:
        for _ in range(REDIRECTS + 1):
            shown = dict(headers)
            if login is not None and origin_of(url) == login.origin and (value := login.header()):
                shown["Authorization"] = value
            answer = self._send(method, url, shown, body)
            target = answer.headers.get("location")
            if answer.status not in _MOVED or target is None:
                return answer
            if method not in ("GET", "HEAD") and answer.status not in (307, 308):
                return answer
            answer.close()
            url = checked_redirect(url, urljoin(url, target))
        raise StoreFailed(f"{host_of(url)} redirects more than {REDIRECTS} times")

    def _send(self, method: str, url: str, headers: dict[str, str], body: Body | None) -> Answer:
        import urllib3.exceptions as http

        if self.offline:
            raise StoreFailed(f"--offline, and {host_of(url)} is on the network", hint="the same without --offline")
        shown = {"User-Agent": "memos", "Accept-Encoding": "identity", **headers}
        sent: Any = body() if callable(body) else body
        try:
            response = self._pool(url).request(
                method, url, headers=shown, body=sent, retries=False, redirect=False, preload_content=False
            )
        except (http.HTTPError, OSError) as error:
            raise _unreachable(url, error) from error
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, found, url, response)

    def _pool(self, url: str) -> PoolManager:
        """The connections for a URL, through the proxy that the environment names for it."""
        import urllib.request

        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme, "")
        if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = ""
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = _new_pool(proxy)
            return self._pools[proxy]


def _new_pool(proxy: str) -> PoolManager:
    import urllib3

    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=SILENCE_SECONDS)
    if not proxy:
        return urllib3.PoolManager(timeout=timeout, maxsize=8)
    user = urlsplit(proxy)
    secret = f"{user.username}:{user.password or ''}" if user.username else None
    shown = urllib3.make_headers(proxy_basic_auth=secret)
    return urllib3.ProxyManager(proxy, proxy_headers=shown, timeout=timeout, maxsize=8)


def range_start(answer: Answer) -> int:
    """Where the bytes of an answer begin: 0 when the server sends the whole. Raises StoreFailed for an odd range."""
    if answer.status == 200:
        return 0
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)", answer.headers.get("content-range", ""))
    if found is None:
        raise StoreFailed(f"expected Content-Range with a 206, found {answer.headers.get('content-range', '')[:80]!r}")
    return int(found[1])


def next_page(answer: Answer) -> str | None:
    """The address of the next page of a list, when it is on the same host."""
    found = _LINK.search(answer.headers.get("link", ""))
    if not found:
        return None
    url = urljoin(answer.url, found[1])
    return url if urlsplit(url).netloc == urlsplit(answer.url).netloc else None


def origin_of(url: str) -> str:
    """Scheme, host and port: what credentials belong to."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def host_of(url: str) -> str:
    """Host and port, for people."""
    return urlsplit(url).netloc.rpartition("@")[2]


def is_loopback(host: str) -> bool:
    """Whether a host (with or without port) is this machine by its name."""
    name = host if host.startswith("[") and host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower() in LOOPBACK


def checked_redirect(old: str, new: str) -> str:
    """The address `new` that the server at `old` names, when it is no worse a place to go. Raises StoreFailed."""
    before, after = urlsplit(old), urlsplit(new)
    if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme != "https"):
        raise StoreFailed(f"{host_of(old)} redirects to {after.scheme}://{host_of(new)}, which is not encrypted")
    if is_loopback(after.netloc) and not is_loopback(before.netloc):
        raise StoreFailed(f"{host_of(old)} redirects to this very machine ({host_of(new)})")
    return new


def _retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait: a number or a date."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _refused(method: str, answer: Answer, login: Login | None) -> MemosError:
    host, said = host_of(answer.url), answer.quoted()
    answer.close()
    what = f"{host} answers {answer.status} to {method} {urlsplit(answer.url).path}" + (f": {said}" if said else "")
    if answer.status == 404:
        return NotFound(what)
    if answer.status in (401, 403):
        return StoreFailed(what, hint=f"{login.hint}, with an account that may do this" if login else None)
    if answer.status in BUSY:
        asked = _retry_after(answer.headers.get("retry-after"))
        later = f"in {asked:.0f} s" if asked else "later"
        return Dropped(what, f"the same command {later}: what was transferred is kept", asked)
    return StoreFailed(what)


def _unreachable(url: str, error: Exception) -> MemosError:
    """What is worth another try is Dropped; a host that does not exist or does not listen is not."""
    import urllib3.exceptions as http

    cause = error.__cause__ if isinstance(error, http.ProtocolError) and error.__cause__ else error
    told = f"{host_of(url)} cannot be reached: {_told(cause)}"
    if isinstance(error, http.NameResolutionError | http.SSLError | http.LocationValueError):
        return StoreFailed(told, hint="check the host's name and the network")
    if isinstance(error, http.NewConnectionError):
        return Unanswered(told, hint="check that the server runs, and its port")
    return Dropped(told)


def _told(error: object) -> str:
    """An error of the network in few words, without the objects urllib3 puts in front."""
    text = " ".join(str(error).split())
    return text.rpartition(">: ")[2][:160] or type(error).__name__
