"""The line to the Hugging Face hub: where it is, who it takes us for, and its answers in JSON.

The address is `$HF_ENDPOINT` or the hub's own; the token `$HF_TOKEN` or that of `hf auth login`, read anew when it is
refused. A token is shown to that one origin and never unencrypted, except to this machine; nothing of it is stored,
logged or shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from memos_cli.errors import StoreFailed, Usage
from memos_cli.infrastructure.store.transport import MANIFEST_LIMIT_BYTES
from memos_cli.infrastructure.store.wire import Answer, Body, Wire, host_of, is_loopback, origin_of

ENDPOINT = "https://huggingface.co"
JSON_LIMIT_BYTES = 4 * MANIFEST_LIMIT_BYTES
_TOKEN_LIMIT_BYTES = 16 << 10
_ON = frozenset({"1", "ON", "YES", "TRUE"})
_HINT = "hf auth login, or HF_TOKEN=... (who is not logged in is told the same of a repository that is not there)"


def is_switched_off() -> bool:
    """Whether the environment keeps the tools of Hugging Face off the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _ON


def endpoint() -> str:
    """The hub's address. Raises Usage for one that is none."""
    text = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or ENDPOINT
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query:
        raise Usage(
            "expected HF_ENDPOINT to be the address of a hub, found another text", hint=f"HF_ENDPOINT={ENDPOINT}"
        )
    return text


class HubLogin:
    """The token for one hub, if there is one."""

    def __init__(self, base: str) -> None:
        self.origin, self.hint = origin_of(base), _HINT
        self._safe = base.startswith("https://") or is_loopback(urlsplit(base).netloc)
        self._token = _token() if self._safe else None

    def header(self) -> str | None:
        return f"Bearer {self._token}" if self._token else None

    def renew(self, challenge: str, shown: str | None) -> bool:
        """Whether another token is there by now, such as after a login in another window."""
        self._token = _token() if self._safe else None
        return self.header() not in (None, shown)


def _token() -> str | None:
    """The token as the tools of Hugging Face have it. Raises StoreFailed for a file that cannot be read."""
    env = os.environ
    text = env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not text.strip():
        cache = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        home = Path(env.get("HF_HOME") or cache / "huggingface")
        path = Path(env.get("HF_TOKEN_PATH") or home / "token").expanduser()
        try:
            with open(path, encoding="ascii", errors="replace") as stream:
                text = stream.read(_TOKEN_LIMIT_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreFailed(f"{path}, where hf keeps its token, cannot be read: {error.strerror}") from error
    text = text.strip()
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise StoreFailed(
            "expected a token in HF_TOKEN or in hf's token file, found something else", hint="hf auth login"
        )
    return text or None


class Line:
    """What is asked of a hub, under the token for it."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.base = wire, endpoint()
        self.host = host_of(self.base)
        self._login = HubLogin(self.base)

    def ask(
        self, method: str, path: str, *, expect: Collection[int] = (200,), headers: Mapping[str, str] | None = None,
        body: Body | None = None, once: bool = False,
    ) -> Answer:  # fmt: skip
        """The answer to a path of the hub, or to an address that the hub gave. Raises as `Wire.ask` does."""
        url = urljoin(f"{self.base}/", path)
        return self.wire.ask(
            method, url, expect=frozenset(expect), headers=headers, body=body, login=self._login, once=once
        )

    def told(
        self, method: str, path: str, *, expect: Collection[int] = (200,), given: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Answer, Any]:  # fmt: skip
        """The answer with its JSON, None unless its status is 200 or 201. Raises StoreFailed for what is no JSON."""
        shown = {"Content-Type": "application/json"} if given is not None else {}
        data = json.dumps(given).encode() if given is not None else None
        answer = self.ask(method, path, expect=expect, headers={**shown, **(headers or {})}, body=data)
        body = answer.body(JSON_LIMIT_BYTES)
        if answer.status not in (200, 201):
            return answer, None
        try:
            return answer, json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self.odd(method, path) from error

    def odd(self, method: str, path: str) -> StoreFailed:
        """The error for an answer that is not what the hub gives."""
        return StoreFailed(f"{self.host} does not answer {method} {urlsplit(path).path} as the hub does")
