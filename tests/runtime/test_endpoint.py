"""Answers as streams, sound and faulty, from a real HTTP server; and the events they are made of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from memos_cli.errors import StoreFailed
from memos_cli.runtime.endpoint import Completion, address_of, open_endpoint
from memos_cli.runtime.events import data_of
from tests.runtime.server import Handler, serving

MESSAGES = [("system", "Be short."), ("user", "Who keeps bees?")]


def event(content: Any = None, *, reason: str | None = None) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}, "finish_reason": reason}]}).encode()


def stream(*events: bytes, kind: str = "text/event-stream") -> Callable[[Handler], None]:
    """An answer of these events."""
    return lambda handler: handler.send(b"".join(each + b"\n\n" for each in events), Content_Type=kind)


def ask(answer: Callable[[Handler], None], *, timeout_seconds: float = 5.0) -> tuple[Completion, list[str]]:
    """The completion by a server that answers so, and what was heard of it."""
    heard: list[str] = []
    with serving(answer) as server:
        endpoint = open_endpoint("small", address_of(server.url), timeout_seconds=timeout_seconds)
        endpoint = replace(endpoint, pauses_seconds=(0.0, 0.0))
        return endpoint.chat(MESSAGES, limit_tokens=9, stream=True, on_text=heard.append), heard


def failure(answer: Callable[[Handler], None], *, timeout_seconds: float = 5.0) -> StoreFailed:
    with pytest.raises(StoreFailed) as caught:
        ask(answer, timeout_seconds=timeout_seconds)
    assert caught.value.hint or "more than" in caught.value.message
    return caught.value


def test_pieces_are_heard_as_they_come() -> None:
    done, heard = ask(stream(event("Ann"), event(" ke\u00e9ps"), event(reason="stop"), b"data: [DONE]"))
    assert (done, heard) == (Completion("Ann ke\u00e9ps", cut=False), ["Ann", " ke\u00e9ps"])
    assert 0 < done.first_seconds <= done.seconds


def test_a_stream_may_end_without_saying_so_once_there_is_a_reason() -> None:
    assert ask(stream(event("Ann"), event(reason="length")))[0] == Completion("Ann", cut=True)


def test_usage_may_come_with_any_event_and_be_nonsense() -> None:
    told = json.loads(event("Ann", reason="stop").removeprefix(b"data: "))
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    assert ask(stream(b"data: " + json.dumps({**told, "usage": usage}).encode(), b"data: [DONE]"))[0].prompt_tokens == 7
    for odd in ("many", {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": 1e99}, [1]):
        done, _ = ask(stream(b"data: " + json.dumps({**told, "usage": odd}).encode(), b"data: [DONE]"))
        assert (done.text, done.prompt_tokens) == ("Ann", None)


def test_halves_of_characters_are_no_text() -> None:
    assert ask(stream(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}', b"data: [DONE]"))[0].text == "a?"


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([event("Ann")], "broke off in the middle"),
        ([], "broke off in the middle"),
        ([event("Ann"), b"data: not json"], "expected a completion in JSON, found not json"),
        ([b"data: [1]"], "expected a completion in JSON"),
        ([b'data: {"choices": [3]}'], "expected a completion in JSON"),
        ([b'data: {"choices": "x"}'], "expected a completion in JSON"),
        ([b"data: " + b"[" * 100_000], "expected a completion in JSON"),
        ([event(["x"])], "text, found list"),
        ([b'data: {"error": "no memory"}'], "answers with an error"),
    ],
)
def test_a_stream_that_is_none(events: list[bytes], said: str) -> None:
    assert said in failure(stream(*events)).message


def test_an_endless_stream_is_not_read_to_its_end() -> None:
    assert "more than" in failure(stream(*[b": " + b"x" * 1000] * 5000)).message


def test_a_trickling_stream() -> None:
    def trickle(handler: Handler) -> None:
        handler.send(b"", length=10_000, Content_Type="text/event-stream")
        for _ in range(12):
            handler.wfile.write(event("a") + b"\n\n")
            time.sleep(0.05)

    started = time.monotonic()
    assert "within 0.3 seconds" in failure(trickle, timeout_seconds=0.3).message
    assert time.monotonic() - started < 2


def test_tries_have_one_deadline() -> None:
    started = time.monotonic()
    error = failure(lambda handler: handler.fail(503, "busy", Retry_After="9"), timeout_seconds=2)
    assert "answers 503: busy" in error.message
    assert time.monotonic() - started < 2


def test_what_hears_may_fail_in_its_own_way() -> None:
    def closed(text: str) -> None:
        raise BrokenPipeError

    with serving(stream(event("Ann"), b"data: [DONE]")) as server:
        endpoint = open_endpoint("small", address_of(server.url))
        with pytest.raises(BrokenPipeError):
            endpoint.chat(MESSAGES, limit_tokens=9, stream=True, on_text=closed)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_data_of_events_however_they_are_cut(size: int) -> None:
    text = (
        b": hi\r\n\r\ndata: one\r\n\r\nevent: x\nid: 3\ndata:two\ndata:  three\n\n\n\ndata: caf\xc3\xa9\n\ndata: lost"
    )
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(data_of(parts)) == ["one", "two\n three", "caf\u00e9"]
