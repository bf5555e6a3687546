"""A plain LoRA as files: numbers by module, their rank and scale, in the layout that peft and servers load.

Only what a delta `alpha / rank * B @ A` needs is read; a config that asks for more would be computed otherwise than it
was trained, so it is refused. Knows no network and no cube.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Damaged, NotFound

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
# Keys that may hold something; any other that does asks for more than a plain LoRA.
_PLAIN = frozenset(
    {
        "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha",
        "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision",
        "target_modules", "task_type",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plain:
    """A LoRA off any network: for each module by its path `A` [rank, in] and `B` [out, rank], on the processor.

    `targets` are names of modules or their ends, as its config has them.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]] = field(repr=False)
    transposed: bool = False

    @property
    def scale(self) -> float:
        """What `B @ A` is multiplied with."""
        return self.alpha / self.rank


def peft_version() -> str:
    """The release of peft that is installed."""
    from importlib.metadata import version

    return version("peft")


def read_plain(folder: Path) -> Plain:
    """The adapter in `folder`, in float32. Raises NotFound, and Damaged for one that is no plain LoRA or not whole."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = _config(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise NotFound(f"expected {WEIGHTS} in {folder}, found none")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise Damaged(f"{folder / WEIGHTS} does not read as safetensors: {error}"[:300]) from error
    for name, numbers in tensors.items():
        if not numbers.is_floating_point() or not bool(numbers.isfinite().all()):
            raise Damaged(f"{folder / WEIGHTS}: {name} holds something else than finite numbers")
    pairs = _pairs(folder / WEIGHTS, {name: numbers.to(torch.float32) for name, numbers in tensors.items()})
    for module, (a, b) in pairs.items():
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != config["r"] or b.shape[1] != config["r"]:
            expected = f"A [{config['r']}, in] and B [out, {config['r']}] of {module}"
            raise Damaged(f"{folder / WEIGHTS}: expected {expected}, found {list(a.shape)} and {list(b.shape)}")
    targets = tuple(sorted(config["target_modules"]))
    return Plain(config["r"], float(config["lora_alpha"]), targets, pairs, bool(config.get("fan_in_fan_out")))


def write_plain(folder: Path, plain: Plain, *, base: str = "", dtype: str = "float32") -> None:
    """The adapter as two new files in `folder`, which is made; `base` is what the config calls its model.

    `dtype` is what numbers are stored as: float32, float16 or bfloat16. Equal adapters give equal bytes.
    """
    import torch
    from safetensors.torch import save_file

    kind = getattr(torch, dtype)
    tensors: dict[str, torch.Tensor] = {}
    for module, (a, b) in plain.pairs.items():
        for end, numbers in ((_A, a), (_B, b)):
            tensors[f"{PREFIX}{module}{end}"] = numbers.detach().to("cpu", kind).contiguous().clone()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    alpha = int(plain.alpha) if float(plain.alpha).is_integer() else plain.alpha
    config = {
        "base_model_name_or_path": base, "bias": "none", "fan_in_fan_out": plain.transposed, "inference_mode": True,
        "init_lora_weights": True, "lora_alpha": alpha, "lora_dropout": 0.0, "peft_type": "LORA", "r": plain.rank,
        "target_modules": sorted(plain.targets), "task_type": "CAUSAL_LM",
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _config(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"expected {CONFIG} in {path.parent}, found none") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} does not read as JSON: {error}"[:300]) from error
    if not isinstance(value, dict) or value.get("peft_type") != "LORA" or value.get("bias", "none") != "none":
        raise Damaged(f"{path}: expected a LoRA without biases, found {str(value)[:80]}")
    if odd := sorted(name for name, found in value.items() if found and name not in _PLAIN):
        raise Damaged(
            f"{path}: expected a plain LoRA, found {odd[0]}: its sums would be others than it was trained with"
        )
    if isinstance(value.get("init_lora_weights"), str) and value["init_lora_weights"] != "gaussian":
        raise Damaged(f"{path}: expected a plain LoRA, found init_lora_weights {value['init_lora_weights'][:40]!r}")
    rank, alpha, targets = value.get("r"), value.get("lora_alpha"), value.get("target_modules")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise Damaged(f"{path}: expected a rank and an alpha above 0, found {rank!r:.20} and {alpha!r:.20}")
    if not isinstance(targets, list) or not targets or not all(isinstance(one, str) and one for one in targets):
        raise Damaged(f"{path}: expected names of modules as target_modules, found {targets!r:.80}")
    return value


def _pairs(place: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`A` and `B` by module. Raises Damaged for a tensor that is neither, or has no other."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name, numbers in tensors.items():
        end = next((end for end in (_A, _B) if name.endswith(end)), None)
        if end is None or not name.startswith(PREFIX):
            raise Damaged(f"{place}: expected {PREFIX}<module>{_A} or {_B}, found {name[:120]}")
        halves.setdefault(name[len(PREFIX) : -len(end)], {})[end] = numbers
    if lone := sorted(module for module, half in halves.items() if len(half) != 2):
        raise Damaged(f"{place}: expected A and B of {lone[0][:120]}, found one of them")
    if not halves:
        raise Damaged(f"{place}: expected weights of at least one module, found none")
    return {module: (half[_A], half[_B]) for module, half in sorted(halves.items())}
