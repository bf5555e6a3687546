"""Several plain LoRA as one, by exact algebra on their numbers; no network is needed.

Side by side along the rank (`concatenate`) the deltas add up exactly, whatever the ranks, scales and modules; that this
is also what a model should know is for its tests to say. A singular value decomposition at the true rank
(`recompress`) says the same in fewer numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.errors import Usage
from memos_cli.runtime.adapter_files import Plain, read_plain, write_plain

if TYPE_CHECKING:
    import torch

# Singular values below this share of a module's largest are rounding of float32 products.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True, slots=True)
class Fused:
    """What was made: its rank, and the largest error of a module's delta relative to the exact sum (Frobenius)."""

    rank: int
    error: float


def concatenate(folders: Sequence[Path], target: Path, *, base: str = "") -> Fused:
    """One adapter in the new folder `target` whose delta is the sum of those in `folders`; its rank is their sum.

    Raises Usage for none at all, Damaged, NotFound.
    """
    made = _side_by_side([read_plain(folder) for folder in folders])
    write_plain(target, made, base=base)
    return Fused(made.rank, 0.0)


def recompress(folders: Sequence[Path], target: Path, *, rank: int | None = None, base: str = "") -> Fused:
    """The summed delta of the adapters in `folders`, as one in the new folder `target`, of the least rank that has it.

    A `rank` above it is filled with zeros. Raises Usage for one below: what is left out would be of some memory.
    """
    import torch

    wide = _side_by_side([read_plain(folder) for folder in folders])
    parts = {module: _decompose(a, b) for module, (a, b) in wide.pairs.items()}
    true = max(1, *(values.numel() for _, values, _ in parts.values()))
    if rank is not None and rank < true:
        raise Usage(f"the rank of {len(folders)} adapters together is {true}, found {rank}", hint=f"--rank {true}")
    rank = rank or true
    pairs, error = {}, 0.0
    for module, (left, values, right) in parts.items():
        root = values.sqrt()
        a, b = torch.zeros(rank, right.shape[1]), torch.zeros(left.shape[0], rank)
        a[: values.numel()] = (root[:, None] * right).float()
        b[:, : values.numel()] = (left * root).float()
        pairs[module] = (a, b)
        error = max(error, _error(wide.pairs[module], (a, b)))
    write_plain(target, Plain(rank, float(rank), wide.targets, pairs, wide.transposed), base=base)
    return Fused(rank, error)


def _side_by_side(parts: Sequence[Plain]) -> Plain:
    """Scales go into B; a module that an adapter lacks gets zeros, so that all have one rank."""
    import torch

    if not parts:
        raise Usage("expected adapters to make one of, found none")
    rank = sum(part.rank for part in parts)
    sizes: dict[str, tuple[int, int]] = {}
    for part in parts:
        for module, (a, b) in part.pairs.items():
            size = (a.shape[1], b.shape[0])
            if sizes.setdefault(module, size) != size:
                raise Usage(f"expected adapters of one model, found {module} of {sizes[module]} and {size} numbers")
    pairs = {}
    for module, (inputs, outputs) in sorted(sizes.items()):
        a, b, row = torch.zeros(rank, inputs), torch.zeros(outputs, rank), 0
        for part in parts:
            if module in part.pairs:
                a[row : row + part.rank] = part.pairs[module][0]
                b[:, row : row + part.rank] = part.pairs[module][1] * part.scale
            row += part.rank
        pairs[module] = (a, b)
    targets = tuple(sorted({target for part in parts for target in part.targets}))
    return Plain(rank, float(rank), targets, pairs, any(part.transposed for part in parts))


def _decompose(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left vectors [out, rank], values and right vectors [rank, in] of B @ A, in float64, without its zero part.

    By way of two thin factors, so that no matrix is larger than the adapter itself.
    """
    import torch

    left, upper = torch.linalg.qr(b.double())
    right, lower = torch.linalg.qr(a.double().T)
    u, values, v = torch.linalg.svd(upper @ lower.T)
    kept = int((values > NEGLIGIBLE * values.max()).sum()) if bool(values.any()) else 0
    return left @ u[:, :kept], values[:kept], v[:kept] @ right.T


def _error(exact: tuple[torch.Tensor, torch.Tensor], made: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The relative Frobenius error of a delta, from its factors alone."""
    import torch

    a = torch.cat([exact[0], made[0]]).double()
    b = torch.cat([exact[1], -made[1]], dim=1).double()
    norm = _norm(exact[0].double(), exact[1].double())
    return _norm(a, b) / norm if norm else 0.0


def _norm(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt())
