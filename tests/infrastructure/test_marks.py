"""Checkpoints hold exactly what the draft held, whatever was added, replaced and removed between them."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from memos_cli.infrastructure import disk, vault
from memos_cli.infrastructure.marks import find_mark
from tests.infrastructure.cubes import STAMP, make


def files_of(tree: Path) -> dict[str, bytes]:
    return {path: (tree / path).read_bytes() for path in disk.inodes(tree)}


def change(tree: Path, chance: random.Random) -> None:
    """Add, replace or remove a few files; the metadata changes always, Lance's hint in place."""
    vault.write_bytes(tree / "memcube.toml", chance.randbytes(20))
    (tree / "latest_version_hint.json").write_bytes(chance.randbytes(chance.randrange(1, 30)))
    for _ in range(chance.randrange(6)):
        path = tree / f"part{chance.randrange(3)}" / f"{chance.randrange(8)}.lance"
        if path.exists() and chance.random() < 0.4:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            vault.write_bytes(path, chance.randbytes(40))


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
@pytest.mark.parametrize("seed", range(2))
def test_a_mark_is_the_tree_at_its_moment(
    links: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.cube"
    base = make(root).digest
    chance = random.Random(seed)
    if not links:
        monkeypatch.setattr(os, "link", _refuse)
    expected: dict[str, bytes] = {}
    for run in range(2):
        with vault.draft(root, stamp=STAMP, resume="job") as draft:
            if run:
                assert draft.progress == {"step": 4}
                assert files_of(draft.path) == expected
            for step in range(5):
                change(draft.path, chance)
                draft.checkpoint({"step": step})
                expected = files_of(draft.path)
                mark = find_mark(draft.path.parent, base)
                assert mark is not None
                assert mark.progress == {"step": step}
                assert files_of(mark.tree) == expected
                assert len(os.listdir(draft.path.parent)) <= 3
            change(draft.path, chance)


def _refuse(*args: object, **kwargs: object) -> None:
    raise OSError(18, "Invalid cross-device link")


def test_a_mark_of_another_base_or_without_a_note_is_none(tmp_path: Path) -> None:
    root = tmp_path / "a.cube"
    base = make(root).digest
    with vault.draft(root, stamp=STAMP, resume="job") as draft:
        draft.checkpoint({})
        draft.checkpoint({"second": True})
    folder = root / "staging" / "job"
    assert find_mark(folder, "sha256:other") is None
    assert find_mark(root / "nothing", base) is None
    newest = find_mark(folder, base)
    assert newest is not None
    (newest.tree.parent / "progress.json").write_bytes(b"{")
    assert find_mark(folder, base).progress == {}  # type: ignore[union-attr]
