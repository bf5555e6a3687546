"""Who a registry takes us for: credentials as docker, podman and skopeo keep them, and the tokens they are good for.

Read from the first of `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`, podman's `auth.json` and
`~/.docker/config.json` that knows the host; a credential helper named there is asked. Nothing of it is stored, logged
or shown. A token server on another host is asked only when it is of the registry's own domain.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from memos_cli.errors import StoreFailed
from memos_cli.infrastructure.store.wire import Wire, host_of, is_loopback, origin_of

_HELPER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PARAMETER = re.compile(r'([a-zA-Z]+)="((?:[^"\\]|\\.)*)"')
_FILE_LIMIT_BYTES = 1 << 20
_TOKEN_LIMIT_BYTES = 1 << 20
HELPER_SECONDS = 30.0
# The name that docker keeps the hub's credentials under.
_HUB = {"registry-1.docker.io": "https://index.docker.io/v1/", "docker.io": "https://index.docker.io/v1/"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a secret, or a token that is exchanged for others."""

    user: str = field(repr=False)
    secret: str = field(repr=False)
    refresh: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of Authorization for a plain login."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


class RegistryLogin:
    """What is shown to one registry: nothing, a plain login, or a token fetched for a scope."""

    def __init__(self, wire: Wire, url: str, *, scope: str, credentials: Credentials | None) -> None:
        self.origin, self.hint = origin_of(url), f"docker login {host_of(url)}"
        self._wire, self._url, self._scope, self._credentials = wire, url, scope, credentials
        self._value: str | None = None
        self._lock = threading.Lock()

    def header(self) -> str | None:
        return self._value

    def renew(self, challenge: str, shown: str | None) -> bool:
        """Answers `WWW-Authenticate`. Raises StoreFailed when the token server says no."""
        with self._lock:
            if self._value != shown:
                return True  # another thread was here first
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "basic" and self._credentials:
                self._value = self._credentials.basic
            elif kind.lower() == "bearer":
                self._value = f"Bearer {self._token(dict(_PARAMETER.findall(rest)))}"
            return self._value != shown

    def _token(self, told: dict[str, str]) -> str:
        realm = self._checked_realm(told.get("realm", ""))
        asked = {"service": told.get("service", ""), "scope": self._scope}
        known = self._credentials
        if known and known.refresh:
            form = {"grant_type": "refresh_token", "refresh_token": known.refresh, "client_id": "memos", **asked}
            answer = self._wire.ask(
                "POST", realm, expect={200}, body=urlencode(form).encode(),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )  # fmt: skip
        else:
            shown = {"Authorization": known.basic} if known else {}
            mark = "&" if urlsplit(realm).query else "?"
            # sent without redirects: the header is for this very server
            answer = self._wire.ask("GET", f"{realm}{mark}{urlencode(asked)}", expect={200}, headers=shown)
        return _token_in(answer.body(_TOKEN_LIMIT_BYTES), realm)

    def _checked_realm(self, realm: str) -> str:
        """The token server, when it may be told who we are. Raises StoreFailed."""
        there, here = urlsplit(realm), urlsplit(self._url)
        same = origin_of(realm) == self.origin
        local = is_loopback(here.netloc) and is_loopback(there.netloc)
        domain = (here.hostname or "").split(".")[-2:]
        related = there.scheme == "https" and len(domain) == 2 and (there.hostname or "").split(".")[-2:] == domain
        if not (same or local or related):
            raise StoreFailed(
                f"{host_of(self._url)} sends its logins to {realm[:120]!r}, which is not of its own domain, so nothing "
                "was sent there"
            )
        return realm


def _token_in(body: bytes, realm: str) -> str:
    try:
        told = json.loads(body)
        token = told.get("token") or told.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise StoreFailed(f"expected a token from {host_of(realm)}, found none")
    return token


def credentials_for(host: str) -> Credentials | None:
    """What is stored for a registry; None when nothing is. Raises StoreFailed for a helper that fails."""
    for path in _files():
        stored = _read(path)
        helpers = stored.get("credHelpers")
        names = [name for name in (_HUB.get(host), host, f"https://{host}") if name]
        for name in names:
            if isinstance(helpers, dict) and isinstance(helpers.get(name), str):
                return _ask_helper(helpers[name], name)
            if found := _decoded(stored.get("auths"), name):
                return found
        if isinstance(stored.get("credsStore"), str):
            for name in names:
                if found := _ask_helper(stored["credsStore"], name):
                    return found
    return None


def _files() -> Iterator[Path]:
    env = os.environ
    if env.get("REGISTRY_AUTH_FILE"):
        yield Path(env["REGISTRY_AUTH_FILE"])
    yield Path(env.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    if env.get("XDG_RUNTIME_DIR"):
        yield Path(env["XDG_RUNTIME_DIR"]) / "containers" / "auth.json"


def _read(path: Path) -> dict[str, Any]:
    """The file as JSON; empty when there is none. Raises StoreFailed for one that cannot be read."""
    try:
        if path.stat().st_size > _FILE_LIMIT_BYTES:
            raise StoreFailed(f"{path}: expected a small file of logins")
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise StoreFailed(f"{path}: expected logins in JSON ({type(error).__name__})") from error
    return value if isinstance(value, dict) else {}


def _decoded(auths: object, name: str) -> Credentials | None:
    entry = auths.get(name) if isinstance(auths, dict) else None
    if not isinstance(entry, dict):
        return None
    try:
        user, _, secret = base64.b64decode(str(entry.get("auth", "")), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    refresh = entry.get("identitytoken")
    return Credentials(user, secret, refresh if isinstance(refresh, str) else "") if user or refresh else None


def _ask_helper(helper: str, name: str) -> Credentials | None:
    """What `docker-credential-<helper> get` tells of a host; None when it knows nothing of it."""
    if _HELPER.fullmatch(helper) is None:
        raise StoreFailed(f"expected the name of a credential helper in the docker settings, found {helper[:80]!r}")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=name.encode(), capture_output=True, timeout=HELPER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreFailed(
            f"{program}, which the docker settings name, does not run ({type(error).__name__})"
        ) from error
    if done.returncode:
        return None
    try:
        told = json.loads(done.stdout)
        user, secret = str(told["Username"]), str(told["Secret"])
    except (ValueError, LookupError, TypeError) as error:
        raise StoreFailed(f"{program} does not answer as a credential helper does") from error
    return Credentials("", "", secret) if user == "<token>" else Credentials(user, secret)
