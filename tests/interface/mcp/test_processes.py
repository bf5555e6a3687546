"""The running process: over pipes and over HTTP, its ends, its wire, and its door."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from memos_cli.infrastructure import door
from tests.conftest import Memos, Start
from tests.interface.mcp.talking import environment, over_http, over_pipes, serving, tool, words
from tests.interface.mcp.test_server import trail

pytestmark = pytest.mark.network

HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "hand", "version": "1"}},
}  # fmt: skip
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def call(number: int, name: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def start(home: Path, *words: str) -> subprocess.Popen[bytes]:
    """`memos mcp WORDS`, spoken to by hand."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "memos_cli", "mcp", *words]
    return subprocess.Popen(command, env=environment(home), stdin=pipe, stdout=pipe, stderr=pipe)


def say(process: subprocess.Popen[bytes], *messages: dict[str, Any] | bytes) -> None:
    assert process.stdin
    for message in messages:
        process.stdin.write(message if isinstance(message, bytes) else json.dumps(message).encode())
        process.stdin.write(b"\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes], number: int) -> dict[str, Any]:
    """The answer to a request; every line before it is a message of the protocol too."""
    assert process.stdout
    for line in process.stdout:
        said = json.loads(line)
        assert said["jsonrpc"] == "2.0"
        if said.get("id") == number:
            return dict(said)
    raise AssertionError(f"no answer to {number}: {process.stderr.read().decode() if process.stderr else ''}")


@pytest.mark.long
def test_over_pipes_with_the_clients_own_start(at_home: Path) -> None:
    listed, found, denied = over_pipes(
        at_home, lambda client: client.list_tools(), tool("recall", query="where is the passport?"),
        tool("forget", subject="passport"), words=("team",),
    )  # fmt: skip
    assert [one.name for one in listed.tools] == ["recall", "answer", "list", "audit"]
    assert found.structured_content["hits"][0]["text"] == "The passport is in the drawer."
    assert denied.is_error
    assert trail(at_home)[-1]["actor"]["client"] == "local"


def test_only_the_protocol_is_on_stdout_and_the_end_of_stdin_ends_it_well(at_home: Path) -> None:
    process = start(at_home, "team", "--write")
    say(process, HELLO)
    assert hear(process, 1)["result"]["serverInfo"]["name"] == "memos"
    say(process, READY, b"not json", b"\xff\xfe", b'{"jsonrpc":"2.0","id":"\\ud800","method":"x"}', b"[" * 5000, b"")
    say(process, b"x" * (5 << 20), call(2, "remember", text="Cleo plays chess."))
    assert hear(process, 2)["result"]["structuredContent"]["added"] == 1
    say(process, call(3, "recall", query="chess", cube="../../etc"))
    assert hear(process, 3)["result"]["isError"] is True
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())
    assert b"Traceback" not in err
    assert b"serving team to client 'local', which may read, write" in err


@pytest.mark.long
@pytest.mark.many(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals, at_home: Path) -> None:
    process = start(at_home, "team")
    say(process, HELLO)
    hear(process, 1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b""), err
    assert b"Traceback" not in err


def test_what_cannot_be_served_is_told_at_the_start(at_home: Path, work: Path, memos: Memos) -> None:
    assert memos("mcp", "nowhere").code == 3
    assert memos("mcp", "team", "--client", "nobody").code == 3
    assert memos("mcp", "team", "--port", "80").code == 2
    assert memos("mcp", "team", "--client", "x", "--write").code == 2
    assert memos("mcp", "--http", "--write").code == 2
    assert memos("mcp", "../no/such.cube").code == 3
    Path("notes.md").write_text("- No cube.\n")
    Path("empty.cube").mkdir()
    for odd in ("./notes.md", "./empty.cube", "."):
        done = memos("mcp", odd)
        assert (done.code in (2, 3, 4), "  try: " in done.err) == (True, True), (odd, done.err)
    assert memos("mcp", "team", "--model", "./no/model").code == 3
    open_to_all = memos("mcp", "--http", "--host", "0.0.0.0")
    assert (open_to_all.code, "--allow-host" in open_to_all.err) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = memos("mcp", "--http", "--port", str(taken.getsockname()[1]))
    assert (done.code, done.out) == (1, "")
    assert "cannot be listened to" in done.err


