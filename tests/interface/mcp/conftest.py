"""A home with cubes, made once for all tests of the protocol and copied for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Memos, Start

NOTES = (
    "# Team\n\n- The passport is in the drawer.\n- The home town of Ana is Lindau.\n- Ben may roll back a release.\n"
)


@pytest.fixture(scope="session")
def noted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Start:
    """Cubes by name: `team`, and `private`, of which nobody else is told."""

    def build(memos: Memos) -> None:
        Path("notes.md").write_text(NOTES)
        Path("secret.md").write_text("- The code of the safe is 4711.\n")
        assert memos("ingest", "team", "notes.md", "--embedder", "none").code == 0
        assert memos("ingest", "private", "secret.md", "--embedder", "none").code == 0

    return Start.make(tmp_path_factory.mktemp("noted"), cache, build)


@pytest.fixture
def at_home(noted: Start, home: Path, work: Path) -> Path:
    """A home with these cubes."""
    noted.copy(home, work)
    return home
