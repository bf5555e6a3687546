"""The audit of activation memory, in real cubes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memos_cli.cube import activation
from memos_cli.infrastructure import vault
from memos_cli.operation.audit import audit
from memos_cli.operation.convert import content_of
from memos_cli.operation.findings import DAMAGE, WARNING
from tests.cube import activations
from tests.operation.test_audit import STAMP, make, row

MEMORY = row(1)["id"]


def about(text: str = "memory 1") -> activation.Header:
    """What a file of the first memory says of itself, when that memory says `text`."""
    return activations.header(memory=MEMORY, content=content_of(text))


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """A cube of two memories."""
    return make(tmp_path / "a.cube", [row(1), row(2)])


def commit(cube: Path, write: Callable[[Path], object]) -> None:
    with vault.draft(cube, stamp=STAMP) as draft:
        write(draft.path / activation.FOLDER)
        draft.commit()


def found(cube: Path, *, deep: bool = True) -> list[tuple[str, str]]:
    return [(finding.severity, finding.code) for finding in audit(cube, deep=deep).findings]


def test_sound_activation_memory_has_no_findings(cube: Path) -> None:
    commit(cube, lambda folder: activations.write(folder, about()))
    assert found(cube) == found(cube, deep=False) == []
    assert activation.find(cube / "current" / activation.FOLDER, memory=MEMORY)


def test_a_damaged_file_that_was_committed_is_found(cube: Path) -> None:
    def harm(folder: Path) -> None:
        made = activations.write(folder, about())
        activations.forge(made, lambda value: value["__metadata__"].update({"memos.tokens": "7"}))

    commit(cube, harm)
    assert found(cube, deep=False) == [(DAMAGE, "activation")]


def test_numbers_that_are_none_are_found_by_a_deep_audit(cube: Path) -> None:
    def harm(folder: Path) -> None:
        made = activations.write(folder, about())
        _, data = activations.split(made.path.read_bytes())
        activations.forge(made, lambda _: None, data[:-2] + b"\xc0\x7f")

    commit(cube, harm)
    assert found(cube, deep=False) == []
    assert found(cube) == [(DAMAGE, "activation")]


def test_a_file_of_no_memory_of_the_cube_is_found(cube: Path) -> None:
    commit(cube, lambda folder: activations.write(folder, activations.header(memory="another")))
    assert found(cube, deep=False) == [(WARNING, "activation-foreign")]


def test_a_file_of_what_a_memory_said_before_is_found(cube: Path) -> None:
    commit(cube, lambda folder: activations.write(folder, about("memory one")))
    (finding,) = audit(cube).findings
    assert (finding.severity, finding.code) == (WARNING, "activation-stale")
    assert f"--ids {MEMORY}" in finding.remedy


def test_a_file_of_another_name_is_found(cube: Path) -> None:
    def stray(folder: Path) -> None:
        folder.mkdir()
        (folder / "cache.pickle").write_bytes(b"\x80\x04.")

    commit(cube, stray)
    assert found(cube, deep=False) == [(WARNING, "activation-name")]
