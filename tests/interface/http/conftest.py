"""An application in this process, and requests to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from memos_cli.console import to_json
from memos_cli.infrastructure import clients
from memos_cli.interface.http.gate import Bounds
from memos_cli.interface.http.serving import Application, Host
from memos_cli.interface.visiting import served
from tests.conftest import Memos, Start

# A crowded machine is no reason to fail: what takes long is asked for where that is the test.
FREE = Bounds(timeout_seconds=600.0)
NOTES = "- The passport is in the drawer.\n- Ana lives in Lindau.\n- Bob plays chess on Mondays.\n"


@dataclass(frozen=True)
class Site:
    """An application with one client's key."""

    app: Application
    http: TestClient
    key: str

    def get(self, path: str, **more: Any) -> Any:
        return self.http.get(path, headers={"Authorization": f"Bearer {self.key}"}, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return self.http.post(path, headers={"Authorization": f"Bearer {self.key}"}, json=body or {}, **more)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Two named cubes without vectors, one of them with memories under two labels."""

    def build(memos: Memos) -> None:
        Path("notes.md").write_text(NOTES)
        Path("pay.md").write_text("- The salary of Ana is secret.\n")
        Path("diary.md").write_text("- The diary says nothing.\n")
        assert memos("ingest", "team", "notes.md", "--embedder", "none").code == 0
        assert memos("ingest", "team", "pay.md", "--sensitivity", "confidential").code == 0
        assert memos("ingest", "diary", "diary.md", "--embedder", "none").code == 0

    return Start.make(tmp_path_factory.mktemp("served"), cache, build)


@pytest.fixture
def site(start: Start, home: Path, work: Path) -> Callable[..., Any]:
    """Serves the cubes to a client with these bounds: `with site(may=("read",), cubes=["team"]) as one: ...`."""
    start.copy(home, work)

    @contextmanager
    def serving(
        *, name: str = "asker", bounds: Bounds = FREE, model: str = "nano", named: tuple[str, ...] = (), **more: Any
    ) -> Iterator[Site]:
        given = {"may": ("read", "write"), "cubes": ["*"], **more}
        _, key = clients.add(home, clients.bounded(name, **given))
        app = Application(Host(home, served(home, named), model, to_json, lazy=True), bounds)
        with TestClient(app.asgi(), raise_server_exceptions=False) as http:
            yield Site(app, http, key)

    return serving


def trail_of(home: Path, cube: str) -> list[dict[str, Any]]:
    path = home / "cubes" / f"{cube}.cube" / "log" / "access.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
