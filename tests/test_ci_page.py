"""docs/how-to/ci.md and the page of memory tests: what they show can be taken as it is, and does what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from memos_cli.operation import audit_rules, memory_tests
from memos_cli.operation.audit_rules import LABELS
from tests.conftest import Memos

DOCS = Path(__file__).parent.parent / "docs"
CI, TESTS = DOCS / "how-to/ci.md", DOCS / "reference/memory-tests.md"
POLICY = '[require]\nlabels = ["source"]\n[limit]\nsensitivity = "internal"\n'
QUESTIONS = """
[[test]]
name = "rollback"
question = "who may roll back a release?"
evidence = [{source = "release-process.md", text = "on call"}]
"""


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def load_yaml(text: str) -> Any:
    return pytest.importorskip("yaml").safe_load(text)


@pytest.fixture
def project(work: Path) -> Path:
    """A project with documents, rules and questions."""
    (work / "docs").mkdir()
    (work / "docs/release-process.md").write_text("# Rolling back\n\nWhoever is on call may roll back a release.\n")
    (work / "memos-policy.toml").write_text(POLICY)
    (work / "memory-tests.toml").write_text(QUESTIONS)
    return work


def test_the_policy_of_the_page_has_every_rule_and_is_read() -> None:
    (policy,) = blocks(CI, "toml")[:1]
    rules = audit_rules.parse(tomllib.loads(policy), where="ci.md")
    assert all(getattr(rules, name) for name in rules.__slots__)
    said = re.search(r"^Labels that can be required: (.*?)\.$", CI.read_text(), re.MULTILINE)
    assert said
    assert tuple(said[1].split(", ")) == LABELS


def test_the_memory_tests_of_the_pages_are_read() -> None:
    for text in (blocks(CI, "toml")[1], blocks(TESTS, "toml")[0]):
        assert memory_tests.parse(tomllib.loads(text), where="page").questions
    page = TESTS.read_text()
    for name in (*memory_tests._TOP, *memory_tests._TEST):
        assert f"| `{name}` |" in page


def test_the_steps_of_the_workflow_run(project: Path, memos: Memos) -> None:
    workflow = load_yaml(blocks(CI, "yaml")[0])
    steps = workflow["jobs"]["audit"]["steps"]
    lines = [step["run"] for step in steps if "run" in step]
    assert lines[0] == "pip install 'memos[documents,audit]'"
    for line in lines[1:]:
        words = shlex.split(line.replace("$GITHUB_SHA", "abc"))
        output = words[words.index(">") + 1] if ">" in words else None
        done = memos(
            *words[1 : words.index(">") if output else None], *(["--embedder", "none"] if "ingest" in words else [])
        )
        assert done.code == 0, done.err
        if output:
            (project / output).write_text(done.out)
    kept = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert all((project / name).stat().st_size for name in kept["with"]["path"].split())
    (project / "docs/release-process.md").write_text("# Rolling back\n\nNobody may.\n")
    assert memos("ingest", "docs.cube", "docs/", "--prune", "--yes").code == 0
    assert memos("audit", "docs.cube", "--tests", "memory-tests.toml").code == 9


def test_the_hook_of_pre_commit_is_one(project: Path, memos: Memos) -> None:
    (hook,) = load_yaml(blocks(CI, "yaml")[1])["repos"][0]["hooks"]
    assert memos("ingest", "docs.cube", "docs/", "--embedder", "none").code == 0
    assert memos(*shlex.split(hook["entry"])[1:]).code == 0
    for name in ("docs/a.md", "docs.cube/current", "memos-policy.toml", "memory-tests.baseline.toml"):
        assert re.search(hook["files"], name)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_commit_that_makes_the_memory_worse_does_not_happen(project: Path, home: Path, memos: Memos) -> None:
    (project / "bin").mkdir()
    (project / "bin/memos").write_text(f'#!/bin/sh\nexec {sys.executable} -m memos_cli "$@"\n')
    (project / "bin/memos").chmod(0o755)
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PATH": f"{project / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(root)}

    def git(*words: str) -> int:
        name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(["git", *name, *words], env=environment, capture_output=True, check=False).returncode

    assert git("init", "-q") == 0
    hook = Path(".git/hooks/pre-commit")
    hook.write_text(blocks(CI, "sh")[0])
    hook.chmod(0o755)
    assert memos("ingest", "docs.cube", "docs/", "--embedder", "none").code == 0
    assert git("add", "docs") == 0
    assert git("commit", "-q", "-m", "good") == 0
    (project / "docs/release-process.md").write_text("# Rolling back\n\nNobody may.\n")
    assert git("add", "docs") == 0
    assert git("commit", "-q", "-m", "worse") != 0
    assert git("log", "--oneline", "HEAD") == 0
