"""What was measured on this machine, kept under the home so that it is measured once: costs by model.

A file of JSON that can always be made again: one that does not read is as if it were not there. Knows nothing of what
the values mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "costs.json"
# Of so many models and machines; beyond that the oldest go.
MOST = 64
_CPU = Path("/proc/cpuinfo")


def machine() -> str:
    """This machine in words that change when what it takes may change: processor, cores, threads, accelerator."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return ", ".join(
        part for part in (_processor(), f"{os.cpu_count()} cores", f"{threads} threads" if threads else "") if part
    )


def _processor() -> str:
    try:
        lines = _CPU.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def key_of(*parts: str) -> str:
    """The name under which something is kept that depends on all of these."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read(cache: Path, key: str) -> Any:
    """What was kept under this name; None when nothing was."""
    return _all(cache).get(key)


def write(cache: Path, key: str, value: Mapping[str, Any]) -> None:
    """Keeps a value of JSON under this name."""
    cache.mkdir(parents=True, exist_ok=True)
    known = _all(cache)
    known.pop(key, None)
    kept = dict([*known.items(), (key, dict(value))][-MOST:])
    draft = cache / f"{FILE}.{os.getpid()}"
    draft.write_text(json.dumps(kept, indent=0), encoding="utf-8")
    draft.replace(cache / FILE)


def _all(cache: Path) -> dict[str, Any]:
    try:
        told = json.loads((cache / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