@pytest.fixture(scope="module")
def served(noted: Start, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A home whose cubes are served over HTTP, and the address."""
    place = tmp_path_factory.mktemp("served")
    home, work = place / "home", place / "work"
    home.mkdir()
    work.mkdir()
    (home / "cache").symlink_to(cache)
    noted.copy(home, work)
    with serving(home) as url:
        yield home, url


@pytest.fixture
def new(served: tuple[Path, str], memos: Memos, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a client of that home: its key."""
    monkeypatch.setenv("MEMOS_HOME", str(served[0]))
    return lambda *words: memos("clients", "new", *words).lines[0]


def test_over_http_a_key_tells_who_asks(served: tuple[Path, str], new: Any, memos: Memos) -> None:
    home, url = served
    reads, writes = new("reader", "--cube", "team"), new("editor", "--cube", "team", "--may", "read,write")
    listed, found, other, denied = over_http(
        url, reads, lambda client: client.list_tools(), tool("recall", query="where is the passport?"),
        tool("recall", query="code of the safe", cube="private"), tool("remember", text="no"),
    )  # fmt: skip
    assert [one.name for one in listed.tools] == ["recall", "answer", "list", "audit"]
    assert found.structured_content["hits"][0]["text"] == "The passport is in the drawer."
    assert other.is_error
    assert denied.is_error
    assert "4711" not in words(other)
    assert trail(home)[-1]["actor"]["client"] == "reader"
    (made,) = over_http(url, writes, tool("remember", text="Dora likes tea."))
    assert made.structured_content["added"] == 1
    assert trail(home)[-1]["actor"]["client"] == "editor"
    assert memos("clients", "revoke", "editor").code == 0
    assert ask(url, writes).status_code == 401


def ask(url: str, key: str | None, body: bytes | None = None, **headers: str) -> httpx2.Response:
    """One request by hand."""
    sent = {"accept": "application/json, text/event-stream", "content-type": "application/json", **headers}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    return httpx2.post(url, content=json.dumps(HELLO).encode() if body is None else body, headers=sent, timeout=30)


def test_who_has_no_key_or_a_wrong_one_gets_nothing_and_is_in_the_log(served: tuple[Path, str], new: Any) -> None:
    home, url = served
    key = new("asker", "--cube", "team")
    before = len(list(door.entries(home)))
    wrong = [None, "memos_", "memos_" + "x" * 43, key[:-1], key + "x", key.upper()]
    for one in wrong:
        response = ask(url, one)
        assert response.status_code == 401, one
        assert "team" not in response.text
    assert ask(url, key).status_code == 200
    lines = list(door.entries(home))[before:]
    assert [(line["verb"], line["outcome"]) for line in lines] == [("enter", "denied")] * len(wrong)
    assert key not in (home / "log" / "door.jsonl").read_text()


def test_a_page_of_another_site_cannot_ask(served: tuple[Path, str], new: Any) -> None:
    _, url = served
    key = new("browser", "--cube", "team")
    assert ask(url, key, host="memory.example.org").status_code == 421
    assert ask(url, key, origin="https://example.org").status_code == 403
    assert ask(url, key, origin=url.removesuffix("/mcp")).status_code == 200
    assert httpx2.get(url.removesuffix("/mcp") + "/../../etc/passwd", timeout=30).status_code == 404


def test_odd_requests_are_refused_without_harm(served: tuple[Path, str], new: Any) -> None:
    _, url = served
    key = new("odd", "--cube", "team")
    assert ask(url, key, b"x" * (5 << 20)).status_code == 413
    for body in (b"", b"{", b"[" * 100_000, b"\xff", b"[]", b"null", b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}'):
        assert 400 <= ask(url, key, body).status_code < 500
    (found,) = over_http(url, key, tool("recall", query="passport"))
    assert not found.is_error


def test_a_session_is_of_the_key_that_began_it(served: tuple[Path, str], new: Any) -> None:
    _, url = served
    mine, yours = new("mine", "--cube", "team"), new("yours", "--cube", "private")
    session = ask(url, mine).headers["mcp-session-id"]
    there = {"mcp-session-id": session, "mcp-protocol-version": "2025-06-18"}
    body = json.dumps(call(2, "recall", query="passport")).encode()
    assert "drawer" in ask(url, mine, body, **there).text
    taken = ask(url, yours, body, **there)
    assert taken.status_code == 404
    assert "drawer" not in taken.text
