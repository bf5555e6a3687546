"""python -m memos_cli.runtime.nano.train FOLDER: from a seed to the weights, going on from what FOLDER has."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from memos_cli.runtime.nano.train.loop import tokenizer_in
from memos_cli.runtime.nano.train.member import say, work
from memos_cli.runtime.nano.train.schedule import RUNS
from memos_cli.runtime.nano.train.team import together


def main() -> None:
    """Trains and exports."""
    options = argparse.ArgumentParser(prog="python -m memos_cli.runtime.nano.train", description=__doc__)
    options.add_argument("folder", type=Path, help="where checkpoints, log and the finished model go")
    options.add_argument("--run", choices=sorted(RUNS), default="gpu" if torch.cuda.is_available() else "cpu")
    options.add_argument("--tokens", type=int, help="train on so many tokens instead of the run's own number")
    options.add_argument(
        "--processes", type=int, help="processes that share each step (default: one a core, two at most)"
    )
    options.add_argument("--workers", type=int, default=0, help="processes that make examples, for each of these")
    given = options.parse_args()
    run = RUNS[given.run]
    run = replace(run, falls=(given.tokens,)) if given.tokens else run
    tokenizer_in(run, given.folder, say)
    together(given.processes or _processes(), work, run, given.folder, given.workers)


def _processes() -> int:
    # more gain little: each of them makes all examples, and a step has few batches of many facts
    return 1 if torch.cuda.is_available() else min(2, len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
