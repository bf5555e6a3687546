"""What the tests share: a home of their own, and the whole program run in this process."""

from __future__ import annotations

import functools
import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from compileall import compile_dir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

import memos_cli
from memos_cli import cli

# Two workers on two cores: torch's own threads would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What a shell starts in its background passes over Ctrl-C, and so does all that is started below it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What asserts become is kept for the next run, as it is where nothing is said of byte code.
sys.dont_write_bytecode = False
# Most of what a process of tests has in memory are libraries that stay: they are gone through for garbage seldom.
gc.set_threshold(20_000)
# Cubes are synced at every step, thousands of times in all: where there is room in memory no disk is waited for.
MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 << 30
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@dataclass(frozen=True)
class Done:
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """The one line of JSON that was printed."""
        (line,) = self.lines
        return json.loads(line)


Memos = Callable[..., Done]


def ok(done: Done) -> Done:
    """The same, which ended well."""
    assert done.code == 0, (done.out, done.err)
    return done


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedder's cache, made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def home(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A MEMOS_HOME of the test's own, set for this process and those it starts."""
    place = tmp_path / "home"
    place.mkdir()
    (place / "cache").symlink_to(cache)
    monkeypatch.setenv("MEMOS_HOME", str(place))
    return place


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def memos(home: Path, work: Path) -> Memos:
    """Runs the program: `memos("ingest", "a.cube", "notes.md")` gives code, out and err."""
    return runner()


def runner() -> Memos:
    """Runs the program under the home and in the folder that are the current ones."""
    inner = CliRunner()

    def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Done:
        words = [str(argument) for argument in arguments]
        # as `cli.main` does: to build all commands takes longer than most work
        asked = next((word for word in words if not word.startswith("-")), "")
        program = _program(asked if asked in cli.COMMANDS else None)
        with inner.isolation(input=stdin) as (out, err, _):
            try:
                program.main(words, prog_name="memos")
            except SystemExit as end:
                code = end.code or 0
            sys.stdout.flush()
            sys.stderr.flush()
            assert isinstance(code, int)
            return Done(code, *(stream.getvalue().decode("utf-8", "replace") for stream in (out, err)))

    return run


@functools.cache
def _program(only: str | None) -> TyperCommand | TyperGroup:
    found = get_command(cli.build(only))
    assert isinstance(found, TyperCommand | TyperGroup)
    return found


@dataclass(frozen=True)
class Start:
    """What several tests begin with, made once by the program itself: a home and a folder, to be copied."""

    place: Path

    @classmethod
    def make(cls, place: Path, cache: Path, build: Callable[[Memos], None]) -> Start:
        """Has `build` run the program in a new home and folder."""
        home, work = place / "home", place / "work"
        home.mkdir()
        work.mkdir()
        (home / "cache").symlink_to(cache)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MEMOS_HOME", str(home))
            patch.chdir(work)
            build(runner())
        return cls(place)

    def copy(self, home: Path, work: Path) -> None:
        """The same for one test, which may change all of it."""
        away = shutil.ignore_patterns("cache")
        shutil.copytree(self.place / "home", home, symlinks=True, dirs_exist_ok=True, ignore=away)
        shutil.copytree(self.place / "work", work, symlinks=True, dirs_exist_ok=True)


Build = Callable[[Memos], object]
Begin = Callable[[Build], None]


@pytest.fixture(scope="session")
def starts(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Callable[[Build], Start]:
    """What a function has the program make, made when it is first asked for."""
    return functools.cache(lambda build: Start.make(tmp_path_factory.mktemp("start"), cache, build))


@pytest.fixture
def begin(starts: Callable[[Build], Start], home: Path, work: Path) -> Begin:
    """Puts what a function has the program make into the test's home and folder: `begin(three_notes)`."""
    return lambda build: starts(build).copy(home, work)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a parametrised test with the mark `many(keep)`, so many stay in the fast suite and the others are `long`."""
    alike: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("many"):
            assert "[" in item.nodeid, f"{item.nodeid}: the mark `many` is for parametrised tests"
            alike.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for found in alike.values():
        mark = found[0].get_closest_marker("many")
        assert mark is not None
        (keep,) = mark.args
        assert keep > 0, f"{found[0].nodeid}: the fast suite keeps some of each"
        kept = {number * len(found) // keep for number in range(keep)}
        for number, item in enumerate(found):
            if number not in kept:
                item.add_marker("long")


def pytest_configure(config: pytest.Config) -> None:
    """Byte code for the program, once, as installing it makes: processes that tests start need not compile it."""
    if not hasattr(config, "workerinput"):
        compile_dir(Path(memos_cli.__file__).parent, quiet=2)
