"""What is left of a memory after it was deleted: by LanceDB's own delete, by hiding, by a purge.

    python -m tests.bench.forget [ROWS]

Lance never rewrites a data file for a deleted row, so the bytes stay until the table is written anew; a text index
keeps the words of a row for as long as it is only brought up to date. The same look goes through the files each time;
each kind of trace is counted once per memory. A purge is a table written and indexed anew, and a look through every
file, so its time is given as a ratio to `memos reindex --embedder none` of the same cube. Last, the shipped model is
asked for a few facts: the mean log-probability of the answers, in nats, with what the cube recalls as text and as
caches, before and after, beside the same without any cube. The last line is JSON.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from memos_cli.cube import search
from memos_cli.cube.plaintext import Memories
from memos_cli.interface import api
from memos_cli.operation.needles import KINDS, Haystack, of_text
from memos_cli.operation.proof import look, unshared

RUNS, GONE = 5, 5


def main() -> None:
    """Prints the table, and the line of JSON."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        cube = _make(top, rows)
        traces = {
            name: _traces(cube, top / f"{number}.cube", delete) for number, (name, delete) in enumerate(WAYS.items())
        }
        purge = [_seconds(cube, top / "timed.cube", _purge) for _ in range(RUNS + 1)][1:]
        reindex = [_seconds(cube, top / "timed.cube", _reindex) for _ in range(RUNS + 1)][1:]
        heard = _heard(top)
    print(f"traces of {GONE} of {rows} memories, by kind (of {GONE} each)\n")  # noqa: T201
    for name, found in traces.items():
        print(f"{name:44}" + "  ".join(f"{kind} {found.get(kind, 0)}" for kind in KINDS[:3]))  # noqa: T201
    ratio = statistics.median(purge) / statistics.median(reindex)
    spread = [f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})" for times in (purge, reindex)]
    print(f"\npurge and proof {spread[0]}, reindex {spread[1]}: {ratio:.2f} times as long")  # noqa: T201
    print("\nmean log-probability of the answers to facts, in nats\n")  # noqa: T201
    for name, nats in heard.items():
        print(f"{name:44}{nats:8.3f}")  # noqa: T201
    print(json.dumps({"rows": rows, "traces": traces, "ratio": round(ratio, 3), "nats": heard}))  # noqa: T201


def _heard(top: Path) -> dict[str, float]:
    """What the shipped model makes of facts before and after they are forgotten for good."""
    from memos_cli.infrastructure.identity import default_home
    from tests.interface import heard

    listener = heard.Listener(default_home() / "cache")
    cube = heard.make(top / "facts.cube", [text for text, _, _ in heard.FACTS])

    def mean(ask: Callable[[str, str], float]) -> float:
        return round(statistics.mean(ask(question, answer) for _, question, answer in heard.FACTS), 4)

    def told(when: str) -> dict[str, float]:
        return {
            f"text, {when}": mean(lambda question, answer: listener.reading(cube, question, answer)),
            f"caches, {when}": mean(lambda question, answer: listener.loading(cube, question, answer)),
        }

    found = told("before")
    heard.purge(cube)
    return {**found, **told("after memos forget --purge"), "without the cube": mean(listener.alone)}


def _make(top: Path, rows: int) -> Path:
    rng = random.Random(7)
    pool = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9))) for _ in range(4000)]
    lines = (" ".join(rng.choice(pool) for _ in range(20)) + f" own{number:06d}word" for number in range(rows))
    (top / "notes.md").write_text("\n\n".join(lines))
    api.ingest(top / "a.cube", [str(top / "notes.md")], embedder="none")
    return top / "a.cube"


def _chosen(cube: Path) -> list[dict[str, str]]:
    table = Memories.open(cube / "current" / "plaintext").rows(columns=["id", "text"]).to_pylist()
    step = len(table) // GONE
    return [table[step // 2 + step * number] for number in range(GONE)]


def _copied(cube: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(cube, place, symlinks=True)
    return place


def _traces(cube: Path, place: Path, delete: Callable[[Path, list[str]], Path]) -> dict[str, int]:
    gone = _chosen(cube)
    where = delete(_copied(cube, place), [row["id"] for row in gone])
    wanted = Haystack(needle for row in gone for needle in of_text(row["id"], row["text"]))
    left = Memories.open(where / "current" / "plaintext" if (where / "current").exists() else where)
    texts = [row["text"] for row in gone]
    if left.count(" or ".join(f"text = '{text}'" for text in texts)) == 0:
        wanted, _, _ = unshared([left], wanted)
    found = {(trace.memory, trace.kind) for trace in look(where, wanted).found}
    return {kind: sum(one == kind for _, one in found) for kind in KINDS[:3]}


def _nothing(cube: Path, ids: list[str]) -> Path:
    return cube


def _lancedb(cube: Path, ids: list[str]) -> Path:
    """As one does with LanceDB: delete, then optimize, which removes all earlier versions of the table."""
    place = cube.with_suffix(".lancedb")
    shutil.copytree(cube / "current" / "plaintext", place)
    memories = Memories.open(place)
    memories.table.delete(f"id in ({', '.join(repr(one) for one in ids)})")
    search.tidy(memories.table)
    return place


def _hide(cube: Path, ids: list[str]) -> Path:
    api.forget(cube, ids=ids)
    return cube


def _purge(cube: Path, ids: list[str]) -> Path:
    proof = api.purge(cube, ids=ids).proof
    assert proof is not None
    assert proof.sound, proof
    return cube


def _reindex(cube: Path, ids: list[str]) -> Path:
    api.reindex(cube, embedder="none")
    return cube


WAYS = {
    "nothing done": _nothing, "LanceDB: delete, optimize, clean up": _lancedb, "memos forget": _hide,
    "memos forget --purge": _purge,
}  # fmt: skip


def _seconds(cube: Path, place: Path, work: Callable[[Path, list[str]], Path]) -> float:
    ids = [row["id"] for row in _chosen(cube)]
    copied = _copied(cube, place)
    start = time.perf_counter()
    work(copied, ids)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
