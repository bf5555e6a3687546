"""People for tests of who may see what: homes with keys of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from memos_cli.infrastructure.identity import me
from tests.conftest import Done, Memos


@dataclass(frozen=True)
class Person:
    """Somebody with a home: `run` calls the program as they would."""

    name: str
    home: Path
    key: str
    run: Callable[..., Done]


class People:
    """Makes people, each with a home beside that of the test; the program runs in this process as one of them."""

    def __init__(self, home: Path, memos: Memos, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home, self._memos, self._patch = home, memos, monkeypatch

    def __call__(self, name: str) -> Person:
        place = self._home.parent / f"home-{name}"
        if not place.exists():
            place.mkdir()
            (place / "cache").symlink_to((self._home / "cache").resolve())

        def run(*words: str | Path, **more: str | bytes | None) -> Done:
            with self.acting(place):
                return self._memos(*words, **more)

        return Person(name, place, me(place).key, run)

    @contextmanager
    def acting(self, home: Path) -> Iterator[None]:
        """MEMOS_HOME set to a home for a while."""
        with self._patch.context() as patch:
            patch.setenv("MEMOS_HOME", str(home))
            yield
