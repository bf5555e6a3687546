"""Several processes on one step: nothing read twice, nothing left out, the same weights as from one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from memos_cli.runtime.nano.train import loop
from memos_cli.runtime.nano.train.loop import Steps, load_network, tokenizer_in
from memos_cli.runtime.nano.train.member import work
from memos_cli.runtime.nano.train.schedule import RUNS
from memos_cli.runtime.nano.train.team import Team, _cost, together

SMOKE = RUNS["smoke"]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_batch_is_one_member_s(tmp_path: Path, size: int) -> None:
    steps = Steps(SMOKE, tokenizer_in(SMOKE, tmp_path, lambda _: None), 0, 0)
    batches = steps[0]
    shares = [Team(rank, size).share(batches) for rank in range(size)]
    assert sorted(id(batch) for share in shares for batch in share) == sorted(id(batch) for batch in batches)
    loads = [sum(map(_cost, share)) for share in shares]
    assert max(loads) - min(loads) <= max(map(_cost, batches))


@pytest.mark.long
def test_two_processes_reach_the_weights_of_one(tmp_path: Path) -> None:
    run = replace(SMOKE, falls=(8_000,))
    for size in (1, 2):
        folder = tmp_path / str(size)
        tokenizer_in(run, folder, lambda _: None)
        together(size, work, run, folder, 0)
    one, two = (load_network(tmp_path / str(size)) for size in (1, 2))
    for name, weights in one.named_parameters():
        # sums in another order; a step is about .003
        assert torch.allclose(weights, dict(two.named_parameters())[name], atol=1e-4), name
    logs = [(tmp_path / str(size) / loop.LOG_FILE).read_text() for size in (1, 2)]
    assert logs[0].count("\n") == logs[1].count("\n") > 0


@pytest.mark.long
def test_what_fails_in_one_process_ends_all(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(ProcessRaisedException, match="Is a directory"):
        together(2, work, SMOKE, tmp_path, 0)
