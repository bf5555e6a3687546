"""Mentions are the same whether the rows are read at once or asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from memos_cli.cube import links
from memos_cli.interface import api
from memos_cli.operation import mentionable

GUIDE = "# Release process\n\nWe tag on Fridays.\n\n# Rota\n\nAna is first.\n"
NOTES = "# Notes\n\nAsk before the release process begins. It's 'quoted'.\n\nThe phone of Ana is 555 0101.\n"


def grown(cube: str, folder: Path) -> list[tuple[str, str, str]]:
    """The links of a cube to which sources came, of which one changed and one went."""
    (folder / "guide.md").unlink(missing_ok=True)
    for name, text in (("notes.md", NOTES), ("guide.md", GUIDE), ("guide.md", GUIDE.replace("We", "They"))):
        (folder / name).write_text(text)
        api.ingest(cube, [str(folder)], embedder="none")
    (folder / "third.md").write_text("# On call\n\nThe release process is new, says Ana.\n")
    api.ingest(cube, [str(folder)], embedder="none")
    found = [one.key for one in links.read(Path(cube) / "current" / "plaintext")]
    (folder / "third.md").unlink()
    api.ingest(cube, [str(folder)], embedder="none", prune=True)
    return [*found, *(one.key for one in links.read(Path(cube) / "current" / "plaintext"))]


@pytest.mark.long
def test_a_large_table_is_asked_for_the_same(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work / "said"
    folder.mkdir()
    at_once = grown("small.cube", folder)
    monkeypatch.setattr(mentionable, "MOST_AT_ONCE", -1)
    assert grown("large.cube", folder) == at_once
    assert len(set(at_once)) > 1
