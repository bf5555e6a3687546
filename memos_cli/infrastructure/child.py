"""The program itself as a process of its own: what it told, how it ended, and never longer than it may take.

It has nothing on its stdin and no terminal, so nobody is asked; what it tells on stderr is passed on line by line. It
imports nothing from the folder it runs in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

OUTPUT_LIMIT_BYTES = 16 << 20
_GRACE_SECONDS = 15.0
_TALK_LINES = 20


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. `cut` when it told more than is kept; a signal is 128 and its number, as in a shell."""

    code: int
    out: bytes
    talk: tuple[str, ...]
    seconds: float
    cut: bool = False
    timed_out: bool = False


def call(
    words: Sequence[str],
    *,
    folder: Path,
    home: Path,
    timeout_seconds: float | None,
    to_file: bool,
    say: Callable[[str], None],
) -> Ended:
    """Runs `memos WORDS` in a folder and waits for it. `to_file` tells it that its output goes to a file.

    A command that takes too long is interrupted as by a person, and so is one when this process is.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "memos_cli", *words], cwd=folder, env=_environment(home),
            stdin=subprocess.DEVNULL, stdout=file if to_file else subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        talk: deque[str] = deque(maxlen=_TALK_LINES)
        told = bytearray()
        readers = [threading.Thread(target=_listen, args=(process.stderr, talk, say), daemon=True)]
        if process.stdout is not None:
            readers.append(threading.Thread(target=_read, args=(process.stdout, told), daemon=True))
        for reader in readers:
            reader.start()
        try:
            timed_out = _wait(process, timeout_seconds)
        finally:
            for reader in readers:
                reader.join(_GRACE_SECONDS)
            for stream in filter(None, (process.stdout, process.stderr)):
                stream.close()
        if process.stdout is None:
            file.seek(0)
            told += file.read(OUTPUT_LIMIT_BYTES + 1)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    cut = len(told) > OUTPUT_LIMIT_BYTES
    return Ended(code, bytes(told[:OUTPUT_LIMIT_BYTES]), tuple(talk), time.monotonic() - began, cut, timed_out)


def _environment(home: Path) -> dict[str, str]:
    """This one's environment, with the home and the program where they are from every folder."""
    program = str(Path(__file__).resolve().parents[2])
    beside = [os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    return {
        **os.environ,
        "MEMOS_HOME": str(home.absolute()),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([program, *beside])),
    }


def _wait(process: subprocess.Popen[bytes], timeout_seconds: float | None) -> bool:
    """Waits for the end; whether it had to be brought about."""
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        return True
    except BaseException:
        _end(process)
        raise
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts it, so that it can leave things in order, and kills it if it does not end."""
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _listen(stream: IO[bytes], talk: deque[str], say: Callable[[str], None]) -> None:
    for line in stream:
        text = line.decode("utf-8", "replace").rstrip()[:1_000]
        if text:
            talk.append(text)
            say(text)


def _read(stream: IO[bytes], told: bytearray) -> None:
    while piece := stream.read(1 << 16):
        if len(told) <= OUTPUT_LIMIT_BYTES:  # what comes after is read too, lest the command waits for ever
            told += piece
