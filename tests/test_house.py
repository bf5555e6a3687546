"""The house: which room may import which, and what a light command must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "memos_cli"
# Each room imports only from those to its right; cube and runtime never from each other.
MAY_IMPORT = {
    "cli": {"commands", "config", "console", "infrastructure", "errors"},
    "__main__": {"cli"},
    "commands": {"interface", "operation", "infrastructure", "cube", "console", "config", "errors"},
    "interface": {"operation", "infrastructure", "cube", "runtime", "errors"},
    "operation": {"infrastructure", "cube", "runtime", "errors"},
    "infrastructure": {"cube", "runtime", "errors"},
    "cube": {"errors"},
    "runtime": {"errors"},
    "config": {"cube", "errors"},
    "console": {"errors"},
    "errors": set(),
    "__init__": set(),
}
HEAVY = {"torch", "transformers", "peft", "lancedb", "pyarrow", "numpy", "rich", "onnxruntime", "ray", "lance"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """The room of `memos_cli.room.file`, or the file itself at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(path: Path) -> Iterator[str]:
    """Every memos_cli module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "memos_cli":
                yield from (f"memos_cli.{alias.name}" for alias in node.names)
            elif node.module and node.module.startswith("memos_cli."):
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("memos_cli"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_each_room_imports_only_to_its_right(room: str) -> None:
    wrong = {
        f"{path.relative_to(PACKAGE)}: {module}"
        for path in FILES
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") == room
        for module in imports_of(path)
        if room_of(module) not in MAY_IMPORT[room] | {room} and module != "memos_cli.__version__"
    }
    assert not wrong, f"{room} may import {sorted(MAY_IMPORT[room])}"


def test_every_file_is_in_a_room() -> None:
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} == set(MAY_IMPORT)


def test_no_room_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "common", "base", "manager", "factory", "helper", "helpers", "misc"}
    assert not [path for path in FILES if path.stem in empty]


def test_no_file_is_longer_than_a_few_screens() -> None:
    long = {
        str(path.relative_to(PACKAGE)): length for path in FILES if (length := len(path.read_text().splitlines())) > 450
    }
    assert not long


@pytest.mark.parametrize("arguments", [["--help"], ["ingest", "--help"], ["log", "no-such-cube"], ["list"]])
def test_a_light_command_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['memos', *{arguments!r}]\n"
        "try:\n    runpy.run_module('memos_cli', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        f"heavy = sorted({HEAVY!r} & set(sys.modules))\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"MEMOS_HOME": str(tmp_path), "PATH": "/bin"},
    )
    assert done.returncode == 0, done.stderr
