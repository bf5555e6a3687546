"""A model behind an OpenAI-compatible address: messages go to `{url}/chat/completions`, its words come back.

Always its likeliest words, whole or as they are written (server-sent events). What a server does not know of a request
is left out, a busy one is asked again, and all of it has one deadline. A key is used in the header of a request and
nowhere else: it is in no message, no log and no file. Knows nothing of cubes, of memories, or of who agreed to what.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from memos_cli import __version__
from memos_cli.errors import StoreFailed, Usage
from memos_cli.runtime.events import data_of

TIMEOUT_SECONDS = 120.0
ANSWER_LIMIT_BYTES = 4 << 20
# A server that is busy is asked again after so many seconds, unless it says after how many.
PAUSES_SECONDS = (1.0, 5.0)
LONGEST_PAUSE_SECONDS = 30.0
_BUSY = (429, 500, 502, 503, 504)
_DONE = "[DONE]"
_EVENTS = "text/event-stream"
_TRY_V1 = "check the address, which often ends in /v1"

OnText = Callable[[str], None]
Messages = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote. `cut` says that it was stopped by the limit, so its last words may be half a sentence.

    Token counts are the server's own, None where it tells none. `first_seconds` is the time to the first words, or to
    the whole where they came at once.
    """

    text: str
    cut: bool
    prompt_tokens: int | None = None
    tokens: int | None = None
    first_seconds: float = field(default=0.0, compare=False)
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an OpenAI-compatible server is. `here` says that it is on this machine, `host` how people know it."""

    url: str
    host: str
    here: bool
    encrypted: bool


def address_of(url: str, *, flag: str = "--extract-url") -> Address:
    """The parts of a base address such as https://api.openai.com/v1. Raises Usage for what is none, naming `flag`."""
    hint = f"{flag} http://localhost:8000/v1"
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


