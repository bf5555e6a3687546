"""Cubes that were used: made once for all tests of a file, and asked without asking each time anew."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memos_cli.infrastructure import measured, trail, vault
from memos_cli.interface import api, costing
from memos_cli.interface.planned import Planned
from memos_cli.interface.results import Converted
from memos_cli.operation import rates, teaching
from memos_cli.operation.rates import Point, Rates
from memos_cli.runtime.fingerprint import weights_digest
from memos_cli.runtime.model import LocalModel
from tests.conftest import Memos, Start
from tests.runtime.decoders import save_parrot

# A model that is made in a moment and makes memories in one: what it says is not what plans are about.
MODEL = "./parrot"
# On this machine each token that is not read saves 10 ms, and making a memory takes 100 ms.
POINTS = (Point(1, 4000, 0.1, 0.01, 0.0), Point(101, 404_000, 0.1, 1.01, 0.0))
TEXT = """# H

- The badge of the north gate opens the boat shed too, from six in the morning on.
- The visitor code of the archive is walnut, and it changes on the first of May.
- The alarm of the cold store rings at ten, and Ana Corvath turns it off.
- Nobody ever asks about the old piano in the cellar of the east wing.
"""


def four_memories(place: Path, cache: Path, text: str = TEXT) -> Start:
    """A cube of four memories that nobody has asked, a tiny model, and costs as if they had been measured here."""

    def build(memos: Memos) -> None:
        Path("a.md").write_text(text)
        assert memos("ingest", "a.cube", "a.md", "--embedder", "none").code == 0
        save_parrot(Path(MODEL), "idea")
        for model in (MODEL, "nano"):
            keep_costs(cache, model=model)

    return Start.make(place, cache, build)


def keep_costs(cache: Path, *, model: str = "nano") -> Rates:
    """Notes costs of a model down as if they had been measured here."""
    local = LocalModel(model)
    weights = weights_digest(local.folder, cache=cache)
    known = Rates("measured", local.name, weights, measured.machine(), "2026-01-01T00:00:00Z", POINTS, 0.05)
    measured.write(cache, costing.key_of(local, weights, estimate=False), rates.to_json(known))
    return known


def worth_teaching(memos: Memos, home: Path, monkeypatch: pytest.MonkeyPatch, cube: str, question: str) -> None:
    """A cube of one memory that is asked for often, and costs by which it pays to teach it, as if in a second."""
    Path("people.md").write_text("- The home town of Ben Oster is Kinsale.\n")
    assert memos("ingest", cube, "people.md", "--embedder", "none").code == 0
    keep_costs(home / "cache")
    monkeypatch.setattr(teaching, "STEPS", 1)
    monkeypatch.setattr(teaching, "STEP_TOKENS", 30)
    ask(40, question, cube=cube)


def ask(times: int, *questions: str, cube: str = "a.cube") -> None:
    """Asks each question once, and notes the others down as that one was."""
    for question in questions:
        api.query(cube, question, k=1)
        _repeat_last(Path(cube), times - 1)


def _repeat_last(root: Path, times: int) -> None:
    """So many lines more in the log like its last, chained as the trail does."""
    line = json.loads(trail.path_of(root).read_text().splitlines()[-1])
    cube_id = vault.current_version(vault.locate(root)).manifest.cube_id
    for _ in range(times):
        trail.append(
            root, home=Path(os.environ["MEMOS_HOME"]), cube_id=cube_id, actor=line["actor"], verb="query",
            version=line["version"], memories=line["memories"], query=line["query"], facts=line["facts"],
        )  # fmt: skip


def plan(cubes: Sequence[str | Path] = ("a.cube",), **asked: Any) -> Planned:
    """A plan for the tiny model."""
    return api.schedule(cubes, model=MODEL, **asked)


def carry_out(planned: Planned, **asked: Any) -> Planned:
    """The same, carried out with it."""
    return api.carry_out(planned, model=MODEL, **asked)


def convert(cube: str = "a.cube", **asked: Any) -> Converted:
    """Activation memory for it."""
    return api.convert(cube, model=MODEL, **asked)
