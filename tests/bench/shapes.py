"""Models of a known shape with random weights, their memories in files, and what reading them should cost.

Random weights compute as fast as trained ones, and say nothing of quality. Qwen3's classes from transformers, attention
through sdpa; the vocabulary is small unless a row says otherwise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.infrastructure.dumper import About, Storage, dump, header_of
from memos_cli.infrastructure.loader import load
from memos_cli.runtime import kv
from memos_cli.runtime.fingerprint import Fingerprint

if TYPE_CHECKING:
    from memos_cli.cube.activation import Activation

# Of a model that nobody stores: what a fingerprint costs is paid once, when a model is loaded.
PRINT = Fingerprint(
    dict.fromkeys(
        ("adapters", "architecture", "config", "layout", "rope", "tokenizer", "weights", "format", "quantization"),
        "0" * 64,
    ),
    {"device": "cpu"},
)
ABOUT = About("bench", "sha256:" + "0" * 64, "segment", {"tool": "bench", "made_at": "2026-01-01T00:00:00Z"})


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's sizes, and the dtype that it computes in."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int = 8192
    dtype: str = "float32"

    def told(self) -> str:
        """The shape in a line."""
        return (
            f"{self.name}: {self.layers} layers, hidden {self.hidden}, {self.heads} heads, {self.kv_heads} kv heads of "
            f"{self.head_dim}, MLP {self.mlp}, vocabulary {self.vocabulary}, {self.dtype}, "
            f"{self.parameters / 1e6:.0f}M parameters"
        )

    @property
    def linear(self) -> int:
        """Weights that each token is multiplied with, but for the head's."""
        attention = 2 * self.heads * self.head_dim + 2 * self.kv_heads * self.head_dim
        return self.layers * self.hidden * (attention + 3 * self.mlp)

    @property
    def parameters(self) -> int:
        """All weights of matrices; the embedding is the head's too."""
        return self.linear + self.vocabulary * self.hidden

    def flops(self, tokens: int, *, before: int = 0) -> float:
        """To read `tokens` after `before` others: matrices, causal attention, and the head for the last one."""
        end = before + tokens
        attention = self.layers * 4 * self.heads * self.head_dim * (end**2 - before**2) / 2
        return 2.0 * self.linear * tokens + attention + 2.0 * self.vocabulary * self.hidden

    def limit(self, context: int, question: int) -> float:
        """How many times as fast a question is read when all of its context is there: by multiplications alone."""
        return self.flops(context + question) / self.flops(question, before=context)

    def token_bytes(self) -> int:
        """What keys and values of a token take."""
        return 2 * self.layers * self.kv_heads * self.head_dim * (4 if self.dtype == "float32" else 2)


# Wide and of few layers, so that attention takes a share of the work nearer to that in large models.
SMALL = Shape("45M", 4, 896, 14, 7, 64, 2560)
QWEN = Shape("Qwen3-0.6B", 28, 1024, 16, 8, 128, 3072)
LARGE = Shape("Qwen3-8B", 36, 4096, 32, 8, 128, 12288, vocabulary=151936, dtype="bfloat16")


def in_dtype(shape: Shape, dtype: str) -> Shape:
    """The same sizes in another dtype."""
    return replace(shape, dtype=dtype)


def new_network(shape: Shape, *, device: str = "cpu") -> Any:
    """A model of the shape; the same weights each time on a device."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config
    from transformers.initialization import no_init_weights

    config = Qwen3Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim, max_position_embeddings=16384, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device(device), no_init_weights():
        dtype = getattr(torch, shape.dtype)
        network = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
    torch.manual_seed(0)
    # drawn once and laid over all, which no multiplication is faster for, and takes seconds in place of minutes
    noise = torch.randn(1 << 22, device=device)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1.0) if weight.dim() == 1 else _cover(weight, noise)
    return network


def _cover(weight: Any, noise: Any) -> None:
    flat, scale = weight.view(-1), weight.shape[1] ** -0.5
    for start in range(0, flat.numel(), noise.numel()):
        part = flat[start : start + noise.numel()]
        part.copy_(noise[: part.numel()] * scale)


def tokens_of(count: int, *, first: int = 0) -> list[int]:
    """So many tokens of no meaning, each after the one before it."""
    return [(at * 7919) % 8000 + 5 for at in range(first, first + count)]


def store(folder: Path, network: Any, memory: kv.Memory, *, name: str = "bench", bits: int | None = None) -> Activation:
    """The memory in a real file of the format."""
    about = replace(ABOUT, memory=name)
    header = header_of(network, memory.ids, about, fingerprint=PRINT, storage=Storage(bits=bits), position=memory.base)
    return dump(folder, header, memory, network)


def held(path: Path, network: Any) -> kv.Memory:
    """The memory of a file, mapped anew."""
    memory = load(path, network, fingerprint=PRINT).memory
    assert isinstance(memory, kv.Memory)
    return memory


def first_token(read: kv.Pass) -> int:
    """The likeliest next token; on an accelerator this waits for it."""
    return int(read.logits[-1].argmax())


def from_text(network: Any, ids: Sequence[int]) -> int:
    """The first token of an answer when all of the prompt is read."""
    return first_token(kv.forward(network, ids, cache=kv.new_cache(network), position=0, logits=1))


def from_file(network: Any, path: Path, question: Sequence[int]) -> int:
    """The same when the memory comes from its file, which is opened, checked and mapped each time."""
    return first_token(kv.resume(network, held(path, network), question, logits=1))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for files of the format, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="memos-bench-") as name:
        yield Path(name)
