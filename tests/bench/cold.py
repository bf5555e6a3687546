"""What a fresh process costs: `memos --help` and one `memos query`, beside the interpreter and the imports it replaces.

CPU seconds (user and system) of the whole process, since a cold start is nearly all work and no waiting, and other
users of the machine stretch the clock but hardly the CPU time. Each row is run in turns with the others. The bars:
90 ms for the help, 0.8 s for a hybrid query of a cube of 1,000 memories, 0.6 s for one by words alone. Most of both is
importing lancedb (its Rust library is 250 MB) and, for a hybrid query, loading the embedder's graph. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench import timing
from tests.bench.timing import Bar, Spread
from tests.bench.turns import ROOT, source_name, turns

MEMORIES = 1000
QUESTION = "what did they say about the painting of the sunrise?"
MEMOS = [sys.executable, "-m", "memos_cli"]
BARS = {"memos --help": 0.09, "memos query, hybrid": 0.8, "memos query, by words": 0.6}
# How a query would be embedded without the way that memos takes; only those that are installed are run.
SLOW_ENCODER = "import torch, transformers; transformers.AutoModel"


def make_cubes(folder: Path) -> dict[str, str]:
    """Two cubes of the same turns, with and without vectors; the environment that finds them."""
    (folder / "talk.jsonl").write_text("".join(turn.line() for turn in turns(MEMORIES)), encoding="utf-8")
    env = timing.light(MEMOS_HOME=str(folder / "home"), PYTHONPATH=str(ROOT))
    for name, embedder in (("hybrid", "minilm"), ("words", "none")):
        arguments = ["ingest", str(folder / f"{name}.cube"), str(folder / "talk.jsonl"), "--embedder", embedder]
        made = timing.run([*MEMOS, *arguments], env=env)
        if made.code:
            raise SystemExit(made.out)
    return env


def commands(folder: Path, *, all_baselines: bool) -> dict[str, list[str]]:
    """What is run, by the name it has in the table."""
    query = {
        "memos query, hybrid": [*MEMOS, "query", str(folder / "hybrid.cube"), QUESTION],
        "memos query, by words": [*MEMOS, "query", str(folder / "words.cube"), QUESTION],
    }
    slow = {"import torch, transformers": SLOW_ENCODER, "import sentence_transformers": "import sentence_transformers"}
    snippets = {
        "python -c pass": "pass",
        "import typer": "import typer",
        "import lancedb": "import lancedb",
        "import lancedb, memos's way": "from memos_cli.cube import lance; lance.load()",
        "import onnxruntime": "import onnxruntime",
        **(slow if all_baselines else {}),
    }
    return {
        "memos --help": [*MEMOS, "--help"],
        "memos query --help": [*MEMOS, "query", "--help"],
        **query,
        **{name: [sys.executable, "-c", code] for name, code in snippets.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--all-baselines", action="store_true", help="time torch and sentence-transformers too (slow)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = make_cubes(folder)
        found: dict[str, list[timing.Run]] = {}
        work = commands(folder, all_baselines=given.all_baselines)
        for lap in range(given.runs + 1):
            for label, command in work.items():
                done = timing.run(command, env=env)
                if lap and not done.code:  # the first warms the disk's cache; what is not installed has no row
                    found.setdefault(label, []).append(done)
    rows = [
        {"command": label, "cpu_ms": Spread.of([run.cpu_s for run in runs], scale=1e3, digits=0),
         "wall_ms": Spread.of([run.wall_s for run in runs], scale=1e3, digits=0),
         "rss_mb": round(max(run.rss_mb for run in runs)), "bar_ms": BARS.get(label, 0) * 1e3 or None}
        for label, runs in found.items()
    ]  # fmt: skip
    timing.say(f"{MEMORIES} memories from {source_name()}; median (least..9 of 10) of {given.runs} runs")
    timing.table(rows)
    medians = {label: Spread.of([run.cpu_s for run in runs]).median for label, runs in found.items()}
    bars = [Bar(f"{label}, CPU s", medians[label], bar) for label, bar in BARS.items()]
    timing.finish("cold", {"turns": source_name(), "rows": rows}, bars=bars)


if __name__ == "__main__":
    main()
