"""Small adapters with random numbers, trained by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memos_cli.runtime import adapter

TOKENS = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38]


def scatter(adapted: adapter.Adapted, *, seed: int, width: float = 0.3) -> None:
    """Random numbers in every matrix of the adapter that is trained, so that it does something."""
    import torch

    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in adapted.parameters():
            one.copy_(torch.randn(one.shape, generator=made) * width)


def save_random(
    network: Any, folder: Path, *, seed: int, rank: int = 4, targets: Sequence[str] | None = None, base: str = "tiny",
    beneath: Sequence[Path] = (), **more: Any,
) -> Path:  # fmt: skip
    """An adapter for a network, in `folder`; the network is as before."""
    with adapter.fresh(network, rank=rank, targets=targets, seed=seed, beneath=beneath, **more) as made:
        scatter(made, seed=seed)
        adapter.save(made, folder, base=base)
    return folder


def logits(network: Any, ids: Sequence[int] = TOKENS) -> Any:
    """What a network says to some tokens: [tokens, vocabulary]."""
    import torch

    with torch.no_grad():
        return network(input_ids=torch.tensor([list(ids)])).logits[0]
