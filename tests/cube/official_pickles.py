"""Pickles as official MemOS writes its activation memory, in three generations; MemOS itself is not needed."""

from __future__ import annotations

import pickle
import sys
import types
from datetime import UTC, datetime
from typing import Any

import pytest
import torch  # noqa: TID253  the pickles are torch's

ITEMS, CACHES = "memos.memories.activation.item", "transformers.cache_utils"


class Model:
    """Pickles as pydantic's models do."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "__dict__": dict(self.__dict__), "__pydantic_extra__": None,
            "__pydantic_fields_set__": set(self.__dict__), "__pydantic_private__": None,
        }  # fmt: skip


class Plain:
    """Pickles as any object does."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def classes(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Classes under the names they have in MemOS and transformers, which need not be installed to be named."""
    made = {}
    for module, names, kind in ((ITEMS, ("KVCacheItem", "KVCacheRecords"), Model),
                                (CACHES, ("DynamicCache", "DynamicLayer"), Plain)):  # fmt: skip
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        for name in names:
            made[name] = type(name, (kind,), {"__module__": module, "__qualname__": name})
            setattr(sys.modules[module], name, made[name])
    return types.SimpleNamespace(**made)


def generation(kind: str, theirs: Any, both: list[tuple[torch.Tensor, torch.Tensor]]) -> bytes:
    if kind == "layers":
        cache = theirs.DynamicCache(layers=[
            theirs.DynamicLayer(keys=keys, values=values, is_initialized=True, dtype=keys.dtype, device=keys.device)
            for keys, values in both
        ])  # fmt: skip
    else:
        cache = theirs.DynamicCache(
            _seen_tokens=both[0][0].shape[2], key_cache=[keys for keys, _ in both], value_cache=[v for _, v in both]
        )
    if kind == "first":
        item = theirs.KVCacheItem(kv_cache_id="one", kv_cache=cache, metadata={"source_text": "seven tokens"})
    else:
        records = theirs.KVCacheRecords(
            text_memories=["seven tokens"], composed_text_memory="seven", timestamp=datetime.now(UTC)
        )
        item = theirs.KVCacheItem(id="one", memory=cache, metadata={}, records=records)
    held: Any = [item] if kind == "first" else {"kv_cache_memories": {"one": item}}
    return pickle.dumps(held, protocol=5)
