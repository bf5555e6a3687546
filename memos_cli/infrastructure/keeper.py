"""A thread that begins something, keeps it, and ends it, while the program goes on.

What Ray starts on a machine dies with the thread that started it (Linux tells children of a thread's end, not of a
process's), so no thread that ends before may begin it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType


class Keeper:
    """Begins at once. What fails is raised to whoever waits for it."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin, self._end = begin, end
        self._there: Future[None] = Future()
        self._enough = threading.Event()
        # a program that is killed by a second Ctrl-C does not wait for it
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits until it is there. Raises what it failed with."""
        self._there.result()

    @property
    def released(self) -> bool:
        """Whether it may end, or has."""
        return self._enough.is_set()

    def release(self) -> None:
        """Lets it end, meanwhile."""
        self._enough.set()

    def close(self) -> None:
        """Lets it end, and waits for that."""
        self.release()
        self._thread.join()

    def _keep(self) -> None:
        try:
            self._begin()
            self._there.set_result(None)
        except BaseException as error:  # whatever it is, it is theirs who wait
            self._there.set_exception(error)
        self._enough.wait()
        self._end()


@contextmanager
def leaving_on_terminate() -> Iterator[None]:
    """While it lasts SIGTERM ends the program as an error does, so that what was begun is ended too.

    Where somebody has a use for the signal, or another thread asks, all stays as it is.
    """
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, where: FrameType | None) -> None:
    raise SystemExit(128 + number)
