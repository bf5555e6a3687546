"""How well duplicates and conflicts are told from what only looks like them, and how fast.

The pairs are those of `tests/bench/pairs`. For each kind and half: how many were told right. For conflicts and for
duplicates: precision and recall, with the middle 95% of 1,000 draws of as many templates with replacement, for the
fillings of one template stand or fall together. Exact-relation conflicts are those whose two sides name subject and
relation in the same words; every pair of the set may be taken for one by mistake. The last line is JSON.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np  # noqa: TID253  vectors

from memos_cli.cube.plaintext import EMPTY
from memos_cli.operation import merging, resolving
from memos_cli.operation.conflicts import Statement, conflicts_among
from memos_cli.operation.duplicates import duplicates_among
from memos_cli.runtime.embed import open_embedder
from tests.bench import timing
from tests.bench.pairs import CONFLICT, HALVES, NONE, SAME, Pair, pairs

DRAWS = 1000
MANY = 10_000
EXACT = "exact-relation conflicts"
WHAT = (
    f"{SAME} merged", f"{SAME} left", f"{CONFLICT} decided", f"{CONFLICT} shown", f"{CONFLICT} left", f"{NONE} left",
    f"{NONE} merged", f"{NONE} decided", f"{NONE} shown", f"{SAME} decided", f"{CONFLICT} merged",
)  # fmt: skip
# A memory as an ingest of a list makes it.
PLAIN = {**dict.fromkeys(resolving.COLUMNS, ""), **EMPTY, "kind": "bullet", "position": 0, "valid_to": None,
         "expires_at": None, "time": None, "true_from": None}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """A pair, what was said of it, and whether the later side was named."""

    pair: Pair
    said: str
    later: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Precision and recall with their intervals, and how many pairs there were to find."""

    precision: float
    precision_low: float
    precision_high: float
    recall: float
    recall_low: float
    recall_high: float
    pairs: int


def judge(pair: Pair, vectors: np.ndarray) -> Told:
    """What is found in two memories that are alone in a cube."""
    two = [Statement("a", pair.a), Statement("b", pair.b)]
    found = conflicts_among(two).conflicts
    if found:
        return Told(pair, CONFLICT, found[0].later == pair.later)
    same = duplicates_among(two, vectors=dict(zip("ab", vectors, strict=True)))
    return Told(pair, SAME if same else NONE, True)


def score(told: Sequence[Told], label: str, *, exact: bool = False) -> Score:
    """The figures for a label; with `exact` among the conflicts those of an exact relation, and all that are none."""
    kept = [one for one in told if not exact or one.pair.exact or one.pair.label != CONFLICT]
    by_template: dict[tuple[str, int], list[Told]] = {}
    for one in kept:
        by_template.setdefault((one.pair.half, one.pair.template), []).append(one)
    groups, chance = list(by_template.values()), random.Random(7)
    samples = (chance.choices(groups, k=len(groups)) for _ in range(DRAWS))
    draws = [_rates([one for group in sample for one in group], label) for sample in samples]
    precision, recall = _rates(kept, label)
    spread = [np.nanpercentile([draw[side] for draw in draws], (2.5, 97.5)) for side in (0, 1)]
    low, high, least, most = (round(float(value), 3) for value in (*spread[0], *spread[1]))
    there = sum(one.pair.label == label for one in kept)
    return Score(round(precision, 3), low, high, round(recall, 3), least, most, there)


def _rates(told: Sequence[Told], label: str) -> tuple[float, float]:
    right = sum(one.said == one.pair.label == label for one in told)
    said, there = sum(one.said == label for one in told), sum(one.pair.label == label for one in told)
    return right / said if said else float("nan"), right / there if there else float("nan")


def through(every: Sequence[Pair], vectors: np.ndarray, *, apart: bool) -> dict[str, int]:
    """What `memos tidy --resolve newest` makes of the two memories of a pair that are alone in a cube, counted.

    They stand under one heading of a source, or `apart`: under two headings of two sources, where what does not name
    its subject may be about two things.
    """
    counts = Counter[str]()
    for place, pair in enumerate(every):
        one, other = (
            {**PLAIN, "id": name, "text": text, "words": len(text.split()), "section": name * apart,
             "source": name if apart else "", "created_at": datetime(2026, 1, 1 + late, tzinfo=UTC)}
            for late, (name, text) in enumerate((("a", pair.a), ("b", pair.b)))
        )  # fmt: skip
        rows = {"a": one, "b": other}
        decided = resolving.decide(resolving.disputes(rows.values()).disputes, rows, policy=resolving.NEWEST)
        told = "decided" if any(each.stays for each in decided) else "shown" if decided else ""
        if not told:
            near = dict(zip("ab", vectors[2 * place : 2 * place + 2], strict=True))
            told = "merged" if merging.merges(rows.values(), vectors=near).merges else "left"
        counts[f"{pair.label} {told}"] += 1
    return dict(sorted(counts.items()))


