"""A prompt into its completion, by a model on this machine or by one behind an OpenAI-compatible address.

`open_completer(model)` reads a local decoder (a folder or a hub id) through transformers; with `url` the prompt is sent
to `{url}/chat/completions`. Both are greedy and have the same shape:

    name                          how the model is called in what it wrote
    complete(prompt, limit_tokens=...) -> Completion(text, cut)

Opening does not connect and loads nothing; the first `complete` does. A key is used in the header of a request and
nowhere else. Knows nothing of cubes, of memories, or of who agreed to what.
"""

from __future__ import annotations

import ipaddress
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from memos_cli import __version__
from memos_cli.errors import StoreFailed, Usage

if TYPE_CHECKING:
    from memos_cli.runtime.model import LocalModel

TIMEOUT_SECONDS = 120.0
ANSWER_LIMIT_BYTES = 4 << 20
# A server that is busy is asked again after so many seconds, unless it says after how many.
PAUSES_SECONDS = (1.0, 5.0)
LONGEST_PAUSE_SECONDS = 30.0
_BUSY = (429, 503)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote. `cut` says that it was stopped by the limit, so its last words may be half a sentence."""

    text: str
    cut: bool


class Completer(Protocol):
    """A model that completes prompts. Raises StoreFailed, NotFound, MissingExtra, Usage."""

    @property
    def name(self) -> str: ...
    def complete(self, prompt: str, *, limit_tokens: int) -> Completion: ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where an OpenAI-compatible server is. `here` says that it is on this machine, `host` how people know it."""

    url: str
    host: str
    here: bool
    encrypted: bool


def address_of(url: str) -> Address:
    """The parts of a base address such as https://api.openai.com/v1. Raises Usage for what is none."""
    hint = "--extract-url http://localhost:8000/v1"
    try:
        parts = urlsplit(url.strip())
        name, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Usage(f"expected an address such as https://host/v1: {error}", hint=hint) from error
    if "@" in parts.netloc:
        raise Usage("a key or password does not belong in an address", hint="set MEMOS_API_KEY")
    odd = not (url.strip().isascii() and url.strip().isprintable()) or " " in url.strip()
    wrong = parts.query or parts.fragment or odd
    if parts.scheme not in ("http", "https") or not name or wrong:
        raise Usage(f"expected an address such as https://host/v1, found {url[:200]!r}", hint=hint)
    host = f"[{name}]" if ":" in name else name
    where = f"{host}:{port}" if port else host
    return Address(url.strip().rstrip("/"), where, _is_here(name), parts.scheme == "https")


