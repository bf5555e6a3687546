"""The activation memory of an official MemOS cube: which caches it holds, of which text, and their keys and values.

Three generations of the file are read (`kv_cache_id` and `kv_cache`; `id`, `memory` and `records`; caches of layers),
and those of vLLM, which hold a prompt and no numbers. None says which weights, tokens or template it is of. So what is
read here is unverified, as any cache of another program is: `memos convert --from` measures it before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memos_cli.cube.activation import Layer, Part, Tensor, is_finite
from memos_cli.cube.activation_header import LAYER_LIMIT
from memos_cli.cube.mlx import PromptCache
from memos_cli.cube.pickled import MOST_BYTES, Cache, Inert, Item, Numbers, load
from memos_cli.cube.pickled import Layer as PickledLayer
from memos_cli.errors import Damaged, NotFound

_PARTS = ("key", "value")


@dataclass(frozen=True, slots=True)
class Kept:
    """One cache: its id, the texts it says it is of, and its layers as (keys, values), [heads, tokens, dim] each.

    `prompt` is what vLLM keeps instead of numbers.
    """

    id: str
    texts: tuple[str, ...]
    layers: tuple[tuple[Numbers, Numbers], ...] = field(repr=False)
    prompt: str = ""

    @property
    def tokens(self) -> int:
        """How many tokens it is of; 0 where it holds none."""
        return int(self.layers[0][0].array.shape[2]) if self.layers else 0

    @property
    def label(self) -> str:
        """What it is, for people."""
        return f"{len(self.layers)} layers, {self.tokens} tokens" if self.layers else "a prompt for vLLM"


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a pickle of protocol 2 or later."""
    return len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def read(path: Path) -> tuple[Kept, ...]:
    """The caches in a file. Raises NotFound, and Damaged for any other pickle; nothing of one is ever run."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Damaged(f"{path}: expected at most {MOST_BYTES >> 30} GiB, found {path.stat().st_size:,} bytes")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    return decode(data, place=str(path))


def decode(data: bytes, *, place: str) -> tuple[Kept, ...]:
    """The caches in the bytes of a file. Raises Damaged."""
    value = load(data, place=place)
    held = value.get("kv_cache_memories") if isinstance(value, dict) else value
    items = list(held.values()) if isinstance(held, dict) else held
    if not isinstance(items, list) or not all(isinstance(item, Item) for item in items):
        raise Damaged(f"{place}: expected kv_cache_memories, found {type(held).__name__}")
    return tuple(_kept(item.fields, place) for item in items)


def _kept(fields: Mapping[str, Any], place: str) -> Kept:
    identity = fields.get("id", fields.get("kv_cache_id"))
    held = fields.get("memory", fields.get("kv_cache"))
    if not isinstance(identity, str):
        raise Damaged(f"{place}: expected an id of each cache, found {type(identity).__name__}")
    texts = tuple(_texts(fields))
    if isinstance(held, str):
        return Kept(identity, texts or (held,), (), held)
    if not isinstance(held, Cache):
        raise Damaged(f"{place}: expected a cache or a prompt as the memory of {identity[:40]!r}")
    layers = tuple(_layer(*both, place=f"{place}: cache {identity[:40]!r}") for both in _layers(held, place))
    if len({(layer[0].dtype, layer[0].array.shape[2]) for layer in layers}) > 1:
        raise Damaged(f"{place}: expected one type and one number of tokens in all layers of {identity[:40]!r}")
    return Kept(identity, texts, layers)


def _texts(fields: Mapping[str, Any]) -> Iterator[str]:
    records, metadata = fields.get("records"), fields.get("metadata")
    if isinstance(records, Inert):
        found = records.fields.get("text_memories")
        yield from (text for text in found if isinstance(text, str)) if isinstance(found, list) else ()
    if isinstance(metadata, dict) and isinstance(text := metadata.get("source_text"), str):
        yield text


def _layers(cache: Cache, place: str) -> list[tuple[Any, Any]]:
    """Keys and values of each layer, of either generation."""
    layers = cache.fields.get("layers")
    if isinstance(layers, list):
        found = [
            (one.fields.get("keys"), one.fields.get("values")) if isinstance(one, PickledLayer) else (None, None)
            for one in layers
        ]
    else:
        keys, values = cache.fields.get("key_cache"), cache.fields.get("value_cache")
        if not isinstance(keys, list) or not isinstance(values, list) or len(keys) != len(values):
            raise Damaged(f"{place}: expected keys and values of as many layers")
        found = list(zip(keys, values, strict=True))
    if not 1 <= len(found) <= LAYER_LIMIT:
        raise Damaged(f"{place}: expected 1 to {LAYER_LIMIT} layers, found {len(found)}")
    return found


def _layer(keys: Any, values: Any, *, place: str) -> tuple[Numbers, Numbers]:
    """The numbers of a layer without the batch of one. Raises Damaged."""
    if not isinstance(keys, Numbers) or not isinstance(values, Numbers):
        raise Damaged(f"{place}: expected keys and values of each layer")
    shapes = keys.array.shape, values.array.shape
    if any(len(shape) != 4 or shape[0] != 1 for shape in shapes) or shapes[0][:3] != shapes[1][:3]:
        raise Damaged(f"{place}: expected keys and values as [1, heads, tokens, dim], found {shapes!r:.80}")
    if keys.dtype != values.dtype or not all(is_finite(Part(one.dtype, one.array)) for one in (keys, values)):
        raise Damaged(f"{place}: expected finite keys and values of one type")
    return keys, values


def prompt_cache(kept: Kept, *, place: str) -> PromptCache:
    """A cache in the form in which caches of other programs are taken in. Raises Damaged for one without numbers."""
    if not kept.layers:
        raise Damaged(f"{place}: {kept.id} is {kept.label}: there are no keys and values to take in")
    layers, tensors = [], {}
    for index, both in enumerate(kept.layers):
        shapes = [one.array.shape for one in both]
        layer = Layer(index, "full", shapes[0][1], shapes[0][3], shapes[1][3], shapes[0][2])
        layers.append(layer)
        for name, one in zip(_PARTS, both, strict=True):
            tensors[f"{layer.prefix}.{name}"] = Tensor(one.dtype, one.array.shape[1:], one.array[0])
    return PromptCache(kept.layers[0][0].dtype, kept.tokens, tuple(layers), tensors, None, None, {})


def choose(caches: Sequence[Kept], *, text: str, place: str) -> Kept:
    """The cache of a text: the only one, or the one that names it. Raises NotFound."""
    named = [one for one in caches if text in one.texts]
    found = named or (list(caches) if len(caches) == 1 else [])
    if len(found) != 1:
        ids = ", ".join(one.id for one in caches[:5])
        raise NotFound(f"{place}: expected one cache of this text among {len(caches)}, found {len(named)}: {ids}")
    return found[0]
