"""A real HTTP server in a thread, with answers shaped like OpenAI's, sound and faulty ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Notes each request and lets the test's function answer it."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, dict(self.headers.items()), json.loads(body) if body else None))
        # A client that gives up in the middle is part of some tests.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.server.answer(self)

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None: ...

    def prompt(self) -> str:
        """What was asked."""
        return str(self.server.requests[-1][2]["messages"][0]["content"])

    def send(self, body: bytes, *, status: int = 200, length: int | None = None, **headers: str) -> None:
        """An answer; `length` may promise more than is sent."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def say(self, text: str | None, *, reason: str = "stop") -> None:
        """A completion."""
        message = {"role": "assistant", "content": text}
        self.send(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": reason}]}).encode())

    def fail(self, status: int, message: str, **headers: str) -> None:
        """An error in OpenAI's form."""
        self.send(json.dumps({"error": {"message": message}}).encode(), status=status, **headers)


class Server(ThreadingHTTPServer):
    """Listens on a free port of this machine. `requests` are (path, headers, body) in their order."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def serving(answer: Callable[[Handler], None]) -> Iterator[Server]:
    """A server that answers with `answer` until the block ends."""
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
