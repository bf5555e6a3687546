"""How the derived forms of two versions differ, as `memos diff` tells it."""

from __future__ import annotations

import shutil
from pathlib import Path

from memos_cli.infrastructure import vault
from tests.conftest import Memos
from tests.cube import activations, adapters

STAMP = vault.Stamp("edit", {"key": "x", "user": "x"}, "2026-01-01T00:00:00Z")


def test_a_diff_tells_caches_and_adapters(work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- One thought.\n- Another thought.\n")
    memos("ingest", "a.cube", "a.md", "--embedder", "none")
    first, second = memos("list", "a.cube", "-q").lines
    with vault.draft(work / "a.cube", stamp=STAMP) as draft:
        for memory in (first, second, "0" * 20):
            activations.write(draft.path / "activation", activations.header(memory=memory))
        adapters.write(draft.path / "parameter", "facts", sources=(adapters.source(first),))
        draft.commit()
    found = memos("diff", "a.cube", "2", "3", "--json").json["forms"]
    told = {(one["form"], one["change"], one["name"]) for one in found}
    assert told == {
        ("activation", "added", first),
        ("activation", "added", second),
        ("parameter", "added", "facts"),
    }  # fmt: skip  a cache of no memory is nobody's to see
    assert all(one["bytes"] > 0 for one in found)
    with vault.draft(work / "a.cube", stamp=STAMP) as draft:
        for path in (draft.path / "activation").glob(f"{first}.*"):
            path.unlink()
        for folder in ("parameter", "made"):
            shutil.rmtree(draft.path / folder)
        adapters.write(draft.path / "parameter", "facts", seed=3, sources=(adapters.source(first),))
        draft.commit()
    lines = memos("diff", "a.cube", "3").lines
    assert any(line.startswith(f"- activation {first}\t") for line in lines)
    assert any(line.startswith("~ parameter facts\t") for line in lines)
    assert memos("rollback", "a.cube", "3").code == 0
    assert memos("diff", "a.cube", "3", "5", "--json").json["forms"] == []
