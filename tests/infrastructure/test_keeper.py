"""What one thread begins, keeps and ends, and SIGTERM meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memos_cli.infrastructure.keeper import Keeper, leaving_on_terminate
from tests import clusters


def test_one_thread_begins_and_ends_it_while_the_program_goes_on() -> None:
    threads: list[int] = []
    let = threading.Event()

    def begin() -> None:
        let.wait(10)
        threads.append(threading.get_ident())

    keeper = Keeper(begin, lambda: threads.append(threading.get_ident()))
    assert not threads
    let.set()
    keeper.wait()
    assert len(threads) == 1
    keeper.close()
    assert threads == [threads[0]] * 2
    assert threads[0] != threading.get_ident()
    keeper.close()


def test_what_fails_is_told_to_whoever_waits_and_is_ended_all_the_same() -> None:
    ended = threading.Event()

    def begin() -> None:
        raise TimeoutError("too slow")

    keeper = Keeper(begin, ended.set)
    for _ in range(2):
        with pytest.raises(TimeoutError, match="too slow"):
            keeper.wait()
    assert not ended.is_set()
    keeper.close()
    assert ended.is_set()


def test_a_release_waits_for_nothing() -> None:
    let = threading.Event()
    keeper = Keeper(lambda: None, lambda: let.wait(10) and None)
    keeper.wait()
    assert not keeper.released
    keeper.release()
    assert keeper.released
    let.set()
    keeper.close()


def test_sigterm_ends_as_an_error_does_and_only_meanwhile() -> None:
    with pytest.raises(SystemExit) as left, leaving_on_terminate():
        signal.raise_signal(signal.SIGTERM)
    assert left.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_whoever_has_a_use_for_sigterm_keeps_it() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, where: heard.append(number))
    try:
        with leaving_on_terminate():
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.long
def test_a_command_that_is_terminated_leaves_nothing_of_ray(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("".join(f'{{"text": "Note {n} of the harbour."}}\n' for n in range(200_000)))
    command = [
        sys.executable, "-m", "memos_cli", "ingest", "a.cube", "notes.jsonl", "--embedder", "none", "--engine", "ray",
        "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "MEMOS_HOME": str(tmp_path / "home")}, stderr=subprocess.DEVNULL
    )
    while not (found := clusters.workers(process.pid)):
        assert process.poll() is None
        time.sleep(0.1)
    folder = clusters.folder_of(found[0])
    assert folder.is_dir()
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not folder.exists()