def pace() -> dict[str, float]:
    """Seconds for MANY memories: sentences of the templates, each about a project of its own, with random vectors."""
    texts = [text for one in pairs(fills=-(-MANY // 192)) for text in (one.a, one.b)][:MANY]
    names = list("abcdefghijklmnopqrstuvwxyz")
    statements = [
        Statement(f"{at:05}", f"Project {names[at // 676 % 26]}{names[at // 26 % 26]}{names[at % 26]}x: {text}")
        for at, text in enumerate(texts)
    ]
    drawn = np.random.default_rng(7).normal(size=(len(texts), 384)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    vectors = {one.id: vector for one, vector in zip(statements, drawn, strict=True)}
    started = time.process_time()
    conflicts_among(statements)
    middle = time.process_time()
    duplicates_among(statements, vectors=vectors)
    ended = time.process_time()
    spent = {"conflicts_cpu_s": round(middle - started, 2), "duplicates_cpu_s": round(ended - middle, 2)}
    return {"memories": len(texts), **spent}


def main() -> None:
    """Prints the tables and the JSON line."""
    home = Path(".bench") / "home"
    home.mkdir(parents=True, exist_ok=True)
    embedder = open_embedder("minilm", home=home)
    assert embedder is not None
    every = pairs()
    vectors = embedder.embed([text for one in every for text in (one.a, one.b)])
    ends = {name: through(every, vectors, apart=name == "apart") for name in ("together", "apart")}
    told = [judge(one, vectors[2 * place : 2 * place + 2]) for place, one in enumerate(every)]
    timing.say(f"{len(told)} pairs")
    timing.table(kinds(told))
    scores = {
        f"{name}, {half}": score([one for one in told if half in ("both", one.pair.half)], label, exact=exact)
        for name, label, exact in ((EXACT, CONFLICT, True), ("conflicts", CONFLICT, False), ("duplicates", SAME, False))
        for half in (*HALVES, "both")
    }
    timing.table([_row(name, one) for name, one in scores.items()])
    later = [one.later for one in told if one.said == one.pair.label == CONFLICT and one.pair.later]
    timing.say(f"the later side was named in {sum(later)} of {len(later)} conflicts whose words tell it")
    timing.table([{"they stand": name, **{what: found.get(what, 0) for what in WHAT}} for name, found in ends.items()])
    fast = pace()
    timing.say(f"{fast['memories']:,} memories: {fast['conflicts_cpu_s']} + {fast['duplicates_cpu_s']} CPU seconds")
    timing.finish("tidy", {**scores, "through": ends, "pace": fast, "pairs": len(told)}, bars=bars(scores))


def kinds(told: Sequence[Told]) -> list[dict[str, object]]:
    """Per half and kind, how many pairs were told right."""
    groups: dict[tuple[str, str, str], list[Told]] = {}
    for one in told:
        groups.setdefault((one.pair.half, one.pair.kind, one.pair.label), []).append(one)
    return [
        {
            "half": half,
            "kind": kind,
            "label": label,
            "pairs": len(these),
            "right": sum(one.said == label for one in these),
        }
        for (half, kind, label), these in groups.items()
    ]


def bars(scores: Mapping[str, Score]) -> list[timing.Bar]:
    """What is asked of conflicts of an exact relation, in each half."""
    return [
        timing.Bar(f"{what} of {EXACT}, {half}", getattr(scores[f"{EXACT}, {half}"], what), bar, least=True)
        for half in (*HALVES, "both")
        for what, bar in (("precision", 0.95), ("recall", 0.85))
    ]


def _row(name: str, one: Score) -> dict[str, object]:
    return {
        "what": name, "pairs": one.pairs, "precision": one.precision,
        "95% of draws": f"{one.precision_low} to {one.precision_high}", "recall": one.recall,
        "95% of draws ": f"{one.recall_low} to {one.recall_high}",
    }  # fmt: skip


if __name__ == "__main__":
    main()
