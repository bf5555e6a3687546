"""Ctrl-C as something that is told of: it ends the work that is being done, and never what tells of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether a Ctrl-C has come. `with interruption:` is work that it ends, by a KeyboardInterrupt; one that came
    before ends it at once. Outside such work it is only remembered, so that a line is not cut in half."""

    def __init__(self) -> None:
        self.came = False
        self._working = False

    def __enter__(self) -> None:
        self._working = True
        if self.came:
            self._working = False
            raise KeyboardInterrupt

    def __exit__(self, *raised: object) -> None:
        self._working = False

    def take(self, number: int, frame: FrameType | None) -> None:
        """The signal; a second one changes nothing, for the first one ends all there is to end."""
        self.came = True
        if self._working:
            self._working = False
            raise KeyboardInterrupt


@contextmanager
def caught() -> Iterator[Interruption]:
    """Every Ctrl-C of the block, unless this process was told to pass over them."""
    one = Interruption()
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if deaf or threading.current_thread() is not threading.main_thread():
        yield one
        return
    before = signal.signal(signal.SIGINT, one.take)
    try:
        yield one
    finally:
        signal.signal(signal.SIGINT, before)