def _is_here(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def open_completer(
    model: str, *, url: str | None = None, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> Completer:
    """The model behind `url`, or without one the local model in a folder or of a hub id.

    Raises Usage for an address or key that is none, NotFound for a folder that holds no model.
    """
    if not model.strip():
        raise Usage("expected the name of a model, found an empty one")
    if url is None:
        from memos_cli.runtime.model import LocalModel

        return _Local(LocalModel(model))
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise Usage("the key holds characters that no key has (spaces, line breaks or the like)")
    return Endpoint(model, address_of(url), key or None, timeout_seconds)


@dataclass(slots=True)
class _Local:
    """A model on this machine, loaded for the first prompt."""

    model: LocalModel

    @property
    def name(self) -> str:
        """The hub id, or the folder's own name."""
        return self.model.name

    def complete(self, prompt: str, *, limit_tokens: int) -> Completion:
        """What the model writes after the prompt, always its likeliest token. Raises Usage past its window."""
        from memos_cli.runtime.generate import chat_ids, generate

        loaded = self.model.load()
        written = generate(loaded, chat_ids(loaded, prompt), limit_tokens=limit_tokens)
        return Completion(written.text, written.cut)


class _NoRedirects(HTTPRedirectHandler):
    """Text and key go to the address that was agreed on, and nowhere else."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str) -> None:
        fp.close()
        place = urlsplit(newurl)
        raise StoreFailed(
            f"{req.host} answers {code} and points to {place.scheme}://{place.netloc}{place.path}"[:300]
            + "; nothing was sent there",
            hint="give the new address yourself, when you trust it",
        )


@dataclass(slots=True)
class Endpoint:
    """An OpenAI-compatible server: one POST a prompt, no stream, no history."""

    model: str
    address: Address
    key: str | None = field(default=None, repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS
    pauses_seconds: tuple[float, ...] = PAUSES_SECONDS
    _options: dict[str, Any] = field(default_factory=lambda: {"temperature": 0}, repr=False)
    _limit_name: str = field(default="max_tokens", repr=False)

    @property
    def name(self) -> str:
        """The model's name, as the server knows it."""
        return self.model

    def complete(self, prompt: str, *, limit_tokens: int) -> Completion:
        """The server's answer. Raises StoreFailed when there is none within the time or it is not a completion."""
        answer = self._post(prompt, limit_tokens)
        try:
            choice = json.loads(answer)["choices"][0]
            text, reason = choice["message"].get("content"), choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._failed(f"expected a completion in JSON, found {self._quoted(answer)}") from error
        if not isinstance(text, str | None):
            raise self._failed(f"expected a completion that is text, found {type(text).__name__}")
        return Completion(text or "", cut=reason == "length")

    def _post(self, prompt: str, limit_tokens: int) -> bytes:
        """The body of the answer. What the server does not know is left out, and when it is busy it is asked again."""
        pauses = iter(self.pauses_seconds)
        while True:
            try:
                return self._exchange(self._request(prompt, limit_tokens))
            except HTTPError as error:
                with error:
                    said = self._quoted(_read_some(error))
                if error.code == 400 and self._adapt(said):
                    continue
                pause = next(pauses, None) if error.code in _BUSY else None
                if pause is None:
                    raise self._failed(f"answers {error.code}: {said}", hint=_hint(error.code)) from error
                time.sleep(_asked_pause(error.headers.get("Retry-After"), pause))

    def _request(self, prompt: str, limit_tokens: int) -> Request:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            self._limit_name: limit_tokens,
            **self._options,
        }
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"memos/{__version__}"}
        request = Request(f"{self.address.url}/chat/completions", data, headers, method="POST")  # noqa: S310
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        return request

    def _exchange(self, request: Request) -> bytes:
        """One answer, whole. Raises HTTPError for a status that is an error, else StoreFailed."""
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with self._opener().open(request, timeout=self.timeout_seconds) as response:
                return self._read(response, deadline)
        except HTTPError:
            raise
        except TimeoutError as error:
            raise self._late() from error
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._late() from error
            raise self._failed(f"cannot be reached: {error.reason}", hint="is the server running?") from error
        except (HTTPException, OSError) as error:
            raise self._failed(f"broke off: {error or type(error).__name__}") from error

    def _read(self, response: HTTPResponse, deadline: float) -> bytes:
        # A socket's timeout starts anew with every byte, so a trickle is measured by the clock.
        parts: list[bytes] = []
        size = 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise self._late()
            if size > ANSWER_LIMIT_BYTES:
                raise self._failed(f"sends more than {ANSWER_LIMIT_BYTES:,} bytes for one answer")
        expected = response.headers.get("Content-Length", "")
        if expected.isdigit() and size < int(expected):
            raise self._failed(f"broke off after {size} of {expected} bytes")
        return b"".join(parts)

    def _opener(self) -> OpenerDirector:
        # What is sent to this machine must not go round by a proxy elsewhere.
        proxies = [ProxyHandler({})] if self.address.here else []
        return build_opener(_NoRedirects, *proxies)

    def _adapt(self, said: str) -> bool:
        """Whether another form of the request is worth a try: newer models rename one option and refuse another."""
        if self._limit_name == "max_tokens" and "max_completion_tokens" in said:
            self._limit_name = "max_completion_tokens"
            return True
        if "temperature" in said and self._options:
            self._options = {}
            return True
        return False

    def _quoted(self, answer: bytes) -> str:
        """The start of an answer for a message, without the key that some servers repeat."""
        text = answer.decode("utf-8", "replace")
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            text = str(json.loads(text)["error"]["message"])
        if self.key:
            text = text.replace(self.key, "[key]")
        return " ".join(text.split())[:300] or "nothing"

    def _late(self) -> StoreFailed:
        return self._failed(f"gave no whole answer within {self.timeout_seconds:g} seconds")

    def _failed(self, what: str, hint: str | None = None) -> StoreFailed:
        return StoreFailed(f"{self.address.host} {what}", hint)


def _read_some(error: HTTPError) -> bytes:
    try:
        return bytes(error.read(1 << 14))
    except (HTTPException, OSError):
        return b""


def _asked_pause(asked: str | None, pause: float) -> float:
    """Seconds to wait: what the server asks for, within reason."""
    return min(float(asked), LONGEST_PAUSE_SECONDS) if asked and asked.isdigit() else pause


def _hint(code: int) -> str | None:
    if code in (401, 403):
        return "set MEMOS_API_KEY to a key of that server"
    return "check the model's name and the address, which often ends in /v1" if code == 404 else None
