"""A model server as a program of its own: `python -m tests.runtime.model_server LOG` prints its address and serves.

It speaks OpenAI's protocol, whole and as a stream. The name of the model that is asked for says how it behaves; each
request becomes a line of JSON in LOG. Standard library only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANSWER = "The code is 4711 [1]."
USAGE = {"prompt_tokens": 321, "completion_tokens": 9, "total_tokens": 330}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log: Path

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = {"path": self.path, "key": self.headers.get("Authorization"), "body": body}
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(seen) + "\n")
        tries = sum(json.loads(line)["body"]["model"] == body["model"] for line in self.log.read_text().splitlines())
        self._behave(body, body["model"], tries)

    def _behave(self, body: dict[str, Any], model: str, tries: int) -> None:
        if model == "busy" and tries < 3:
            self._send(429 if tries == 1 else 502, {"error": {"message": "busy"}}, retry="0")
        elif model == "down":
            self._send(500, {"error": {"message": "out of order"}}, retry="0")
        elif model == "locked":
            self._send(401, {"error": {"message": f"wrong key {self.headers.get('Authorization')}"}})
        elif model == "small":
            self._send(400, {"error": {"message": "the maximum context length is 16 tokens"}})
        elif model == "unknown":
            self._stream(["unk", "nown"])
        elif model == "page":
            self._raw(200, "text/html", b"<html>a page</html>")
        elif model == "picky" and "stream_options" in body:
            self._send(400, {"error": {"message": "unknown field stream_options"}})
        elif model == "stubborn" and "stream" in body:
            self._send(400, {"error": {"message": "stream is not supported"}})
        elif model in ("plain", "stubborn"):
            message = {"role": "assistant", "content": ANSWER}
            self._send(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE})
        else:
            self._stream(["The code", " is", " 4711", " [1]", "."], model)

    def _stream(self, pieces: list[str], model: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        end = "\r\n" if model == "windows" else "\n"
        self._chunk(f": a comment{end}{end}" + self._event({"role": "assistant", "content": None}, end=end))
        for piece in pieces:
            if model == "slow":
                time.sleep(0.25)
            if model == "stops" and piece == " 4711":
                self.close_connection = True
                return
            if model == "fails" and piece == " 4711":
                self._chunk('data: {"error": {"message": "out of memory"}}\n\n')
            self._chunk(self._event({"content": piece}, end=end))
        self._chunk(self._event({}, reason="length" if model == "cut" else "stop", end=end))
        if model != "uncounted":
            self._chunk(f"data: {json.dumps({'choices': [], 'usage': USAGE})}{end}{end}")
        self._chunk(f"data: [DONE]{end}{end}")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, delta: dict[str, Any], *, reason: str | None = None, end: str) -> str:
        return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': reason}], 'usage': None})}{end}{end}"

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()

    def _send(self, status: int, value: dict[str, Any], *, retry: str | None = None) -> None:
        self._raw(status, "application/json", json.dumps(value).encode(), retry=retry)

    def _raw(self, status: int, kind: str, body: bytes, *, retry: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if retry:
            self.send_header("Retry-After", retry)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class Process:
    """A running server: its base address, and what it was asked."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").removesuffix("/v1")

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@contextmanager
def running(log: Path) -> Iterator[Process]:
    """The server in a process of its own, until the block ends."""
    command = [sys.executable, "-m", "tests.runtime.model_server", str(log)]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout
        try:
            yield Process(process.stdout.readline().strip(), log)
        finally:
            process.terminate()


def main() -> None:
    """Serves until it is ended."""
    _Handler.log = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}/v1\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
