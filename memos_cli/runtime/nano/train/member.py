"""What each process of a training run does. (Not in __main__: a process that is begun anew cannot import that.)"""

from __future__ import annotations

from pathlib import Path

import torch

from memos_cli.runtime.nano.train.export import export
from memos_cli.runtime.nano.train.loop import train
from memos_cli.runtime.nano.train.schedule import Run
from memos_cli.runtime.nano.train.team import Team

EXPORTED = "model"


def work(team: Team, run: Run, folder: Path, workers: int) -> None:
    """Trains with the team; its first member exports."""
    torch.set_num_threads(1)
    train(run, folder, device="cuda" if torch.cuda.is_available() else "cpu", workers=workers, say=say, team=team)
    if team.leads:
        say(f"{export(folder, folder / EXPORTED):,} bytes in {folder / EXPORTED}")


def say(line: str) -> None:
    """A line for whoever watches."""
    print(line, flush=True)  # noqa: T201
