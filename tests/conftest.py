"""What the tests share: a home of their own, and the whole program run in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memos_cli import cli

# Two workers on two cores: torch's own threads would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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
    app = cli.build()
    runner = CliRunner()

    def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Done:
        result = runner.invoke(app, [str(argument) for argument in arguments], input=stdin, prog_name="memos")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run
