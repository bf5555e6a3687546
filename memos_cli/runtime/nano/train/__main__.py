"""python -m memos_cli.runtime.nano.train FOLDER: from a seed to the weights, going on from what FOLDER has."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from memos_cli.runtime.nano.train.export import export
from memos_cli.runtime.nano.train.loop import train
from memos_cli.runtime.nano.train.schedule import RUNS

EXPORTED = "model"


def main() -> None:
    """Trains and exports."""
    options = argparse.ArgumentParser(prog="python -m memos_cli.runtime.nano.train", description=__doc__)
    options.add_argument("folder", type=Path, help="where checkpoints, log and the finished model go")
    options.add_argument("--run", choices=sorted(RUNS), default="gpu" if torch.cuda.is_available() else "cpu")
    options.add_argument("--tokens", type=int, help="train on so many tokens instead of the run's own number")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--workers", type=int, default=0, help="processes that make examples")
    given = options.parse_args()
    run = RUNS[given.run]
    run = replace(run, falls=(given.tokens,)) if given.tokens else run
    torch.set_num_threads(given.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train(run, given.folder, device=device, workers=given.workers, say=_say)
    _say(f"{export(given.folder, given.folder / EXPORTED):,} bytes in {given.folder / EXPORTED}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
