"""What ranking by use does to recall: questions of LoCoMo, of which every second one was asked and answered before.

Each conversation is a cube found by words. The questions asked before go through `query --answer --measure-use`, by
which the default model says how much likelier each memory made its answer; then all are ranked by `query`, with
`--by-use` and without. A question asked again can gain, one that nobody asked can only lose or stay; between the two
are questions for the same turns. Beside it the same with gains from one who knows the right turns: of those found among
the first three each right one gains all that is believed, each other one nothing. So what the measure gets wrong is
told apart from what the ranking makes of it. The difference is taken question by question, with a 95% bootstrap
interval. The default model reads names and dates of its own small world, so of chats it says little that is right.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from memos_cli.infrastructure import trail, vault
from memos_cli.interface import api
from memos_cli.operation.utility import LARGEST, MOST
from tests.bench import timing
from tests.bench.recall import Asked, Talk, cube_of, interval, measures, talks

EMBEDDER = "none"
BEFORE, NEVER = "asked before", "never asked"
MODEL, TRUTH = "the model", "the right turns"


def halves(talk: Talk) -> dict[str, list[Asked]]:
    """Its questions, every second one among those asked before; those with no answer in it are left out."""
    told = [one for one in talk.asked if one.category != 5]
    return {BEFORE: told[::2], NEVER: told[1::2]}


def note_by_model(cube: Path, asked: Sequence[Asked], *, home: Path) -> int:
    """Has the default model answer each; how many it answered."""
    found = api.answer_many([cube], [one.text for one in asked], measure_use=True, embedder=EMBEDDER, home=home)
    return sum(bool(one.answer) for one in found)


def note_by_truth(cube: Path, asked: Sequence[Asked], *, home: Path) -> int:
    """Notes the gains of one who knows which turns are right; how many questions had one to note."""
    version = vault.current_version(vault.locate(cube))
    noted = 0
    found = api.query_many([cube], [one.text for one in asked], k=MOST, embedder=EMBEDDER, home=home)
    for one, each in zip(asked, list(found), strict=True):
        gains = {hit.id: LARGEST if hit.ref in one.evidence else 0.0 for hit in each.hits}
        noted += any(gains.values())
        trail.append(
            cube, home=home, cube_id=version.manifest.cube_id, actor={}, verb="query", version=version.number,
            memories=list(gains), query=one.text, facts={"gains": gains},
        )  # fmt: skip
    return noted


def ranked(cube: Path, asked: Sequence[Asked], *, by_use: bool, home: Path) -> list[dict[str, float]]:
    """How each question is found."""
    texts = [one.text for one in asked]
    found = api.query_many([cube], texts, k=20, by_use=by_use, embedder=EMBEDDER, home=home)
    return [measures(one, [hit.ref for hit in each.hits]) for one, each in zip(asked, found, strict=True)]


def row(told: str, part: str, plain: Sequence[dict[str, float]], used: Sequence[dict[str, float]]) -> dict[str, Any]:
    """A line of the table: two measures without and with, and what the first gains in each question."""
    apart = [two["mrr"] - one["mrr"] for one, two in zip(plain, used, strict=True)]
    low, high = interval(apart)

    def mean(found: Sequence[dict[str, float]], name: str) -> float:
        return round(sum(one[name] for one in found) / len(found), 3)

    return {
        "gains told by": told, "questions": part, "n": len(plain), "mrr": mean(plain, "mrr"),
        "mrr by use": mean(used, "mrr"), "difference": f"{sum(apart) / len(apart):+.3f} ({low:+.3f} to {high:+.3f})",
        "r@5": mean(plain, "r@5"), "r@5 by use": mean(used, "r@5"), "r@10": mean(plain, "r@10"),
        "r@10 by use": mean(used, "r@10"), "higher": sum(one > 1e-9 for one in apart),
        "lower": sum(one < -1e-9 for one in apart),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--talks", type=int, default=1, help="conversations")
    parser.add_argument("--questions", type=int, help="of each at most; by default all")
    given = parser.parse_args()
    chosen = list(islice(talks(), given.talks))
    if not chosen:
        timing.say("skipped: no locomo-dev.json; MEMOS_BENCH_DATA names its folder")
        timing.finish("use", {"skipped": True})
        return
    import torch

    torch.set_num_threads(1)
    held: dict[tuple[str, str], list[dict[str, float]]] = {}
    noted = {MODEL: 0, TRUTH: 0}
    asked_in_all = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for talk in chosen:
            clean = cube_of(talk, folder, embedder=EMBEDDER)
            parts = {part: asked[: given.questions] for part, asked in halves(talk).items()}
            asked_in_all += len(parts[BEFORE])
            for told, note in ((MODEL, note_by_model), (TRUTH, note_by_truth)):
                cube, home = folder / f"{told.split()[-1]}-{talk.name}.cube", folder / f"home-{told.split()[-1]}"
                shutil.copytree(clean, cube, symlinks=True)
                noted[told] += note(cube, parts[BEFORE], home=home)
                for part, asked in parts.items():
                    for by_use in (False, True):
                        found = ranked(cube, asked, by_use=by_use, home=home)
                        held.setdefault((told, f"{part} {by_use}"), []).extend(found)
            timing.say(f"{talk.name}: {noted}")
    rows = [
        row(told, part, held[told, f"{part} False"], held[told, f"{part} True"])
        for told in (MODEL, TRUTH) for part in (BEFORE, NEVER)
    ]  # fmt: skip
    timing.say(f"asked before: {asked_in_all}, of which were answered, or had a right turn among those found: {noted}")
    timing.table(rows)
    timing.finish("use", {"asked_before": asked_in_all, "noted": noted, "rows": rows})


if __name__ == "__main__":
    main()
