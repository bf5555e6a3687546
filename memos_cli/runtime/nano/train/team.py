"""Several processes on one step: each takes a share of the batches, and their gradients are added up (gloo)."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.spawn import spawn

if TYPE_CHECKING:
    from memos_cli.runtime.nano.train.batches import Batch

# Whoever is paused, for hours maybe, is waited for.
PATIENCE = timedelta(days=7)
# Tokens of a sequence at which its attention costs as much as all else.
EVEN_TOKENS = 1_000


@dataclass(frozen=True, slots=True)
class Team:
    """One member's view of it. The first leads: it alone writes and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the first."""
        return self.rank == 0

    def share(self, batches: Sequence[Batch]) -> list[Batch]:
        """This member's batches: the dearest first, each to whoever has least to do. All members find the same."""
        if self.size == 1:
            return list(batches)
        loads, mine = [0.0] * self.size, []
        for batch in sorted(batches, key=_cost, reverse=True):
            taker = loads.index(min(loads))
            loads[taker] += _cost(batch)
            if taker == self.rank:
                mine.append(batch)
        return mine

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Each tensor becomes the sum of all members' ones, to the same bits with all."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        # Not all_reduce: members whose sums differ in the last bit would drift apart in thousands of steps.
        torch.distributed.reduce(flat, 0)
        torch.distributed.broadcast(flat, 0)
        begin = 0
        for tensor in tensors:
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()


def _cost(batch: Batch) -> float:
    rows, tokens = batch.ids.shape
    return float(rows * tokens * (1 + tokens / EVEN_TOKENS))


def together(size: int, work: Callable[..., None], *given: Any) -> None:
    """Runs `work(team, *given)` in `size` processes, or right here where one is enough. What fails in one ends all."""
    if size == 1:
        work(Team(), *given)
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else it asks for the machine's own name, which may not resolve
    with tempfile.TemporaryDirectory(prefix="memos-nano-") as folder:
        spawn(_member, (size, f"file://{Path(folder) / 'members'}", work, given), nprocs=size)  # type: ignore[no-untyped-call]


def _member(rank: int, size: int, meeting: str, work: Callable[..., None], given: tuple[Any, ...]) -> None:
    # It is told of its parent's end by this signal, which a shell's background job would have it ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        work(Team(rank, size), *given)
    finally:
        torch.distributed.destroy_process_group()