def open_endpoint(
    model: str, address: Address, *, key: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> Endpoint:
    """The model that the server at `address` knows by this name. Connects to nothing. Raises Usage."""
    if not model.strip():
        raise Usage("expected the name of a model, found an empty one")
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise Usage("the key holds characters that no key has (spaces, line breaks or the like)")
    return Endpoint(model, address, key or None, timeout_seconds)


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
    """An OpenAI-compatible server: one POST an answer, no history."""

    model: str
    address: Address
    key: str | None = field(default=None, repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS
    pauses_seconds: tuple[float, ...] = PAUSES_SECONDS
    # What a server may refuse; once it has, it is left out.
    _options: dict[str, Any] = field(default_factory=lambda: {"temperature": 0}, repr=False)
    _streamed: dict[str, Any] = field(
        default_factory=lambda: {"stream": True, "stream_options": {"include_usage": True}}, repr=False
    )
    _limit_name: str = field(default="max_tokens", repr=False)

    @property
    def name(self) -> str:
        """The model's name, as the server knows it."""
        return self.model

    def complete(self, prompt: str, *, limit_tokens: int) -> Completion:
        """The answer to one message, whole. Raises StoreFailed."""
        return self.chat([("user", prompt)], limit_tokens=limit_tokens)

    def chat(
        self, messages: Messages, *, limit_tokens: int, stream: bool = False, on_text: OnText | None = None
    ) -> Completion:
        """The answer to messages, each a role and a text; `on_text` hears it as it comes, where it is to `stream`.

        Raises StoreFailed when there is none within the time, or it is not a completion.
        """
        start = time.monotonic()
        reading = _Reading(self, start, start + self.timeout_seconds, on_text)
        with self._response(messages, limit_tokens, stream=stream, deadline=reading.deadline) as response:
            return reading.take(response)

    def _response(self, messages: Messages, limit_tokens: int, *, stream: bool, deadline: float) -> HTTPResponse:
        """An answer that has begun. What the server does not know is left out; a busy one is asked again."""
        pauses = iter(self.pauses_seconds)
        while True:
            try:
                return self._opened(self._request(messages, limit_tokens, stream=stream), deadline)
            except HTTPError as error:
                with error:
                    said = self.quoted(_read_some(error))
                if error.code in (400, 422) and self._adapt(said):
                    continue
                pause = next(pauses, None) if error.code in _BUSY else None
                pause = None if pause is None else _asked_pause(error.headers.get("Retry-After"), pause)
                if pause is None or time.monotonic() + pause > deadline:
                    raise self.failed(f"answers {error.code}: {said}", hint=_hint(error.code, said)) from error
                time.sleep(pause)

    def _request(self, messages: Messages, limit_tokens: int, *, stream: bool) -> Request:
        body = {
            "model": self.model,
            "messages": [{"role": role, "content": text} for role, text in messages],
            self._limit_name: limit_tokens,
            **self._options,
            **(self._streamed if stream else {}),
        }
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "User-Agent": f"memos/{__version__}"}
        if stream:
            headers["Accept"] = f"{_EVENTS}, application/json"
        request = Request(f"{self.address.url}/chat/completions", data, headers, method="POST")  # noqa: S310
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        return request

    def _opened(self, request: Request, deadline: float) -> HTTPResponse:
        """Raises HTTPError for a status that is an error, else StoreFailed."""
        left = max(0.001, deadline - time.monotonic())
        try:
            response: HTTPResponse = self._opener().open(request, timeout=left)
            return response
        except HTTPError:
            raise
        except TimeoutError as error:
            raise self.late() from error
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self.late() from error
            raise self.failed(f"cannot be reached: {error.reason}", hint="is the server running?") from error
        except (HTTPException, OSError) as error:
            raise self.broken(error) from error

    def _opener(self) -> OpenerDirector:
        # What is sent to this machine must not go round by a proxy elsewhere.
        proxies = [ProxyHandler({})] if self.address.here else []
        return build_opener(_NoRedirects, *proxies)

    def _adapt(self, said: str) -> bool:
        """Whether another form of the request is worth a try: servers rename one option and refuse others."""
        if self._limit_name == "max_tokens" and "max_completion_tokens" in said:
            self._limit_name = "max_completion_tokens"
            return True
        if "stream" in said and self._streamed:
            # first without the wish to count, then without a stream
            self._streamed = {"stream": True} if "stream_options" in self._streamed else {}
            return True
        if "temperature" in said and self._options:
            self._options = {}
            return True
        return False

    def quoted(self, answer: bytes | str) -> str:
        """The start of an answer for a message, without the key that some servers repeat."""
        text = answer if isinstance(answer, str) else answer.decode("utf-8", "replace")
        with suppress(ValueError, LookupError, TypeError, RecursionError):
            text = str(json.loads(text)["error"]["message"])
        if self.key:
            text = text.replace(self.key, "[key]")
        return " ".join(text.split())[:300] or "nothing"

    def late(self) -> StoreFailed:
        """The error for an answer that takes too long."""
        return self.failed(f"gave no whole answer within {self.timeout_seconds:g} seconds", hint="try again later")

    def broken(self, error: Exception) -> StoreFailed:
        """The error for a connection that ends before its answer."""
        return self.failed(f"broke off: {error or type(error).__name__}", hint="try again")

    def failed(self, what: str, hint: str | None = None) -> StoreFailed:
        """The error that names the server."""
        return StoreFailed(f"{self.address.host} {what}", hint)


@dataclass(slots=True)
class _Reading:
    """One answer that is being read."""

    endpoint: Endpoint
    start: float
    deadline: float
    on_text: OnText | None
    first_seconds: float = 0.0

    def take(self, response: HTTPResponse) -> Completion:
        """The answer, whichever way the server gives it."""
        if response.headers.get_content_type() == _EVENTS:
            return self._events(data_of(self._parts(response)))
        return self._whole(b"".join(self._parts(response)))

    def _parts(self, response: HTTPResponse) -> Iterator[bytes]:
        # A socket's timeout starts anew with every byte, so a trickle is measured by the clock.
        size = 0
        while part := self._part(response):
            size += len(part)
            if time.monotonic() > self.deadline:
                raise self.endpoint.late()
            if size > ANSWER_LIMIT_BYTES:
                raise self._failed(f"sends more than {ANSWER_LIMIT_BYTES:,} bytes for one answer")
            yield part
        expected = response.headers.get("Content-Length", "")
        if expected.isdigit() and size < int(expected):
            raise self._failed(f"broke off after {size} of {expected} bytes", hint="try again")

    def _part(self, response: HTTPResponse) -> bytes:
        try:
            return response.read1(1 << 16)
        except TimeoutError as error:
            raise self.endpoint.late() from error
        except (HTTPException, OSError) as error:
            raise self.endpoint.broken(error) from error

    def _whole(self, answer: bytes) -> Completion:
        told, choice = self._parsed(answer)
        if choice is None or not isinstance(choice.get("message"), dict):
            raise self._no_completion(answer)
        text = self._text(choice["message"])
        if self.on_text and text:
            self.on_text(text)
        return self._completion(text, told.get("usage"), choice.get("finish_reason"))

    def _events(self, events: Iterator[str]) -> Completion:
        text: list[str] = []
        usage = reason = None
        for data in events:
            if data == _DONE:
                break
            told, choice = self._parsed(data)
            usage = told.get("usage") or usage
            if choice is None:
                continue
            reason = choice.get("finish_reason") or reason
            delta = choice.get("delta")
            if isinstance(delta, dict) and (piece := self._text(delta)):
                self.first_seconds = self.first_seconds or time.monotonic() - self.start
                text.append(piece)
                if self.on_text:
                    self.on_text(piece)
        else:
            if reason is None:
                raise self._failed("broke off in the middle of an answer", hint="try again")
        return self._completion("".join(text), usage, reason)

    def _parsed(self, answer: bytes | str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What the server says, and the first choice in it, if any. Raises StoreFailed for an error or for neither."""
        try:
            told = json.loads(answer)
            if told.get("error"):
                raise self._failed(f"answers with an error: {self.endpoint.quoted(answer)}", hint="try again later")
            choices = told.get("choices") or []
            choice = choices[0] if choices else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._no_completion(answer) from error
        if not isinstance(choice, dict | None):
            raise self._no_completion(answer)
        return told, choice

    def _text(self, message: dict[str, Any]) -> str:
        text = message.get("content")
        if not isinstance(text, str | None):
            raise self._failed(f"expected a completion that is text, found {type(text).__name__}", hint=_TRY_V1)
        return text or ""

    def _completion(self, text: str, usage: Any, reason: Any) -> Completion:
        seconds = time.monotonic() - self.start
        text = text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold halves of characters, a table may not
        counts = usage if isinstance(usage, dict) else {}
        return Completion(
            text, reason == "length", _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")),
            self.first_seconds or seconds, seconds,
        )  # fmt: skip

    def _no_completion(self, answer: bytes | str) -> StoreFailed:
        return self._failed(f"expected a completion in JSON, found {self.endpoint.quoted(answer)}", hint=_TRY_V1)

    def _failed(self, what: str, hint: str | None = None) -> StoreFailed:
        return self.endpoint.failed(what, hint)


def _count(told: Any) -> int | None:
    return told if type(told) is int and 0 <= told < 1 << 40 else None


def _read_some(error: HTTPError) -> bytes:
    try:
        return bytes(error.read(1 << 14))
    except (HTTPException, OSError):
        return b""


def _asked_pause(asked: str | None, pause: float) -> float:
    """Seconds to wait: what the server asks for, within reason."""
    return min(float(asked), LONGEST_PAUSE_SECONDS) if asked and asked.isdigit() else pause


def _hint(code: int, said: str) -> str | None:
    if code in (401, 403):
        return "set MEMOS_API_KEY to a key of that server"
    if code == 404:
        return "check the model's name and the address, which often ends in /v1"
    if code in _BUSY:
        return "try again later"
    return "give it less text" if code in (400, 413) and ("context" in said or code == 413) else None
