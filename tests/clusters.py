"""Real workers of Ray for tests: a cluster of this process, and a way to end one of them in the middle."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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


def _reap() -> None:
    """Waits for Ray's programs, which it forgets as soon as it has told them to end."""
    for program in [one for one in gc.get_objects() if issubclass(type(one), subprocess.Popen)]:
        program.wait(20)


def workers() -> list[int]:
    """The workers of this process's cluster that were called by an engine."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_worker(pid)]


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        called = Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Worker")
        return called and _parent(_parent(pid)) == os.getpid()
    return False


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
