"""What the fidelity gate lets through, and whether that is right: memories of the default model's world, stored in
several ways, each asked the question of its fact.

A memory is right when the model's answer with it is the one that it gives with the text. The gate looks at figures
that were measured on questions of its own making. The last line is JSON.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from memos_cli.infrastructure import loader
from memos_cli.infrastructure.dumper import Storage
from memos_cli.operation import gate
from memos_cli.operation.convert import Compression, Converter, Way
from memos_cli.runtime.compose import CONCAT, Placed, attended, inject
from memos_cli.runtime.generate import generate, go_on
from memos_cli.runtime.nano.train.world import World
from tests.bench import timing

WAYS: dict[str, Way] = {
    "dense": Way(),
    "int8": Way(storage=Storage(bits=8)),
    "int4": Way(storage=Storage(bits=4), probes=8),
    "kvzip:0.75": Way(compression=Compression("kvzip", 0.75), probes=8),
    "kvzip:0.5": Way(compression=Compression("kvzip", 0.5), probes=8),
    "expected_attention:0.75": Way(compression=Compression("expected_attention", 0.75), probes=8),
    "random:0.75": Way(compression=Compression("random", 0.75), probes=8),
    "knorm:0.75": Way(compression=Compression("knorm", 0.75), probes=8),
}
LIMITS = [(0.8, 0.5, 0.5), (0.9, 0.5, 0.8), (0.9, 0.75, 0.8), (0.9, 0.9, 0.8), (0.95, 1.0, 0.9)]


@dataclass(frozen=True, slots=True)
class Fact:
    """A memory of the world, as `convert` needs it."""

    id: str
    text: str
    kind: str = "line"
    speaker: str = ""
    role: str = ""
    section: str = ""
    time: Any = None
    sensitivity: str = "internal"
    expires_at: Any = None


def main() -> None:
    """Measures and prints the table."""
    options = argparse.ArgumentParser(prog="python -m tests.bench.gate", description=__doc__)
    options.add_argument("--count", type=int, default=100)
    given = options.parse_args()
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel

    local = LocalModel("nano")
    loaded = local.load()
    world = World(Random("gate"), held_names=True)
    facts = [world.facts(3, own=1.0) for _ in range(given.count)]
    stated = [(world.state(drawn, shape="lines")[0].replace("\n", " "), drawn[0]) for drawn in facts]
    asked = [world.ask(fact).text for _, fact in stated]
    rows = []
    with TemporaryDirectory() as folder:
        made_with = fingerprint(loaded, local.folder, cache=Path(folder) / "cache")
        for name, way in WAYS.items():
            converter = Converter(loaded, local.traits, made_with, way, "2026-01-01T00:00:00Z")
            seen = []
            for number, ((text, _), question) in enumerate(zip(stated, asked, strict=True)):
                item = converter.item(Fact(f"m{number}", text))
                assert not isinstance(item, str)
                made = converter.make(Path(folder) / name.replace(":", "-"), item)
                ids, spans = converter.prompt([item.memory], question)
                assert spans[0] is not None
                path = Path(folder) / name.replace(":", "-") / made.name
                memory = loader.load(path, loaded.network, fingerprint=made_with).memory
                placed = [Placed(memory, spans[0][0])]
                with attended(loaded.network, placed):
                    read = inject(loaded.network, ids, placed, mode=CONCAT).read
                    answer = go_on(loaded, read, limit_tokens=32).text
                seen.append((made.fidelity, answer == generate(loaded, ids, limit_tokens=32).text))
            for top1, exact, recovered in LIMITS:
                limits = gate.Limits(top1, exact, recovered)
                verdicts = [(not gate.refusal(figures, limits), right) for figures, right in seen]
                passed = [right for through, right in verdicts if through]
                rows.append({
                    "way": name, "top1": top1, "exact": exact, "recovered": recovered,
                    "right": round(sum(right for _, right in seen) / len(seen), 3),
                    "let through": round(len(passed) / len(seen), 3),
                    "right of these": round(sum(passed) / len(passed), 3) if passed else None,
                })  # fmt: skip
    timing.table(rows)
    timing.finish("gate", {"count": given.count, "rows": rows})


if __name__ == "__main__":
    main()
