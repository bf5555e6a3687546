"""The session in the README and in the tutorials is real: its commands run, and what it shows appears.

A line of output is looked for without its rank and its indentation, since a terminal shows more than a pipe gets;
`...` stands for anything, alone on a line for any lines.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Memos

PROJECT = Path(__file__).parent.parent
PAGES = ("README.md", "bundles/README.md", "docs/tutorial/first-cube.md", "docs/tutorial/your-chats.md")


def steps(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of the page's console blocks, and the lines it shows."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            while command.endswith("\\"):
                command = command[:-1] + shown.pop(0).strip()
            yield command, [line for line in shown if line.strip()]


def appears(line: str, told: str) -> bool:
    """Whether a shown line is in what was told, whatever stands for its `...`."""
    wanted = re.sub(r"^\s*\d+\. ", "", line).strip()
    # On a terminal a hit's heading has its speaker and day after two spaces; a pipe gets them in columns.
    parts = [re.escape(part) for part in re.split(r"\.\.\.|\s{2,}|\t", wanted) if part]
    return re.search(".*".join(parts), told) is not None


@pytest.mark.many(1)
@pytest.mark.parametrize("name", PAGES)
def test_the_session_runs_and_shows_what_it_says(name: str, memos: Memos, work: Path) -> None:
    shutil.copytree(PROJECT / "bundles", work / "bundles", symlinks=True, ignore=shutil.ignore_patterns("log", "lock*"))
    found = list(steps(PROJECT / name))
    assert found
    for command, shown in found:
        told = run(command, memos, work)
        missing = [line for line in shown if line.strip() != "..." and not appears(line, told)]
        assert not missing, f"$ {command}\n{told}"


def run(command: str, memos: Memos, work: Path) -> str:
    """What a command prints, on stdout and stderr."""
    words = shlex.split(command, comments=True)
    piped = {"|", "<", ">", "&&", ";"} & set(words)
    if words[0] == "memos" and not piped:
        done = memos(*words[1:])
        assert "Traceback" not in done.err
        return done.out + done.err
    result = subprocess.run(["bash", "-c", command], cwd=work, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr
