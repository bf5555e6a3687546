"""Engines: what a name means, and that workers of Ray give what this process gives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memos_cli.errors import MemosError, MissingExtra, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import engine
from memos_cli.infrastructure.cluster import show_token
from memos_cli.infrastructure.engine import Local, where
from tests import clusters


@pytest.mark.parametrize(
    ("name", "host"), [("ray://head", "head:10001"), ("ray://head:7", "head:7"), ("ray://[::1]:7", "[::1]:7")]
)
def test_an_address_of_a_cluster(name: str, host: str) -> None:
    assert where(name).host == host
    assert where(name).address == f"ray://{host}"
    assert where(name).far


@pytest.mark.parametrize(
    "name",
    ["", "Ray", "spark", "ray:", "ray://", "ray://a b:1", "ray://u:p@head:1", "ray://head:99999", "http://head:10001",
     "ray://head:1/path", "ray://head:1?x=1", "ray://he\x1bad:1", "auto"],
)  # fmt: skip
def test_what_is_no_engine_is_refused(name: str) -> None:
    with pytest.raises(Usage, match="expected"):
        where(name)


def test_the_local_engine_gives_results_in_order_as_they_are_asked_for() -> None:
    asked = []

    def items() -> Iterator[int]:
        for number in range(3):
            asked.append(number)
            yield number

    results = Local().map(clusters.plus, items(), setup=clusters.one)
    assert next(results) == 1
    assert asked == [0]
    assert list(results) == [2, 3]


def test_the_local_engine_imports_nothing_of_ray() -> None:
    program = (
        "import sys\nfrom memos_cli.infrastructure import engine\nfrom memos_cli.interface import api\n"
        "from memos_cli.interface import converting, ingestion, changes\n"
        "with engine.opened('local') as on:\n    assert list(on.map(max, [2], setup=int)) == [2]\n"
        "sys.exit(str({'ray', 'lance'} & set(sys.modules)) if {'ray', 'lance'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_absent_extra_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught, engine.opened("ray"):
        pass
    assert caught.value.hint == "pip install 'memos[ray]'"


def test_workers_are_at_least_one() -> None:
    with pytest.raises(Usage, match="at least one worker"), engine.opened("ray", workers=0):
        pass


@pytest.mark.parametrize(
    ("token", "kept", "said", "mode"),
    [
        ("", False, "", None),
        ("a" * 64, False, "", "token"),
        ("", True, "", "token"),
        ("", True, "disabled", "disabled"),
    ],
)
def test_a_token_that_is_there_is_shown_to_a_cluster(
    token: str, kept: bool, said: str, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept:
        (tmp_path / "auth_token").write_text("a" * 64)
    values = {"TOKEN": token, "TOKEN_PATH": str(tmp_path / "auth_token"), "MODE": said}
    for name, value in values.items():
        monkeypatch.setenv(f"RAY_AUTH_{name}", value)
        if not value:
            monkeypatch.delenv(f"RAY_AUTH_{name}")
    show_token()
    assert os.environ.get("RAY_AUTH_MODE") == mode


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A cluster of two processors for this file."""
    pytest.importorskip("ray")
    pytest.importorskip("lance")
    with clusters.cluster():
        yield


@pytest.mark.slow
def test_workers_that_prepared_themselves_do_their_work_and_ray_comes_back_for_more() -> None:
    with engine.opened("ray", workers=1) as on:
        on.soon(clusters.plus, setup=clusters.one)
        assert list(on.map(clusters.plus, [1, 2], setup=clusters.one)) == [2, 3]
        on.let_go()
        assert list(on.map(clusters.plus, [4], setup=clusters.one)) == [5]


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
class TestRay:
    """Real workers."""

    def test_results_come_in_order_and_few_are_under_way(self) -> None:
        taken, given = 0, 0

        def items() -> Iterator[int]:
            nonlocal taken
            for number in range(60):
                taken += 1
                assert taken - given <= 2 * 4 + 1
                yield number

        with engine.opened("ray", workers=2) as on:
            for expected, result in enumerate(on.map(clusters.plus, items(), setup=clusters.one), 1):
                given += 1
                assert result == expected
        assert given == 60

    def test_a_worker_that_dies_changes_nothing(self, tmp_path: Path) -> None:
        items = [(number, str(tmp_path / "died")) for number in range(12)]
        with engine.opened("ray", workers=2) as on:
            assert list(on.map(clusters.pid_after_death, items, setup=clusters.one)) == list(range(12))
        assert (tmp_path / "died").exists()

    def test_an_item_that_always_kills_its_worker_ends_the_work_in_words(self) -> None:
        with engine.opened("ray", workers=2) as on, pytest.raises(MemosError, match="a worker of Ray was lost"):
            list(on.map(clusters.always_dies, [1], setup=clusters.one))

    def test_a_refusal_arrives_as_what_it_was(self) -> None:
        with engine.opened("ray", workers=2) as on, pytest.raises(NotAllowed, match="no twos") as caught:
            list(on.map(clusters.refuses, range(5), setup=clusters.one))
        assert caught.value.hint == "try three"

    def test_a_mistake_in_the_work_is_not_dressed_up(self) -> None:
        with engine.opened("ray", workers=2) as on, pytest.raises(ZeroDivisionError):
            list(on.map(clusters.mistaken, [1, 0], setup=clusters.one))

    def test_a_worker_that_sees_other_files_does_not_begin(self, tmp_path: Path) -> None:
        from memos_cli.infrastructure.cluster import Landmark

        there = tmp_path / "memcube.toml"
        there.write_text("one")
        landmark = Landmark.of(there)
        landmark.check()
        there.write_text("another")
        with pytest.raises(NotFound, match="does not see"):
            landmark.check()

    def test_work_that_is_given_up_leaves_no_worker(self) -> None:
        import time

        with engine.opened("ray", workers=2) as on:
            results = on.map(clusters.plus, range(1000), setup=clusters.one)
            assert next(results) == 1
            assert clusters.workers()
            results.close()
            end = time.monotonic() + 20
            while clusters.workers() and time.monotonic() < end:
                time.sleep(0.1)
            assert not clusters.workers()
