"""A nest for the tests of this folder, a way to print figures past the capture, and how much of it all is done."""

from __future__ import annotations

import math
import os
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


@pytest.fixture
def scaled() -> Callable[[int], int]:
    """A number of kills, faults, bytes or seconds as it is wished for: MEMOS_TORTURE=0.1 does a tenth of each."""
    share = float(os.environ.get("MEMOS_TORTURE") or 1)
    return lambda number: max(1, math.ceil(number * share))
