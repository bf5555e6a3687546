"""Real workers of Ray for tests: a cluster of this process, and a way to end one of them in the middle."""

from __future__ import annotations

import gc
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli.errors import MemosError
from memos_cli.infrastructure import engine


@contextmanager
def cluster() -> Iterator[None]:
    """Ray on two processors, which every engine `ray` of this process uses meanwhile."""
    # Ray's workers give way to everybody else, which on a busy machine means that they hardly move
    os.environ.setdefault("RAY_worker_niceness", "0")
    with ExitStack() as held:
        for attempt in range(3):
            try:
                on = held.enter_context(engine.opened("ray", workers=2))
                assert list(on.map(plus, [1, 2], setup=one)) == [2, 3]
                break
            except MemosError as error:
                held.close()
                # a busy machine may be too slow for Ray, which waits half a minute and no longer
                if attempt == 2 or "within half a minute" not in str(error):
                    raise
        yield
    _reap()


@dataclass(frozen=True)
class Head:
    """A cluster of Ray that runs by itself, as one on other machines does."""

    engine: str
    token: str


@contextmanager
def head(**more: str) -> Iterator[Head]:
    """A head node with two processors, which takes clients that show its token; `more` is set in its environment."""
    token = secrets.token_hex(32)
    port = _free_port()
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets are in it, whose names are short
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2", "--port", "0",
        "--node-ip-address", "127.0.0.1", "--ray-client-server-port", str(port), "--include-dashboard", "false",
        "--object-store-memory", str(200 << 20), "--temp-dir", folder, "--disable-usage-stats",
    ]  # fmt: skip
    set_up = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_worker_niceness": "0", **more}
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **set_up}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await(port, process)
        yield Head(f"ray://127.0.0.1:{port}", token)
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when somebody listens at a port."""
    for _ in range(600):
        assert process.poll() is None, process.returncode
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError("Ray's head node does not listen")


def _reap() -> None:
    """Waits for Ray's programs, which it forgets as soon as it has told them to end."""
    for program in [one for one in gc.get_objects() if issubclass(type(one), subprocess.Popen)]:
        program.wait(20)


def workers(of: int | None = None) -> list[int]:
    """The workers of a process's cluster (by default this one's) that were called by an engine."""
    whose = of or os.getpid()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_worker(pid, whose)]


def _is_worker(pid: int, whose: int) -> bool:
    with suppress(OSError):
        called = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Worker")
        return called and _parent(_parent(pid)) == whose
    return False


def folder_of(worker: int) -> Path:
    """Where the cluster of a worker keeps what it needs."""
    said = Path(f"/proc/{_parent(worker)}/cmdline").read_bytes().decode()
    found = re.search(r"/tmp/memos-ray-[^/\0]+", said)
    assert found, said
    return Path(found[0])


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill_one() -> None:
    """Ends a worker without a word, as a node that is lost does."""
    os.kill(workers()[0], signal.SIGKILL)


# What workers are given in tests: functions of plain values, which they import by name.


def one() -> int:
    return 1


def plus(held: int, item: int) -> int:
    return held + item


def pid_after_death(held: int, item: tuple[int, str]) -> int:
    """Dies on item 3, the first time: then there is no file yet."""
    number, mark = item
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * held


def always_dies(held: int, item: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(held: int, item: int) -> int:
    from memos_cli.errors import NotAllowed

    if item == 2:
        raise NotAllowed("no twos", hint="try three")
    return item


def mistaken(held: int, item: int) -> float:
    return 1 / item
