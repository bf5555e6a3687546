"""A real S3 server for tests: moto's, as a process of its own, in an environment of its own (`make .servers`).

moto asks for a python-dateutil that others cannot live with, so it is not installed beside memos.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent / ".servers" / "bin" / "moto_server"
SECRET = "hush-hush-hush-4711"
BUCKET = "memories"


@dataclass(frozen=True)
class Bucket:
    """A bucket on the server, and a folder in it that nobody else uses."""

    address: str
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.address, "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip

    def fresh(self) -> Bucket:
        """Another folder."""
        return Bucket(self.address, f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}")

    def store(self) -> Any:
        """The table's folder, to break something in it."""
        from obstore.store import from_url

        return from_url(f"{self.url}/memories.lance")

    def ask(self, path: str, *, method: str = "GET", data: bytes | None = None) -> bytes:
        """An answer of the server itself."""
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.address}{path}", method=method, data=data, headers=plain)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: bytes = answer.read()
            return found


def program() -> str | None:
    """The server's program, None where it is not installed."""
    return str(HERE) if HERE.is_file() else shutil.which("moto_server")


def serve(log: Path) -> Iterator[Bucket]:
    """A server with one bucket, as long as it is needed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program()), "-H", "127.0.0.1", "-p", str(port)]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with open(log, "wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=variables) as process:
        try:
            bucket = Bucket(f"http://127.0.0.1:{port}", "")
            _wait(bucket)
            bucket.ask(f"/{BUCKET}", method="PUT")
            yield bucket
        finally:
            process.terminate()


def _wait(bucket: Bucket) -> None:
    for _ in range(300):
        try:
            bucket.ask("/moto-api/data.json")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError("the S3 server did not start within a minute")
