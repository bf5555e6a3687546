"""What a query must not import: it would wait for it every time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Memos

PROGRAM = """
import json, runpy, sys
sys.argv = ["memos", *{arguments!r}]
try:
    runpy.run_module("memos_cli", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)))
"""
# Seconds of CPU each; lancedb's own Python part is not needed to read a table.
NEVER = {"torch", "transformers", "pandas", "sentence_transformers", "scipy", "sklearn", "pydantic", "lancedb.table",
         "lancedb.db", "rich", "dateparser", "cryptography"}  # fmt: skip
WORDS_ONLY = {"onnxruntime", "tokenizers"}


@pytest.mark.parametrize("embedder", ["minilm", "none"])
def test_a_query_imports_only_what_it_needs(memos: Memos, work: Path, embedder: str) -> None:
    (work / "notes.md").write_text("# Rings\n\n- The gold ring is with Ann.\n- The iron ring is with Bo.\n")
    assert memos("ingest", "a.cube", "notes.md", "--embedder", embedder).code == 0
    arguments = ["query", "a.cube", "who has the gold ring?", "-k", "1"]
    found, modules = run(arguments)
    assert "gold ring" in found
    refused = NEVER | (WORDS_ONLY if embedder == "none" else set())
    assert not refused & modules


def test_a_package_that_is_there_is_pushed_without_any_of_its_contents(memos: Memos, work: Path) -> None:
    (work / "notes.md").write_text("- The gold ring is with Ann.\n")
    for arguments in (["ingest", "a.cube", "notes.md", "--embedder", "none"], ["pack", "a.cube", "-o", "a.memcube"]):
        assert memos(*arguments).code == 0
    assert memos("push", "a.memcube", "./store").code == 0
    found, modules = run(["push", "a.memcube", "./store", "--json"])
    assert json.loads(found)["blobs"] == 0
    assert not (NEVER | WORDS_ONLY | {"pyarrow", "numpy", "lancedb"}) & modules


def run(arguments: list[str]) -> tuple[str, set[str]]:
    """The line that the program writes, and the modules that it has imported by its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=arguments)], capture_output=True, text=True, check=True
    )
    found, modules = done.stdout.splitlines()
    return found, set(json.loads(modules))
