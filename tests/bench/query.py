"""What a warm query costs: `api.query_many` in one process, beside the calls of LanceDB that it makes.

For each prompt memos is timed as it serves it (governance, the access log and the answer with its places included),
and then the same work done bare: the query's embedding and, through LanceDB's own builder, exactly the calls that the
prompt made, which were noted down from the first round. The bar is 1.15 times that. `--large` makes a table of a
million rows as well: it must answer in at most three times the time of 10,000, and its vector index must find 0.98 of
the ten nearest. The vectors are synthetic (`synthetic.py`), so nothing here tells how well memories are found;
`recall.py` does. A table of up to 50,000 rows is held in memory, so its first query, told apart, takes longer. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  a benchmark computes

from memos_cli.cube import lance, search
from memos_cli.interface import api
from memos_cli.runtime import embed
from tests.bench import synthetic, timing
from tests.bench.timing import Bar, Spread
from tests.bench.turns import turns

CALLS = ("text_list", "vector_list", "scan", "take", "count")
LARGE = 1_000_000


def prompts(count: int) -> list[str]:
    """Different questions in words that the table has."""
    asked = (f"what did they say about {' '.join(turn.text.split()[2:9])}?" for turn in turns(3 * count))
    return list(dict.fromkeys(asked))[:count]


@contextmanager
def noting(calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]) -> Iterator[None]:
    """Notes each call of `cube.search`, which all of a query's reads go through."""
    real = {name: getattr(search, name) for name in CALLS}

    def noted(name: str) -> Callable[..., Any]:
        def call(table: Any, *args: Any, **settings: Any) -> Any:
            calls.append((real[name], args, settings))
            return real[name](table, *args, **settings)

        return call

    for name in CALLS:
        setattr(search, name, noted(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(search, name, function)


class Served:
    """An open cube that answers one prompt after another, and the same work done bare."""

    def __init__(self, root: Path, *, home: Path, mode: str) -> None:
        self._asked: list[str] = []
        self._answers = api.query_many([root], iter(self._next, None), mode=mode, home=home)
        self._table = lance.Table(root / "current" / "plaintext", "memories")
        self._table.whole  # noqa: B018  opened by lancedb itself
        self._embedder = embed.open_embedder(home=home) if mode != "text" else None

    def _next(self) -> str:
        return self._asked.pop()

    def answer(self, prompt: str) -> Any:
        """memos, whole."""
        self._asked.append(prompt)
        return next(self._answers)

    def bare(self, prompt: str, calls: list[Any]) -> None:
        """The embedding and the calls of LanceDB alone."""
        if self._embedder:
            self._embedder.embed([prompt])
        for function, args, settings in calls:
            function(self._table, *args, **settings)


class Measured:
    """One cube in one mode: its times prompt by prompt."""

    def __init__(self, root: Path, *, home: Path, mode: str, first: str) -> None:
        self.mode, self._served = mode, Served(root, home=home, mode=mode)
        self._pairs: list[tuple[float, float]] = []
        self._stages: list[dict[str, float]] = []
        self._calls = 0
        begin = time.perf_counter()
        self._served.answer(first)
        self._first_s = time.perf_counter() - begin
        self._served.answer(first)  # the second question of a large table learns what its rows have in common

    def ask(self, prompt: str) -> None:
        """Times memos and bare."""
        calls: list[Any] = []
        with noting(calls):
            self._stages.append(dict(self._served.answer(prompt).seconds))
        self._calls = len(calls)
        self._pairs += timing.measure_pairs(
            lambda: self._served.answer(prompt), lambda: self._served.bare(prompt, calls), times=1, warm=0
        )

    def told(self) -> dict[str, Any]:
        """What came out of it."""
        inside = {name: statistics.median(each[name] for each in self._stages) for name in self._stages[0]}
        return {
            "mode": self.mode, "first_ms": round(1e3 * self._first_s, 1),
            "memos_ms": Spread.of([a for a, _ in self._pairs], scale=1e3),
            "bare_ms": Spread.of([b for _, b in self._pairs], scale=1e3),
            "ratio": Spread.of(timing.ratios(self._pairs)), "lance_calls": self._calls,
            "stages_ms": {name: round(1e3 * seconds, 2) for name, seconds in inside.items()},
        }  # fmt: skip


def measure(roots: list[Path], *, home: Path, mode: str, asked: list[str]) -> list[dict[str, Any]]:
    """Times of all prompts, each put to one cube after the other, so that what slows the machine slows all alike."""
    cubes = [Measured(root, home=home, mode=mode, first=asked[0]) for root in roots]
    for number, prompt in enumerate(asked):
        for cube in cubes if number % 2 else cubes[::-1]:
            cube.ask(prompt)
    return [cube.told() for cube in cubes]


def vector_recall(root: Path, *, rows: int, count: int) -> dict[str, float]:
    """Of the ten nearest rows, the share in the vector list of 100, which is ranked exactly, and in its first ten."""
    table = lance.open_table(root / "current" / "plaintext", "memories")
    asked = synthetic.questions(count)
    best = np.full((count, 10), -2.0, np.float32)
    names = np.full((count, 10), -1, np.int64)
    for number, near in enumerate(synthetic.vectors(rows)):
        scores = np.concatenate([best, asked @ near.T], axis=1)
        here = np.arange(len(near)) + number * synthetic.BATCH
        known = np.concatenate([names, np.broadcast_to(here, (count, len(near)))], axis=1)
        top = np.argpartition(-scores, 10, axis=1)[:, :10]
        best, names = np.take_along_axis(scores, top, 1), np.take_along_axis(known, top, 1)
    deep, shallow = [], []
    for vector, right in zip(asked, names, strict=True):
        listed = search.vector_list(table, vector, column="vector", limit=100)["_rowid"].to_pylist()
        positions = search.take(table, listed, ["position"])
        place = dict(zip(positions["_rowid"].to_pylist(), positions["position"].to_pylist(), strict=True))
        found = [place[rowid] for rowid in listed]
        deep.append(len(set(right.tolist()) & set(found)) / 10)
        shallow.append(len(set(right.tolist()) & set(found[:10])) / 10)
    return {"recall_at_10": float(np.mean(deep)), "index_order_at_10": float(np.mean(shallow))}


def make(folder: Path, rows: int, *, home: Path) -> tuple[Path, float]:
    """A cube of so many rows, and the seconds that making it took: none for one that is there."""
    embedder = embed.open_embedder(home=home)
    assert embedder
    root = folder / f"{rows}.cube"
    begin = time.perf_counter()
    if not (root / "current").is_dir():
        synthetic.make_cube(root, rows=rows, home=home, embedder=synthetic.EmbedderIdentity(**embedder.identity))
    return root, round(time.perf_counter() - begin, 1)


def measure_all(folder: Path, sizes: list[int], *, asked: list[str], home: Path) -> list[dict[str, Any]]:
    """Everything about cubes of these sizes."""
    made = [make(folder, rows, home=home) for rows in sizes]
    modes = [measure([root for root, _ in made], home=home, mode=mode, asked=asked) for mode in ("hybrid", "text")]
    found = []
    for number, (rows, (root, built)) in enumerate(zip(sizes, made, strict=True)):
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        told = [{"rows": rows, **mode[number]} for mode in modes]
        found.append({"rows": rows, "built_s": built, "mb": round(size / 1e6), "modes": told,
                      **vector_recall(root, rows=rows, count=50)})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000])
    parser.add_argument("--large", action="store_true", help=f"{LARGE} rows too: minutes, and under 4 GB of disk")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the cubes here, or ask those made before")
    given = parser.parse_args()
    sizes = [*given.rows, *([LARGE] if given.large else [])]
    asked = prompts(given.prompts)
    with tempfile.TemporaryDirectory() as name:
        folder = given.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure_all(folder, sizes, asked=asked, home=folder / "home")
    rows = [mode for each in found for mode in each["modes"]]
    timing.say(f"{len(asked)} prompts, each with memos and bare; median (least..9 of 10)")
    timing.table([{name: value for name, value in row.items() if name != "stages_ms"} for row in rows])
    timing.say("stages, median ms")
    timing.table([{"rows": row["rows"], "mode": row["mode"], **row["stages_ms"]} for row in rows])
    timing.table([{name: each[name] for name in ("rows", "built_s", "mb", "recall_at_10", "index_order_at_10")}
                  for each in found])  # fmt: skip
    timing.finish("query", {"sizes": found}, bars=bars(found))


def bars(found: list[dict[str, Any]]) -> list[Bar]:
    """The small table against LanceDB's calls, the large one against the small."""
    small, large = found[0]["modes"], found[-1]["modes"]
    told = [Bar(f"{row['mode']}, {row['rows']} rows, memos over bare", row["ratio"].median, 1.15) for row in small]
    if len(found) > 1:
        for before, after in zip(small, large, strict=True):
            grown = after["memos_ms"].median / before["memos_ms"].median
            told.append(Bar(f"{after['mode']}, {after['rows']} rows over {before['rows']}", round(grown, 2), 3.0))
    told.append(Bar("recall@10 of the vector path", found[-1]["recall_at_10"], 0.98, least=True))
    return told


if __name__ == "__main__":
    main()
