"""Small adapters for tests, of no model, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # the tests it serves are about arrays

from memos_cli.cube import parameter, tensorfile
from memos_cli.cube.parameter import About, Adapter, Base, Rights, Source
from memos_cli.cube.parameter_files import CONFIG, WEIGHTS
from memos_cli.cube.tensorfile import Tensor

MEMORY = "1fadeb599750299af612"
HARD = {
    "adapters": "none", "architecture": "Qwen3ForCausalLM", "config": "11" * 32, "layout": "22" * 32,
    "rope": "33" * 32, "tokenizer": "44" * 32, "weights": "55" * 32, "format": "1", "quantization": "none",
}  # fmt: skip
SOFT = {"attention": "sdpa", "device": "cpu", "torch": "2.13.0"}
RANK, TARGETS = 4, ("down_proj", "up_proj")
WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def source(memory: str = MEMORY, *, text: str = "The boiler's code is 4711.", standing: str = "distilled") -> Source:
    return Source(memory, 3, parameter.content_of(text), standing)


def about(**fields: Any) -> About:
    values: dict[str, Any] = {
        "kind": "facts",
        "base": Base("nano", HARD, SOFT),
        "rights": Rights("internal", licence="MIT", base_licence="Apache-2.0"),
        "made_at": WHEN,
        "sources": (source(),),
        "recipe": {"steps": 150, "rate": 2e-4, "loss": {"terms": ["kl", "generic"]}, "seed": 7, "mixed": True},
        "metrics": {"recall_test": 0.975, "kl_teacher": 1.0},
        "gated": True,
    }
    return About(**{**values, **fields})


def tensors(*, seed: int = 7, rank: int = RANK, dtype: str = "F32", layers: int = 2) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    made = {}
    for layer in range(layers):
        for name, size in (("up_proj", (8, 12)), ("down_proj", (12, 8))):
            module = f"base_model.model.model.layers.{layer}.mlp.{name}"
            for half, shape in (("lora_A", (rank, size[0])), ("lora_B", (size[1], rank))):
                numbers = random.standard_normal(shape, dtype=np.float32)
                if dtype == "F16":
                    numbers = numbers.astype("<f2")
                if dtype == "BF16":
                    numbers = (numbers.view("<u4") >> 16).astype("<u2")
                made[f"{module}.{half}.weight"] = Tensor(dtype, shape, numbers)
    return made


def config(**fields: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none",
        "target_modules": list(TARGETS), "base_model_name_or_path": "/home/ann/models/nano", **fields,
    }  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lay(folder: Path, *, weights: dict[str, Tensor] | None = None, **fields: Any) -> Path:
    """The two files of an adapter in a new `folder`, as peft writes them."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config(**fields)))
    tensorfile.write(folder / WEIGHTS, {"format": "pt"}, weights or tensors(), sealed=False)
    return folder


def write(folder: Path, name: str = "facts", *, seed: int = 7, on: Sequence[Adapter] = (), **fields: Any) -> Adapter:
    """An adapter `name` in a version's `folder`, on those of `on`."""
    beside = folder.parent / "made" / name
    if not beside.exists():
        lay(beside, weights=tensors(seed=seed))
    said = about(requires=tuple(one.reference for one in on), **fields)
    return parameter.write(folder, name, made=beside, about=said, peft_version="0.21.2")
