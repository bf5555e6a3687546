"""Small activation memories for tests, and a forger who seals what should not be."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # the tests it serves are about arrays

from memos_cli.cube import activation
from memos_cli.cube.activation import Activation, Header, Layer, Shape, Tensor
from memos_cli.cube.tensorfile import DTYPES

MEMORY = "1fadeb599750299af612"
HARD = {
    "adapters": [], "architecture": "Qwen3ForCausalLM", "config": "sha256:" + "11" * 32,
    "layout": "sha256:" + "22" * 32, "rope": "sha256:" + "33" * 32, "tokenizer": "sha256:" + "44" * 32,
    "weights": "sha256:" + "55" * 32,
}  # fmt: skip
SOFT = {"attention": "sdpa", "device": "cpu", "torch": "2.13.0"}
TOKENS = 6
LAYERS = (Layer(0, "full", 2, 4, 4, TOKENS), Layer(1, "full", 2, 4, 4, TOKENS))


def header(**fields: Any) -> Header:
    values: dict[str, Any] = {
        "memory": MEMORY,
        "content": "sha256:" + "ab" * 32,
        "kind": "segment",
        "tokens": TOKENS,
        "dtype": "BF16",
        "model_layers": 2,
        "layers": LAYERS,
        "rope": {"state": "post", "type": "default"},
        "hard": HARD,
        "soft": SOFT,
        "source": {"tool": "memos 0.1.0", "made_at": "2026-01-31T12:00:00Z", "memories": [MEMORY]},
        "fidelity": {"kl_mean": 2.5e-4, "noise_kl_mean": 2e-4, "top1": 1.0},
    }
    return Header(**{**values, **fields})


def tensors(head: Header, *, seed: int = 7) -> dict[str, Tensor]:
    """Numbers for all tensors of `head` but the token ids, the same for one seed."""
    random = np.random.default_rng(seed)
    made = {}
    for name, (dtype, shape) in activation.tensors_of(head).items():
        if name.endswith(".positions"):
            array = np.stack([np.sort(random.permutation(head.tokens)[: shape[1]]) for _ in range(shape[0])])
            made[name] = Tensor(dtype, shape, np.ascontiguousarray(array, dtype="<i4"))
        elif dtype == "U8":
            made[name] = Tensor(dtype, shape, random.integers(0, 256, shape, dtype=np.uint8))
        elif dtype == "BF16":
            # The upper half of a float32 is a bfloat16.
            upper = (random.standard_normal(shape, dtype=np.float32).view("<u4") >> 16).astype("<u2")
            made[name] = Tensor(dtype, shape, upper)
        elif name != "token_ids":
            made[name] = Tensor(dtype, shape, random.standard_normal(shape).astype(DTYPES[dtype][1]))
    return made


def ids(head: Header) -> np.ndarray:
    return np.arange(100, 100 + head.tokens)


def write(folder: Path, head: Header | None = None, *, seed: int = 7) -> Activation:
    head = head or header()
    return activation.write(folder, head, token_ids=ids(head), tensors=tensors(head, seed=seed))


def shapes(head: Header) -> list[Shape]:
    """The layers of the model that `head` was made for."""
    return [layer.shape for layer in head.layers]


def dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data section of a file's bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(value: Any, data: bytes, *, seal: bool = True) -> bytes:
    """A file of this header and data, sealed as if it were sound."""
    if seal:
        value["__metadata__"].pop("memos.header_sha256", None)
        value["__metadata__"]["memos.data_sha256"] = hashlib.sha256(data).hexdigest()
        value["__metadata__"]["memos.header_sha256"] = hashlib.sha256(dump(value)).hexdigest()
    text = dump(value)
    text += b" " * (-(8 + len(text)) % 64)
    return struct.pack("<Q", len(text)) + text + data


def forge(made: Activation, change: Callable[[dict[str, Any]], Any], data: bytes | None = None) -> Path:
    """The file with its header changed and sealed again, under the same name."""
    value, plain = split(made.path.read_bytes())
    change(value)
    made.path.unlink()
    made.path.write_bytes(join(value, plain if data is None else data))
    return made.path
