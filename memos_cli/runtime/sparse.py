"""A memory whose heads keep tokens of their own, and some of whose layers none: put back, moved, joined.

Every position is the one it had, so what follows stands where it would after all of the text. Within a layer each head
keeps the same number; layers may differ. Only models whose layers all see everything. Knows nothing of cubes, and not
of how the tokens were chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Usage, WrongModel
from memos_cli.runtime import attend
from memos_cli.runtime.kv import Memory, Pass, forward, frequencies_of, turn
from memos_cli.runtime.layout import FULL, Layout, layout_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class SparseMemory:
    """The tokens of a text and, per layer, the keys and values that each head kept: [kv_heads, kept, head_dim].

    `positions` [kv_heads, kept] are their places in `ids`, rising within a head. All three are None for a layer that
    has no memory. Keys are turned by the model's rope, the first of `ids` standing at position `base`.
    """

    ids: tuple[int, ...]
    keys: tuple[Tensor | None, ...] = field(repr=False)
    values: tuple[Tensor | None, ...] = field(repr=False)
    positions: tuple[Tensor | None, ...] = field(repr=False)
    base: int = 0

    @property
    def kept(self) -> tuple[int, ...]:
        """How many tokens each head keeps, per layer; 0 for a layer without memory."""
        return tuple(0 if one is None else one.shape[1] for one in self.keys)

    @property
    def size_bytes(self) -> int:
        """What its keys and values take."""
        return sum(one.nbytes for one in (*self.keys, *self.values) if one is not None)


def refusal(network: Any) -> str:
    """Why a network takes no memory whose heads keep tokens of their own; "" where it does."""
    layout = layout_of(network.config)
    if layout.store_refusal:
        return layout.store_refusal
    if any(layer.kind != FULL for layer in layout.layers):
        return "some of its layers see a window of tokens only, and would count those that were left out"
    return attend.refusal(network)


def layout_for(network: Any) -> Layout:
    """The layout of a network that takes such memories. Raises Usage, with the reason, for another."""
    if reason := refusal(network):
        raise Usage(f"{type(network).__name__} takes whole memories only: {reason}", hint="keep all tokens")
    return layout_of(network.config)


def whole(memory: Memory) -> SparseMemory:
    """The same memory, every head of which keeps every token; no copy is made."""
    import torch

    tokens = range(len(memory.ids))
    places = [torch.tensor(tokens, dtype=torch.int32, device=one.device).expand(len(one), -1) for one in memory.keys]
    return SparseMemory(memory.ids, memory.keys, memory.values, tuple(places), memory.base)


def pick(memory: Memory, positions: Sequence[Tensor | None]) -> SparseMemory:
    """What is left of a memory when each head keeps the tokens at `positions` [kv_heads, kept], rising; new tensors.

    None is a layer that keeps nothing.
    """
    import torch

    def taken(tensor: Tensor, places: Tensor | None) -> Tensor | None:
        return None if places is None else torch.take_along_dim(tensor, places.long()[..., None], dim=1)

    keys, values = (
        tuple(taken(one, places) for one, places in zip(each, positions, strict=True))
        for each in (memory.keys, memory.values)
    )
    return SparseMemory(memory.ids, keys, values, tuple(positions), memory.base)


def check(layout: Layout, memory: SparseMemory) -> None:
    """Raises WrongModel when a memory is none of a model with such layers, or its positions are none of its tokens."""
    parts = (memory.keys, memory.values, memory.positions)
    if any(len(each) != len(layout.layers) for each in parts):
        found = ", ".join(str(len(each)) for each in parts)
        raise WrongModel(f"expected {len(layout.layers)} layers of keys, values and positions, found {found}")
    if not memory.ids or not any(memory.kept):
        raise WrongModel("expected a memory that keeps tokens in some layer, found none")
    for number, (layer, *found_) in enumerate(zip(layout.layers, *parts, strict=True)):
        _check_layer(f"layer {number}", (layer.kv_heads, layer.head_dim), found_, len(memory.ids))


def _check_layer(name: str, shape: tuple[int, int], found: Sequence[Tensor | None], tokens: int) -> None:
    present = [one for one in found if one is not None]
    if not present:
        return
    if len(present) < len(found):
        raise WrongModel(f"{name}: expected keys, values and positions, or none of them")
    positions = present[-1]
    kept = positions.shape[-1]
    expected = [(shape[0], kept, shape[1])] * 2 + [(shape[0], kept)]
    if (shapes := [tuple(one.shape) for one in present]) != expected or not kept:
        raise WrongModel(f"{name}: expected tensors of shape {expected}, found {shapes}")
    rising = bool((positions[:, 1:] > positions[:, :-1]).all())
    if not rising or int(positions.min()) < 0 or int(positions.max()) >= tokens:
        raise WrongModel(f"{name}: expected positions that rise from 0 to {tokens - 1} at most, found others")


def to_cache(network: Any, memory: SparseMemory) -> Any:
    """A cache of transformers around the memory's own tensors, which it never writes to; as long as the whole text.

    Made for use inside `injected` or `attending`. Raises Usage for a network that takes no such memory and for a memory
    that does not begin at position 0, WrongModel for one of another shape.
    """
    import torch
    from transformers import Cache

    layout = layout_for(network)
    check(layout, memory)
    if memory.base:
        raise Usage(f"expected a memory from position 0, found one from {memory.base}", hint="shift it to 0 first")
    widest, layers = max(memory.kept), []
    for layer, keys, values in zip(layout.layers, memory.keys, memory.values, strict=True):
        empty = torch.empty(layer.kv_heads, 0, layer.head_dim, dtype=network.dtype, device=network.device)
        pair = (empty if keys is None else keys, empty if values is None else values)
        layers.append(_new_layer(*pair, length=len(memory.ids), widest=widest))
    return Cache(layers=layers)


def _new_layer(keys: Tensor, values: Tensor, *, length: int, widest: int) -> Any:
    """A layer of a cache that holds these, and says that it has seen `length` tokens."""
    from transformers.cache_utils import DynamicLayer

    class Sparse(DynamicLayer):  # type: ignore[no-untyped-call]
        """One mask is made for all layers, as wide as the widest of them; what a layer does not hold is cut off it."""

        def get_seq_length(self) -> int:
            assert self.keys is not None
            return length + self.keys.shape[-2] - keys.shape[-2]

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.get_seq_length() - length + widest + query_length, length - widest

    layer = Sparse()  # type: ignore[no-untyped-call]
    layer.lazy_initialization(keys[None], values[None])
    layer.keys, layer.values = keys[None], values[None]
    return layer


@contextmanager
def injected(network: Any, memory: SparseMemory) -> Iterator[Any]:
    """A cache with the memory in it, for `network` and `network.generate` inside; it grows by what they read.

    `generate` is given the memory's ids and the question's. Raises as `to_cache` does.
    """
    cache = to_cache(network, memory)
    with attend.attending(network):
        yield cache


def resume(network: Any, memory: SparseMemory, following: Sequence[int], *, logits: int = 0) -> Pass:
    """What the model gives after the memory and `following`; logits of the last `logits`, 0 for all of them.

    What is written after it, token by token, is written inside `attending` too: an eager network whose layers hold
    different numbers of tokens takes no more outside. Raises Usage for nothing to read, and as `to_cache` does.
    """
    if not following:
        raise Usage("expected at least one token after the memory, found none")
    with injected(network, memory) as cache:
        return forward(network, following, cache=cache, position=len(memory.ids), logits=logits or len(following))


def shift(network: Any, memory: SparseMemory, *, base: int) -> SparseMemory:
    """The memory with its first token at position `base`: new keys, turned by the difference in float32.

    Raises Usage for a model whose keys cannot be turned.
    """
    if base == memory.base:
        return memory
    if reason := layout_of(network.config).shift_refusal:
        raise Usage(f"the keys of {type(network).__name__} cannot be moved: {reason}")
    frequencies, by = frequencies_of(network), base - memory.base
    return replace(
        memory, keys=tuple(one if one is None else turn(one, by, frequencies) for one in memory.keys), base=base
    )


def join(network: Any, memories: Sequence[Memory | SparseMemory]) -> SparseMemory:
    """One memory of several, whole ones among them, each after the other; nothing is read again.

    What a later one would have seen in the earlier ones is not in it. Raises Usage for no memories, and for a model
    that takes none whose heads keep tokens of their own or whose keys cannot be turned.
    """
    layout = layout_for(network)
    if not memories:
        raise Usage("expected memories to join, found none")
    moved, start = [], 0
    for one in memories:
        sparse = whole(one) if isinstance(one, Memory) else one
        check(layout, sparse)
        moved.append(shift(network, sparse, base=start))
        start += len(one.ids)
    ids = tuple(token for one in moved for token in one.ids)
    return SparseMemory(
        ids,
        _by_layer([one.keys for one in moved]),
        _by_layer([one.values for one in moved]),
        _by_layer([[p if p is None else p + one.base for p in one.positions] for one in moved]),
    )


def _by_layer(tensors: Sequence[Sequence[Tensor | None]]) -> tuple[Tensor | None, ...]:
    """Of each memory's layers, each layer's memories, one after the other."""
    return tuple(_joined(each) for each in zip(*tensors, strict=True))


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """One after the other along the tokens; None where there is none."""
    import torch

    found = [one for one in tensors if one is not None]
    return torch.cat(found, dim=1) if len(found) > 1 else found[0] if found else None
