"""A nest for the tests of this folder, and a way to print figures past the capture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torture.nest import Nest


@pytest.fixture
def nest(home: Path) -> Iterator[Nest]:
    """A process to fork from, with the test's own home."""
    opened = Nest(home)
    yield opened
    opened.close()


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line of figures, whatever pytest captures."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", flush=True)  # noqa: T201

    return say
