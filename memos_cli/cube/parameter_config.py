"""adapter_config.json: what an adapter says of its own numbers, in the layout that peft and servers read.

peft reads this file into objects that may import modules, fetch models or change the base. Therefore only a plain LoRA
is taken: a rank, a scale, names of modules; every other key must hold what switches it off, known or not. Knows no
tensor and no model.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli.cube.tensorfile import damaged
from memos_cli.errors import NotFound

FILE = "adapter_config.json"
LIMIT_BYTES = 256 * 1024
RANK_LIMIT = 1024
ALPHA_LIMIT = 1 << 20
TARGET_LIMIT = 4096
NAME_LIMIT_CHARACTERS = 256

_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}(?:\.[A-Za-z0-9_-]{1,64}){0,11}")
_OFF: tuple[Any, ...] = (None, False, "", [], {})


@dataclass(frozen=True, slots=True)
class Config:
    """A plain LoRA: its delta on a module is `alpha / rank` times B @ A.

    `targets` are the names of modules, or the ends of their names from a dot on; none when the file has a pattern,
    which is not run. `base` is what it calls its model; `transposed` whether weights lie as [in, out].
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    base: str = ""
    transposed: bool = False


def ends_of(module: str) -> frozenset[str]:
    """The names by which a config may mean the module at that path: the path, and its ends from a dot on."""
    parts = module.split(".")
    return frozenset(".".join(parts[start:]) for start in range(len(parts)))


def encode(config: Config) -> bytes:
    """The bytes of the file, with no more keys than peft and servers need; equal configs give equal bytes."""
    alpha = int(config.alpha) if float(config.alpha).is_integer() else config.alpha
    value = {
        "base_model_name_or_path": config.base, "bias": "none", "fan_in_fan_out": config.transposed,
        "inference_mode": True, "init_lora_weights": True, "lora_alpha": alpha, "lora_dropout": 0.0,
        "peft_type": "LORA", "r": config.rank, "target_modules": sorted(config.targets), "task_type": "CAUSAL_LM",
    }  # fmt: skip
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()


def read(path: Path, *, foreign: bool = False) -> Config:
    """The config at `path`. Raises NotFound, and Damaged for anything but a plain LoRA.

    A `foreign` one may choose its modules by a pattern or by layers: then `targets` is empty, and its tensors tell.
    """
    return parse(read_small(path, limit_bytes=LIMIT_BYTES), place=path, foreign=foreign)


def read_small(path: Path, *, limit_bytes: int) -> bytes:
    """The bytes of an ordinary file of at most so many. Raises NotFound, Damaged for a link or a larger one."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"no file {path}") from error
    except OSError as error:
        raise damaged(path, f"a file that can be read, found otherwise ({error.strerror})") from error
    with os.fdopen(number, "rb") as stream:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            raise damaged(path, "an ordinary file")
        if facts.st_size > limit_bytes:
            raise damaged(path, f"at most {limit_bytes:,} bytes, found {facts.st_size:,}")
        return stream.read(limit_bytes)


def parse(data: bytes, *, place: Path | str, foreign: bool = False) -> Config:
    """The config in `data`; raises Damaged, naming `place` and the key that is wrong."""
    value = _load(data, place)
    keys = _KEYS | (_FOREIGN if foreign else {})
    for name, found in value.items():
        expected, allowed = keys.get(name, ("what switches it off", _is_off))
        if not allowed(found):
            raise damaged(place, f"{expected} as {name[:80]}, found {found!r:.80}: only a plain LoRA is taken")
    for name in ("peft_type", "r", "lora_alpha", "target_modules"):
        if name not in value:
            raise damaged(place, f"{name}, found none")
    named = value["target_modules"]
    ends = isinstance(named, list) and not any(value.get(name) for name in _FOREIGN if name != "target_modules")
    return Config(
        rank=value["r"],
        alpha=float(value["lora_alpha"]),
        targets=tuple(sorted(named)) if ends else (),
        base=value.get("base_model_name_or_path") or "",
        transposed=bool(value.get("fan_in_fan_out")),
    )


def _load(data: bytes, place: Path | str) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no)
    # long numbers raise ValueError, deep nesting RecursionError
    except (ValueError, RecursionError) as error:
        raise damaged(place, f"JSON in UTF-8, found otherwise ({error})"[:300]) from error
    if not isinstance(value, dict):
        raise damaged(place, f"an object, found a {type(value).__name__}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, inner in pairs:
        if name in value:
            raise ValueError(f"{name[:80]!r} is there twice")
        value[name] = inner
    return value


def _no(text: str) -> Any:
    raise ValueError(f"the number {text[:40]} is none")


def _is_off(value: Any) -> bool:
    # 0 == False, and a zero may mean something
    return any(value == off and type(value) is type(off) for off in _OFF)


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str) and len(value) <= 4096


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= RANK_LIMIT


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 < value <= ALPHA_LIMIT


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _are_targets(value: Any) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= TARGET_LIMIT:
        return False
    return len(set(map(str, value))) == len(value) and all(is_module(one) for one in value)


def is_module(value: Any) -> bool:
    """Whether a value is a name of a module, such as `model.layers.0.mlp.down_proj`, or its end."""
    return isinstance(value, str) and len(value) <= NAME_LIMIT_CHARACTERS and _MODULE.fullmatch(value) is not None


def _one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == one and type(value) is type(one) for one in allowed)


_Check = tuple[str, Callable[[Any], bool]]
_KEYS: dict[str, _Check] = {
    "peft_type": ("LORA", _one_of("LORA")),
    "task_type": ("CAUSAL_LM", _one_of(None, "CAUSAL_LM")),
    "r": (f"a rank from 1 to {RANK_LIMIT}", _is_rank),
    "lora_alpha": (f"a number above 0, at most {ALPHA_LIMIT}", _is_alpha),
    "lora_dropout": ("a share", _is_share),
    "target_modules": ("names of modules, each once", _are_targets),
    "bias": ("none", _one_of("none")),
    "fan_in_fan_out": ("true or false", _is_flag),
    "inference_mode": ("true or false", _is_flag),
    # others change the base, or need its data, when they are read
    "init_lora_weights": ("true, false or gaussian", _one_of(None, True, False, "gaussian")),
    "base_model_name_or_path": ("a text", _is_text),
    "revision": ("a text", _is_text),
    "peft_version": ("a text", _is_text),
    # what peft writes for these when they are not used
    "megatron_core": ("megatron.core", _one_of(None, "megatron.core")),
    "qalora_group_size": ("16", _one_of(None, 16)),
}
# Which modules are meant; in a file from elsewhere its tensors say it as well.
_FOREIGN: dict[str, _Check] = {
    "target_modules": ("names of modules or a pattern", lambda value: _is_text(value) or _are_targets(value)),
    "exclude_modules": ("names of modules or a pattern", lambda value: _is_text(value) or isinstance(value, list)),
    "layers_to_transform": ("numbers of layers", lambda value: value is None or isinstance(value, int | list)),
    "layers_pattern": ("a name of layers", lambda value: _is_text(value) or isinstance(value, list)),
}
