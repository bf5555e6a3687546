"""A folder that is an official MemOS cube: what its config.json says is in it, and where.

Only files that the config names are looked at, and only in the folder itself. Settings stay behind, secrets above all.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memos_cli.cube.losses import Loss, Losses
from memos_cli.errors import Damaged
from memos_cli.interface.sources.foreign import OFFICIAL, Record
from memos_cli.interface.sources.limits import MIB

CONFIG = "config.json"
CACHE = "memos-kv"
_SCHEMA = "GeneralMemCubeConfig"
_SLOTS = {
    "text_mem": "textual_memory.json", "pref_mem": "textual_memory.json", "act_mem": "activation_memory.pickle",
    "para_mem": "parametric_memory.adapter",
}  # fmt: skip
_SECRETS = ("api_key", "backup_api_key", "password", "secret_key", "access_key", "token")
_PLACEHOLDER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a cube that is read, and as what."""

    path: Path
    format: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a cube has that is read, what of it stays behind, and the names of all its files."""

    parts: tuple[Part, ...]
    names: frozenset[str]
    losses: tuple[Loss, ...]


def is_cube(folder: Path) -> bool:
    """Whether a folder has the config of an official cube."""
    config = _config(folder)
    return config is not None and (
        str(config.get("model_schema", "")).endswith(_SCHEMA)
        or all(isinstance(config.get(slot), dict) for slot in ("text_mem", "act_mem", "para_mem"))
    )


def look(folder: Path) -> Look:
    """The files of a cube. Raises Damaged for a name outside of the folder, and for a file that is not there."""
    config, losses = _config(folder) or {}, Losses()
    parts = {}
    slots = list(_slots(config, folder))
    for slot, name in slots:
        path = folder / name
        if slot == "para_mem":
            _tell_adapter(path, losses)
        else:
            parts[path] = Part(_regular(path, slot), CACHE if slot == "act_mem" else OFFICIAL)
    for secret in _secrets(config):
        losses.add("config", secret, "a secret, which is never taken")
    losses.add("config", "settings", "of MemOS: which models and stores it uses")
    return Look(tuple(parts.values()), frozenset({CONFIG, *(name for _, name in slots)}), losses.told())


def _config(folder: Path) -> Record | None:
    path = folder / CONFIG
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MIB:
            return None
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _slots(config: Record, folder: Path) -> Iterator[tuple[str, str]]:
    """The slots that hold something, each with the name of its file."""
    for slot, default in _SLOTS.items():
        held = config.get(slot)
        if not isinstance(held, dict) or held.get("backend", "uninitialized") == "uninitialized":
            continue
        settings = held.get("config")
        name = settings.get("memory_filename", default) if isinstance(settings, dict) else default
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", "..") or "\0" in name:
            raise Damaged(
                f"{folder / CONFIG}: expected the name of a file in the cube as memory_filename of {slot}, "
                f"found {name!r:.80}"
            )
        yield slot, name


def _regular(path: Path, slot: str) -> Path:
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise Damaged(f"{path}: expected the {slot} that {CONFIG} names, found no such file") from error
    if not stat.S_ISREG(mode):
        raise Damaged(f"{path}: expected a regular file as {slot}, found a link or something else")
    return path


def _tell_adapter(path: Path, losses: Losses) -> None:
    """MemOS has no parametric memory yet: it writes a placeholder."""
    try:
        with _regular(path, "para_mem").open("rb") as file:
            head = file.read(_PLACEHOLDER_BYTES + 1)
    except (OSError, Damaged):
        losses.add("adapter", path.name, "not there")
        return
    if len(head) <= _PLACEHOLDER_BYTES and b"placeholder" in head.lower():
        losses.add("adapter", path.name, "a placeholder: there is nothing to take in")
    else:
        losses.add("adapter", path.name, "no adapter of peft: memos distill --import takes a folder of one")


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in _SECRETS and inner:
                yield name
            yield from _secrets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets(inner)
