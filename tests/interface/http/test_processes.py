"""`memos serve` as a process of its own: where it listens, whom it tells, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from memos_cli.infrastructure import clients
from memos_cli.interface.schema import schema_of
from memos_cli.interface.shared import ServerInfo
from tests.conftest import Memos, Start


def environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[3]), "MEMOS_HOME": str(home), "HF_HUB_OFFLINE": "1"}


@contextmanager
def serving(home: Path, *words: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """The process, and what it said when it listened; ended when it has not ended yet."""
    command = [sys.executable, "-m", "memos_cli", "serve", "--json", "--port", "0", "--lazy", *words]
    process = subprocess.Popen(
        command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        yield json.loads(process.stdout.readline()), process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def ask(url: str, key: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as got:
            return got.status, json.loads(got.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.network
def test_a_signal_ends_it_when_what_was_begun_is_done(start: Start, home: Path, work: Path) -> None:
    start.copy(home, work)
    _, key = clients.add(home, clients.bounded("asker", may=("read", "write"), cubes=["team"]))
    with serving(home) as (told, process):
        jsonschema.validate(told, schema_of(ServerInfo))
        assert told["host"] == "127.0.0.1"
        assert ask(f"{told['url']}/v1/cubes/team/query", key, {"text": "passport"})[0] == 200
        assert ask(f"{told['url']}/v1/cubes", "memos_wrong")[0] == 401
        got: list[tuple[int, Any]] = []
        text = "".join(f"- Thought number {number}.\n" for number in range(300))
        writing = threading.Thread(
            target=lambda: got.append(ask(f"{told['url']}/v1/cubes/team/memories", key, {"text": text}))
        )
        writing.start()
        threading.Event().wait(0.2)
        process.send_signal(signal.SIGTERM)
        writing.join()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "Traceback" not in err
    # the signal may have come before the request did; what was begun is done
    assert got[0][0] == 200, got
    assert got[0][1]["added"] == 300


def test_it_does_not_listen_where_others_reach_it_unless_told(home: Path, memos: Memos) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        done = memos("serve", "--host", host)
        assert done.code == 2
        assert "--allow-remote" in done.err
    assert memos("serve", "--rate", "many").code == 2
    assert memos("serve", "none").code == 3
    assert memos("serve", "--model", "./none").code == 3
