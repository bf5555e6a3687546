"""What comes back out of an adapter: facts that the default model was taught, asked for among decoys.

The adapters are those of `tests.bench.distill`, one for each seed. Asked about are all its subjects and as many halves
again that nobody taught, for every relation there is; right is what it was taught, all else is made up. Precision is of
what is kept at each allowed share of false facts, recall of all that was taught (of subjects that are asked about:
nothing comes out unasked). `--keep` is a folder for the adapters, so that they are trained once. The last line is JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from memos_cli.operation import elicit
from memos_cli.operation.answer import plain
from memos_cli.operation.course import Course
from memos_cli.operation.facts import facts_of
from memos_cli.operation.tutor import Tutor
from memos_cli.runtime import adapter
from memos_cli.runtime.model import LocalModel
from tests.bench import timing
from tests.bench.distill import RELATIONS, Fact, facts, judged_of, keep, recipe_of
from tests.bench.timing import Bar

RATES, RATE = (0.01, 0.05, 0.10, 0.20), 0.05
LEAST_PRECISION = 0.9


def read_back(tutor: Tutor, folder: Path, told: list[Fact], strangers: list[str], *, seed: int) -> list[dict[str, Any]]:
    """A row for each allowed share of false facts: what was kept, and how much of it is right."""
    gold = {(plain(one.subject), plain(one.relation)): plain(one.value) for fact in told for one in facts_of(fact.text)}
    subjects = list(dict.fromkeys(one.subject for fact in told for one in facts_of(fact.text)))
    begin = perf_counter()
    asked = elicit.asks([*subjects, *strangers], list(RELATIONS), rate=RATE, seed=seed)
    with adapter.attach(tutor.model.network, [folder]) as adapted:
        heard = elicit.hear(tutor, adapted, asked)
    seconds = perf_counter() - begin
    rows = []
    for rate in RATES:
        sifted = elicit.sift(asked, heard, rate=rate)
        right = sum(
            gold.get((plain(one.ask.subject), plain(one.ask.relation))) == plain(one.value) for one in sifted.kept
        )
        rows.append({
            "seed": seed, "allowed": rate, "targets": sifted.targets, "decoys": sifted.decoys, "heard": sifted.heard,
            "decoys heard": sifted.decoys_heard, "outdone": sifted.outdone,
            "threshold": sifted.threshold, "estimated": round(sifted.rate, 4),
            "kept": len(sifted.kept), "precision": round(right / max(1, len(sifted.kept)), 4),
            "recall": round(right / len(gold), 4), "s": round(seconds, 1),
        })  # fmt: skip
    return rows


def main() -> None:
    """Measures an adapter for each seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.readback", description=__doc__)
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    for name, kind in (("rank", int), ("rate", float), ("steps", int), ("locality", float)):
        parser.add_argument(f"--{name}", type=kind)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    local = LocalModel("nano")
    tutor = Tutor(local.load(), local.traits)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as beside:
        for seed in range(given.seeds):
            folder, told = (given.keep or Path(beside)) / f"seed{seed}", facts(given.facts, seed=seed)
            if not folder.is_dir():
                keep(tutor, judged_of(tutor, told), Course(recipe_of(given, seed)), folder)
            others = [facts_of(one.text)[0].subject for one in facts(given.facts // 2, seed=1000 + seed)]
            rows += read_back(tutor, folder, told, others, seed=seed)
            timing.say(f"seed {seed}: {rows[-len(RATES) + RATES.index(RATE)]}")
    timing.table(rows)
    bars = [
        Bar(f"seed {row['seed']}: precision", row["precision"], LEAST_PRECISION, least=True)
        for row in rows
        if row["allowed"] == RATE
    ]
    timing.finish("readback", {"facts": given.facts, "rows": rows}, bars=bars)


if __name__ == "__main__":
    main()
