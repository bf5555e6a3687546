"""What memories would take under a model that nobody has measured here: Memory3's count of operations, in seconds.

Memory3 (arXiv 2407.01178, appendix A) counts the floating-point operations of reading a text, of writing its keys and
values, and of reading those. They become seconds by what this machine does in a matrix product, and bytes by how fast
it reads a file; the count leaves out all that is neither, so what comes out is a guess and is called one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from memos_cli.errors import Damaged
from memos_cli.operation.rates import ESTIMATED, Point, Rates

# The paper's length of a question.
QUESTION_TOKENS = 64
# Making a memory reads its text once, and proving it reads it about so many times more.
PROOF_PASSES = 3
SIZES = (16, 64, 256)
_PRODUCT = 512
_FILE_BYTES = 16 << 20
_HEADER_BYTES = 4096
# Weights beyond this are computed with in 16 bits, as the runtime does.
_WIDE_WEIGHTS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a decoder that decide what it takes: layers, width, heads and their size, the MLP's width."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int

    @property
    def attended(self) -> int:
        """A of the count: the width of all heads."""
        return self.heads * self.head_width

    @property
    def projections(self) -> int:
        """P: multiplications of a token for queries, keys, values and output, in one layer."""
        return 2 * self.width * self.attended + 2 * self.width * self.head_width * self.kv_heads

    @property
    def mlp(self) -> int:
        """M: those of a gated MLP."""
        return 3 * self.width * self.mlp_width

    @property
    def element_bytes(self) -> int:
        """Bytes of a number in its cache."""
        return 4 if self.layers * (self.projections + self.mlp) < _WIDE_WEIGHTS else 2


@dataclass(frozen=True, slots=True)
class Speed:
    """What this machine does: floating-point operations a second in a matrix product, bytes a second from a file."""

    flops: float
    bytes: float


def shape_of(folder: Path) -> Shape:
    """The shape that a model's config.json says. Raises Damaged when it does not say one."""
    path = folder / "config.json"
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        told = told.get("text_config") or told
        heads, width = int(told["num_attention_heads"]), int(told["hidden_size"])
        return Shape(
            int(told["num_hidden_layers"]), width, heads, int(told.get("num_key_value_heads") or heads),
            int(told.get("head_dim") or width // heads), int(told["intermediate_size"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise Damaged(f"{path} does not tell the shape of a decoder: {error}"[:500]) from error


def plain_flops(shape: Shape, tokens: int) -> float:
    """Reading a text and a question after it: cost_read of plaintext."""
    half = tokens / 2 + QUESTION_TOKENS
    attended = 2 * tokens * half * shape.attended
    return 2 * (
        shape.layers * (tokens * shape.projections + attended) + (shape.layers - 1) * tokens * shape.mlp
    )  # fmt: skip


def write_flops(shape: Shape, tokens: int) -> float:
    """Making the keys and values of a text in every layer: cost_write of explicit memory, with nothing left out."""
    attended = 2 * tokens * tokens / 2 * shape.attended
    return 2 * (shape.layers * (tokens * shape.projections + attended) + (shape.layers - 1) * tokens * shape.mlp)


def read_flops(shape: Shape, tokens: int) -> float:
    """A question that attends to keys and values that are there: cost_read of explicit memory."""
    return 2 * shape.layers * 2 * QUESTION_TOKENS * tokens * shape.attended


def machine_speed() -> Speed:
    """What this machine does, from a product and a file; the best of a few runs."""
    import numpy as np

    square = np.ones((_PRODUCT, _PRODUCT), np.float32)
    product = min(_timed(lambda: square @ square) for _ in range(5))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bytes"
        path.write_bytes(bytes(_FILE_BYTES))
        reading = min(_timed(path.read_bytes) for _ in range(3))
    return Speed(2 * _PRODUCT**3 / product, _FILE_BYTES / reading)


def _timed(work: Any) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def rates_of(shape: Shape, speed: Speed, *, model: str, weights: str, machine: str, made_at: str) -> Rates:
    """The rates that a shape and a speed make likely."""
    points = tuple(_point(shape, speed, tokens) for tokens in SIZES)
    return Rates(ESTIMATED, model, weights, machine, made_at, points)


def _point(shape: Shape, speed: Speed, tokens: int) -> Point:
    size = 2 * shape.layers * shape.kv_heads * shape.head_width * shape.element_bytes * tokens + _HEADER_BYTES
    moving = size / speed.bytes
    writing = (1 + PROOF_PASSES) * write_flops(shape, tokens) / speed.flops + moving
    return Point(
        tokens, size, writing, plain_flops(shape, tokens) / speed.flops,
        moving + read_flops(shape, tokens) / speed.flops,
    )  # fmt: skip
