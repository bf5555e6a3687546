"""Where a decoder keeps its keys and values, and whether keys may be moved to other positions: all from its config.

Per layer what it attends to (all before it, a window, or something that is no cache of keys and values), its heads and
the rope that turns its keys. Reads configurations of transformers; knows nothing of weights, tokens or cubes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FULL, SLIDING, LINEAR, OTHER = "full", "sliding", "linear", "other"
_KINDS = {"full_attention": FULL, "sliding_attention": SLIDING, "linear_attention": LINEAR, "conv": LINEAR}
# Frequencies that depend on nothing but the config, so a key may be turned further by the same ones.
SHIFTABLE = frozenset({"default", "linear", "llama3", "yarn"})
_REASONS = {
    "dynamic": "its rope changes with the length of the text (dynamic)",
    "longrope": "its rope changes with the length of the text (longrope)",
    "proportional": "its rope turns a part of each head that memos does not know (proportional)",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: what it attends to, its window in tokens (itself included), its heads, the name of its rope.

    `rope` is "" where the model has one rope for all layers, None where it has none.
    """

    kind: str
    kv_heads: int
    head_dim: int
    window: int | None = None
    rope: str | None = ""

    def kept(self, tokens: int) -> int:
        """How many of so many tokens a cache keeps here."""
        return tokens if self.window is None else min(tokens, self.window - 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """The layers of a model; why its cache cannot be kept, and why its keys cannot be moved ("" where they can)."""

    layers: tuple[Layer, ...]
    store_refusal: str
    shift_refusal: str

    @property
    def window(self) -> int | None:
        """The smallest window of a layer; None where every layer sees everything."""
        return min((layer.window for layer in self.layers if layer.window is not None), default=None)


def layout_of(config: Any) -> Layout:
    """The layout that a model's configuration describes; for one of many parts, that of its text decoder."""
    config = config.get_text_config(decoder=True)
    ropes = _ropes(config)
    layers = tuple(_layer(config, kind, window, ropes) for kind, window in _kinds(config))
    store = _store_refusal(config, layers)
    return Layout(layers, store, store or _shift_refusal(config, ropes))


def bytes_per_token(layout: Layout, *, element_bytes: int) -> int:
    """What one more token takes in a cache whose windows are not full yet."""
    return sum(2 * layer.kv_heads * layer.head_dim * element_bytes for layer in layout.layers)


def _kinds(config: Any) -> list[tuple[str, int | None]]:
    """Per layer its kind and window, as transformers itself lays out a cache for the config."""
    from transformers.cache_utils import get_layer_types_and_kwargs

    types, arguments = get_layer_types_and_kwargs(config)
    return [(str(kind), given.get("sliding_window")) for kind, given in zip(types, arguments, strict=True)]


def _layer(config: Any, kind: str, window: int | None, ropes: Mapping[str, Any]) -> Layer:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = None if not ropes else "" if "" in ropes else kind if kind in ropes else None
    return Layer(_KINDS.get(kind, OTHER), int(heads), int(width), window, rope)


def _ropes(config: Any) -> dict[str, Any]:
    """Rope parameters by name: {"": all} for one rope, by the layers' type for several, empty for none."""
    given = getattr(config, "rope_parameters", None)
    if not given:
        return {}
    if isinstance(given.get("rope_type"), str) or "rope_theta" in given:
        return {"": dict(given)}
    return {name: dict(one) for name, one in given.items() if isinstance(one, Mapping)}


def rope_parameters(config: Any) -> dict[str, Any]:
    """The rope parameters of a config by name, "" for the one of all layers; empty where it has none."""
    return _ropes(config.get_text_config(decoder=True))


def _store_refusal(config: Any, layers: tuple[Layer, ...]) -> str:
    if getattr(config, "kv_lora_rank", None):
        return "it keeps compressed states in place of keys and values (MLA)"
    if any(layer.kind == LINEAR for layer in layers):
        return "some of its layers keep a running state, not keys and values (linear attention)"
    if any(layer.kind == OTHER for layer in layers):
        return "some of its layers keep a cache that memos does not know"
    return "it says nothing of its layers" if not layers else ""


def _shift_refusal(config: Any, ropes: Mapping[str, Any]) -> str:
    if not ropes:
        return "its positions are no rope, and cannot be turned"
    if len(ropes) > 1 or "" not in ropes:
        return "its layers have ropes of several types"
    if not all(getattr(config, "no_rope_layers", None) or [1]):
        return "some of its layers have no rope, and their keys must stay as they are"
    rope = ropes[""]
    if "mrope_section" in rope or rope.get("rope_type") == "mrope":
        return "its positions have several dimensions (mrope)"
    kind = str(rope.get("rope_type") or "default")
    return "" if kind in SHIFTABLE else _REASONS.get(kind, f"its rope is of a type that memos does not know ({kind})")
