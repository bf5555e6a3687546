"""The gate: who comes in by which key, how often, and how many at a time."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from memos_cli.errors import MemosError, Usage
from memos_cli.infrastructure import clients, door
from memos_cli.infrastructure.clients import Client
from memos_cli.interface.http.outcome import Refused

if TYPE_CHECKING:
    from starlette.requests import Request

# So many refusals a minute are told one by one; of more, how many there were.
MOST_NOTED = 60
NOBODY = {"key": "", "user": "", "client": ""}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is taken: bytes of a request, requests of a client (such as `1200/minute`), at a time, and seconds."""

    body_bytes: int = 4 << 20
    rate: str = "1200/minute"
    at_once: int = 16
    timeout_seconds: float = 60.0

    def item(self) -> RateLimitItem:
        """The rate. Raises Usage for what is none."""
        try:
            return parse(self.rate)
        except ValueError as error:
            raise Usage(
                f"expected a rate such as 1200/minute, found {self.rate[:60]!r}", hint="--rate 1200/minute"
            ) from error


class Keys:
    """The clients of a home, read again when their file has changed: who is revoked is nobody at once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._seen: tuple[int, ...] | None = None
        self._known: list[Client] = []

    def find(self, key: str) -> Client | None:
        """The client whose key this is; None for nobody. Raises Damaged, NotAllowed for a file that is none."""
        seen: tuple[int, ...] = ()
        with suppress(OSError):
            facts = os.stat(self._home / clients.FILE)
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_mode)
        if seen != self._seen:
            self._known, self._seen = clients.load(self._home), seen
        return clients.matching(self._known, key)


class Gate:
    """Lets clients in. Knows nothing of what they ask for."""

    def __init__(self, home: Path, bounds: Bounds) -> None:
        self._home, self._bounds, self._keys = home, bounds, Keys(home)
        self._rate, self._windows = bounds.item(), MovingWindowRateLimiter(MemoryStorage())
        self._refusals = _Refusals()
        self.slots = Slots(bounds.at_once)

    def enter(self, request: Request) -> Client:
        """Who asks. Raises Refused without a key that is known (401, in the log of the door), or too often (429)."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        client = self._keys.find(key.strip()) if scheme.lower() == "bearer" else None
        if client is None:
            self._note(request, "wrong key" if key else "no key")
            raise Refused(
                401, "expected the key of a client as Authorization: Bearer KEY", "memos clients new NAME --cube CUBE"
            )
        if not self._windows.hit(self._rate, client.name):
            reset = self._windows.get_window_stats(self._rate, client.name).reset_time
            after = max(1, round(reset - time.time()))
            raise Refused(429, f"client {client.name!r} asked more than {self._bounds.rate}", retry_seconds=after)
        return client

    def _note(self, request: Request, why: str) -> None:
        left_out = self._refusals.due()
        if left_out is None:
            return
        peer = request.client.host if request.client else ""
        facts = {"by": "serve", "why": why, "from": peer, "path": request.url.path[:120]}
        facts |= {"left_out": str(left_out)} if left_out else {}
        # a full disk is no reason to tell a stranger more than that they are one
        with suppress(MemosError):
            door.note(self._home, actor=NOBODY, verb="enter", facts=facts)


@dataclass(slots=True)
class _Refusals:
    """How many strangers came within a minute."""

    since: float = field(default_factory=time.monotonic)
    noted: int = 0
    left_out: int = 0

    def due(self) -> int | None:
        """Whether this one is to be noted: how many before it were not, or None for not."""
        now = time.monotonic()
        if now - self.since >= 60:
            self.since, self.noted = now, 0
        if self.noted >= MOST_NOTED:
            self.left_out += 1
            return None
        self.noted += 1
        left_out, self.left_out = self.left_out, 0
        return left_out


class Slots:
    """Places for requests that are being worked on. One is free again when its work is done, not when nobody waits."""

    def __init__(self, most: int) -> None:
        self._most, self._taken, self._lock = most, 0, threading.Lock()

    def take(self) -> None:
        """Takes one. Raises Refused (503) when there is none."""
        with self._lock:
            if self._taken >= self._most:
                raise Refused(503, f"{self._most} requests are being answered already", retry_seconds=1)
            self._taken += 1

    def leave(self) -> None:
        """Gives it back."""
        with self._lock:
            self._taken -= 1

    @property
    def taken(self) -> int:
        """How many are in use."""
        return self._taken
