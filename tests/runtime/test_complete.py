"""Completions from a real HTTP server on this machine, sound and faulty, and from small real decoders."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from memos_cli.errors import MemosError, NotFound, StoreFailed, Usage
from memos_cli.runtime.complete import Completion, Endpoint, address_of, open_completer
from tests.runtime.decoders import save_random, save_reciting
from tests.runtime.server import Handler, serving

KEY = "sk-never-to-be-seen"
ASK = "What is there to remember?"


def ask(answer: Callable[[Handler], None], *, timeout_seconds: float = 5.0) -> Completion:
    """The completion of ASK by a server that answers so, asked without waiting between tries."""
    with serving(answer) as server:
        completer = open_completer("small", url=server.url, key=KEY, timeout_seconds=timeout_seconds)
        assert isinstance(completer, Endpoint)
        return replace(completer, pauses_seconds=(0.0, 0.0)).complete(ASK, limit_tokens=50)


def failure(answer: Callable[[Handler], None], *, timeout_seconds: float = 5.0) -> MemosError:
    with pytest.raises(StoreFailed) as caught:
        ask(answer, timeout_seconds=timeout_seconds)
    assert KEY not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.message.startswith("127.0.0.1:")
    return caught.value


def test_a_prompt_is_sent_as_the_interface_asks() -> None:
    with serving(lambda handler: handler.say("Ann keeps bees.")) as server:
        completer = open_completer("small", url=server.url + "/", key=KEY)
        assert completer.name == "small"
        assert completer.complete(ASK, limit_tokens=50) == Completion("Ann keeps bees.", cut=False)
        [(path, headers, body)] = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "model": "small", "messages": [{"role": "user", "content": ASK}], "max_tokens": 50, "temperature": 0
    }  # fmt: skip


def test_without_a_key_none_is_sent() -> None:
    with serving(lambda handler: handler.say("x")) as server:
        open_completer("small", url=server.url).complete(ASK, limit_tokens=5)
        assert "Authorization" not in server.requests[0][1]


def test_opening_connects_to_nothing() -> None:
    with serving(lambda handler: handler.say("x")) as server:
        open_completer("small", url=server.url, key=KEY)
        assert server.requests == []


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(open_completer("small", url="https://api.example.com/v1", key=KEY))


def test_an_answer_cut_by_the_limit_says_so() -> None:
    assert ask(lambda handler: handler.say("Ann keeps", reason="length")).cut


def test_a_refusal_is_an_empty_answer() -> None:
    assert ask(lambda handler: handler.say(None)) == Completion("", cut=False)


@pytest.mark.parametrize(
    ("status", "hint"), [(500, "try again later"), (401, "set MEMOS_API_KEY to a key of that server"), (400, None)]
)
def test_an_error_of_the_server_is_told_without_the_key(status: int, hint: str | None) -> None:
    error = failure(lambda handler: handler.fail(status, f"broken; your key was {KEY}"))
    assert f"answers {status}: broken; your key was [key]" in error.message
    assert error.hint == hint


def test_an_unknown_model_or_path_has_a_hint() -> None:
    error = failure(lambda handler: handler.send(b"<html>no such page</html>", status=404))
    assert "answers 404: <html>no such page</html>" in error.message
    assert error.hint
    assert "/v1" in error.hint


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": "none"}',
        b"\xff\xfe\x00",
        b'{"choices": [{"message": {"content": "Ann k',
        b'{"choices": ' + b"[" * 100_000,
    ],
)
def test_garbage_is_no_completion(body: bytes) -> None:
    assert "expected a completion in JSON" in failure(lambda handler: handler.send(body)).message


def test_an_answer_of_another_kind_is_no_completion() -> None:
    body = json.dumps({"choices": [{"message": {"content": [{"type": "text"}]}}]}).encode()
    assert "text, found list" in failure(lambda handler: handler.send(body)).message


def test_a_truncated_answer() -> None:
    error = failure(lambda handler: handler.send(b'{"choices": [', length=500))
    assert "broke off after 13 of 500 bytes" in error.message


def test_a_connection_that_is_dropped() -> None:
    assert "broke off" in failure(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)).message


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    assert "more than" in failure(lambda handler: handler.send(b" " * (5 << 20))).message


def test_a_server_that_says_nothing() -> None:
    error = failure(lambda handler: time.sleep(0.6), timeout_seconds=0.2)
    assert "gave no whole answer within 0.2 seconds" in error.message


def test_a_server_that_trickles() -> None:
    def trickle(handler: Handler) -> None:
        handler.send(b"", length=1000)
        for _ in range(12):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    started = time.monotonic()
    assert "within 0.3 seconds" in failure(trickle, timeout_seconds=0.3).message
    assert time.monotonic() - started < 2


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StoreFailed, match="cannot be reached: .*refused"):
        open_completer("small", url=f"http://127.0.0.1:{port}/v1").complete(ASK, limit_tokens=5)


def test_a_busy_server_is_asked_again() -> None:
    answers = iter([429, 503, 200])

    def busy(handler: Handler) -> None:
        status = next(answers)
        handler.say("Ann keeps bees.") if status == 200 else handler.fail(status, "busy", Retry_After="0")

    assert ask(busy).text == "Ann keeps bees."


def test_a_server_that_stays_busy_is_given_up() -> None:
    assert "answers 429: busy" in failure(lambda handler: handler.fail(429, "busy")).message


def test_options_a_newer_model_refuses_are_left_out() -> None:
    def picky(handler: Handler) -> None:
        body = handler.server.requests[-1][2]
        if "max_tokens" in body:
            handler.fail(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        elif "temperature" in body:
            handler.fail(400, "Unsupported value: 'temperature' does not support 0 with this model.")
        else:
            handler.say(str(body["max_completion_tokens"]))

    assert ask(picky).text == "50"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_neither_key_nor_text_follows_a_redirect(status: int) -> None:
    with serving(lambda handler: handler.say("stolen")) as other:
        place = other.url.replace("127.0.0.1", "localhost") + "/chat/completions"
        error = failure(lambda handler: handler.send(b"", status=status, Location=place))
        assert other.requests == []
    assert f"answers {status} and points to http://localhost" in error.message


def test_what_stays_here_goes_round_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda handler: handler.say("from a proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask(lambda handler: handler.say("from here")).text == "from here"
        assert proxy.requests == []


@pytest.mark.parametrize(
    ("url", "host", "here", "encrypted"),
    [
        ("https://api.openai.com/v1", "api.openai.com", False, True),
        ("http://localhost:8000/v1/", "localhost:8000", True, False),
        ("http://127.0.0.1:1234", "127.0.0.1:1234", True, False),
        ("http://127.9.9.9", "127.9.9.9", True, False),
        ("http://[::1]:8080/v1", "[::1]:8080", True, False),
        ("http://192.168.1.5:11434/v1", "192.168.1.5:11434", False, False),
        ("https://localhost.example.com/v1", "localhost.example.com", False, True),
        ("http://0.0.0.0:80/v1", "0.0.0.0:80", False, False),
        ("HTTPS://LOCALHOST/v1", "localhost", True, True),
    ],
)
def test_where_an_address_is(url: str, host: str, here: bool, encrypted: bool) -> None:
    address = address_of(url)
    assert (address.host, address.here, address.encrypted) == (host, here, encrypted)


@pytest.mark.parametrize(
    "url",
    [
        "", "api.openai.com/v1", "ftp://host/v1", "file:///etc/passwd", "http://", "http://host:port/v1",
        "http://host/v1?key=1", "http://host/v1#a", "http://user:secret@host/v1", "http://host/a b", "http://[::1/v1",
        "http://host/\x01", "http://höst/v1", "http://host:99999/v1", "http://a\nb/v1",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(Usage) as caught:
        address_of(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("key", ["a b", "a\r\nHost: x", "schlüssel", "a\x00"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(Usage) as caught:
        open_completer("small", url="http://localhost/v1", key=key)
    assert key not in caught.value.message


def test_a_model_has_a_name() -> None:
    with pytest.raises(Usage):
        open_completer(" ", url="http://localhost/v1")


@pytest.mark.parametrize("chat", [False, True])
def test_a_local_model_writes_its_likeliest_tokens(tmp_path: Path, chat: bool) -> None:
    import torch

    tokenizer, model = save_random(tmp_path / "tiny", chat=chat)
    (tmp_path / "tiny" / "generation_config.json").write_text('{"do_sample": true, "temperature": 5.0}')
    text = f"<s>{ASK}</s>" if chat else ASK
    ids = torch.tensor([tokenizer(text, add_special_tokens=not chat)["input_ids"]])
    with torch.inference_mode():
        for _ in range(12):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    completer = open_completer(str(tmp_path / "tiny"))
    expected = tokenizer.decode(ids[0, -12:], skip_special_tokens=True)
    assert completer.name == "tiny"
    assert completer.complete(ASK, limit_tokens=12) == Completion(expected, cut=True)


def test_a_local_model_stops_at_its_end(tmp_path: Path) -> None:
    save_reciting(tmp_path / "reciter", ["- Ann keeps bees."], after="\nFacts:")
    completion = open_completer(str(tmp_path / "reciter")).complete("What is there?\nFacts:", limit_tokens=40)
    assert completion == Completion("\n- Ann keeps bees.", cut=False)


def test_a_prompt_past_the_window_of_a_local_model(tmp_path: Path) -> None:
    save_random(tmp_path / "tiny", window=64)
    with pytest.raises(Usage, match="tiny takes 64 tokens; this needs .* tokens of prompt and 40 of answer"):
        open_completer(str(tmp_path / "tiny")).complete(ASK * 20, limit_tokens=40)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no config.json"):
        open_completer(str(tmp_path))
    with pytest.raises(NotFound, match="no config.json"):
        open_completer("./no-such-folder")


def test_weights_that_are_not_safetensors_are_not_read(tmp_path: Path) -> None:
    import torch

    _, model = save_random(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "tiny" / "pytorch_model.bin")
    with pytest.raises(NotFound, match="safetensors"):
        open_completer(str(tmp_path / "tiny")).complete(ASK, limit_tokens=5)


def test_a_model_with_code_of_its_own_is_not_read(tmp_path: Path) -> None:
    save_random(tmp_path / "tiny")
    config = tmp_path / "tiny" / "config.json"
    told = json.loads(config.read_text())
    told |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    config.write_text(json.dumps(told))
    (tmp_path / "tiny" / "own.py").write_text("raise SystemExit('this code ran')\n")
    with pytest.raises(NotFound):
        open_completer(str(tmp_path / "tiny")).complete(ASK, limit_tokens=5)
