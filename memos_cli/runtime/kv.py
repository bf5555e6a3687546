"""Keys and values of a text: taken from a model, put back without a copy, cut to a shared beginning, moved.

A cache that is put back gives, bit for bit, what the model gives when it reads the text and then the rest (two
passes); one pass over both differs by rounding. Batch is always 1 and is dropped. Knows nothing of cubes.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Usage, WrongModel
from memos_cli.runtime.layout import Layout, layout_of

if TYPE_CHECKING:
    from torch import Tensor

# What follows a memory is read in pieces of at most so many tokens.
PIECE_TOKENS = 1024
# By this variable alone transformers leaves keys as they are where query heads share them and there is a mask.
_SHARED_HEADS = "TRANSFORMERS_SDPA_FORCE_GQA"
_SHARING, _inside = threading.Lock(), 0
_before: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The tokens of a text and, per layer, their keys and values: each [kv_heads, kept tokens, head_dim].

    Keys are turned by the model's rope, the first token standing at position `base`. A layer with a window keeps the
    last tokens only.
    """

    ids: tuple[int, ...]
    keys: tuple[Tensor, ...] = field(repr=False)
    values: tuple[Tensor, ...] = field(repr=False)
    base: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """What a model gave after some tokens: logits [tokens, vocabulary], its cache, the next token's position."""

    logits: Tensor = field(repr=False)
    cache: Any = field(repr=False)
    position: int


def prefill(network: Any, ids: Sequence[int], *, base: int = 0, context: Sequence[int] = ()) -> Memory:
    """The keys and values of the tokens `ids`, in the network's dtype, the first one at position `base`.

    With a `context` they are read after it, and so stand at its end: what they know of it stays in them, its own keys
    and values do not. Raises Usage for no tokens, and for a model whose cache cannot be kept.
    """
    if not ids:
        raise Usage("expected tokens to read, found none")
    layout = _storable(network)
    cache = new_cache(network)
    base = len(context) or base
    forward(network, [*context, *ids], cache=cache, position=0 if context else base, logits=1)
    keys, values = _taken(cache, tokens=len(ids) if context else None)
    check_shapes(layout, kept := Memory(tuple(ids), keys, values, base))
    return kept


def from_cache(network: Any, cache: Any, ids: Sequence[int]) -> Memory:
    """What a running model's cache holds: the keys and values of the tokens `ids`, all that it has read from 0 on.

    No copy is made; a cache of transformers never writes into what it gave. Raises Usage for a cache of another number
    of tokens (its positions would be wrong, and no error would tell), WrongModel for one of another shape.
    """
    layout = _storable(network)
    if (held := cache.get_seq_length()) != len(ids) or not ids:
        raise Usage(f"expected the {held} tokens that the cache has read, found {len(ids)}")
    keys, values = _taken(cache, tokens=None)
    check_shapes(layout, kept := Memory(tuple(ids), keys, values))
    return kept


def _storable(network: Any) -> Layout:
    layout = layout_of(network.config)
    if layout.store_refusal:
        raise Usage(f"the cache of {type(network).__name__} cannot be kept: {layout.store_refusal}")
    return layout


def new_cache(network: Any) -> Any:
    """An empty cache of transformers, laid out as the network's layers are."""
    from transformers import DynamicCache

    return DynamicCache(config=network.config)


def _taken(cache: Any, *, tokens: int | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Keys and values per layer: all that the cache has, or those of the last `tokens` by themselves."""
    if tokens is None:
        return tuple(one.keys[0] for one in cache.layers), tuple(one.values[0] for one in cache.layers)
    keys = tuple(one.keys[0, :, -tokens:].contiguous() for one in cache.layers)
    return keys, tuple(one.values[0, :, -tokens:].contiguous() for one in cache.layers)


def check_shapes(layout: Layout, memory: Memory) -> None:
    """Raises WrongModel when a memory's tensors are not what the layout keeps of so many tokens."""
    if not len(layout.layers) == len(memory.keys) == len(memory.values):
        raise WrongModel(f"expected keys and values of {len(layout.layers)} layers, found {len(memory.keys)}")
    for number, layer in enumerate(layout.layers):
        expected = (layer.kv_heads, layer.kept(len(memory.ids)), layer.head_dim)
        for found in (tuple(memory.keys[number].shape), tuple(memory.values[number].shape)):
            if found != expected:
                raise WrongModel(f"layer {number}: expected keys and values of shape {expected}, found {found}")


def forward(
    network: Any,
    ids: Sequence[int],
    *,
    cache: Any,
    position: int | Sequence[int],
    logits: int,
    mask: Tensor | None = None,
) -> Pass:
    """Reads `ids` after what the cache holds and grows the cache; the logits are those of the last `logits` tokens.

    `position` is that of the first token, or of each. Without a mask every token sees what stands before it.
    """
    import torch

    where = list(range(position, position + len(ids))) if isinstance(position, int) else list(position)
    device = network.device
    more = {"logits_to_keep": logits} if keeps_logits(network) else {}
    with torch.no_grad(), _sharing_heads(network, tokens=len(ids)):
        out = network(
            input_ids=torch.tensor([list(ids)], device=device), past_key_values=cache, use_cache=True,
            position_ids=torch.tensor([where], device=device), attention_mask=mask, **more,
        )  # fmt: skip
    return Pass(out.logits[0, -logits:], cache, where[-1] + 1)


@contextmanager
def _sharing_heads(network: Any, *, tokens: int) -> Iterator[None]:
    """Inside, heads that share keys read the same ones, of which transformers makes a copy for each where it masks.

    Only on a CPU, whose kernel takes shared heads and a mask at once and gives the same bits. A single token is not
    slowed by the copies: transformers makes none for it. Threads may be inside together; the last one out puts the
    variable back as it was.
    """
    global _inside, _before
    if network.device.type != "cpu" or tokens == 1:
        yield
        return
    with _SHARING:
        if not _inside:
            _before = os.environ.get(_SHARED_HEADS)
            os.environ[_SHARED_HEADS] = "1"
        _inside += 1
    try:
        yield
    finally:
        with _SHARING:
            _inside -= 1
            if not _inside:
                if _before is None:
                    del os.environ[_SHARED_HEADS]
                else:
                    os.environ[_SHARED_HEADS] = _before


def keeps_logits(network: Any) -> bool:
    """Whether a network can leave out the logits that nobody asked for."""
    return "logits_to_keep" in inspect.signature(network.forward).parameters


def to_cache(network: Any, memory: Memory) -> Any:
    """A cache of transformers around the memory's own tensors, which it never writes to: no copy is made.

    Raises Usage for a memory that does not begin at position 0, WrongModel for one of another shape.
    """
    check_shapes(_storable(network), memory)
    if memory.base:
        raise Usage(f"expected a memory from position 0, found one from {memory.base}", hint="shift it to 0 first")
    cache = new_cache(network)
    for layer, keys, values in zip(cache.layers, memory.keys, memory.values, strict=True):
        # without this call a layer says that it holds nothing, and its next update wipes the memory silently
        layer.lazy_initialization(keys[None], values[None])
        layer.keys, layer.values = keys[None], values[None]
        if hasattr(layer, "cumulative_length"):
            layer.cumulative_length = len(memory.ids)
    return cache


def shared_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts have in common from their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def reusable_tokens(layout: Layout, memory: Memory, ids: Sequence[int]) -> int:
    """How many of the tokens `ids` the memory saves reading: what both begin with, but never all of `ids`.

    One token is held back, for without one to read there is no next one. 0 where the memory would have to be cut and
    a window of the model has dropped what would be needed then.
    """
    shared = min(shared_tokens(memory.ids, ids), len(ids) - 1)
    cut = shared < len(memory.ids)
    dropped = layout.window is not None and len(memory.ids) >= layout.window
    return 0 if memory.base or shared < 1 or (cut and dropped) else shared


def crop(layout: Layout, memory: Memory, tokens: int) -> Memory:
    """The first `tokens` tokens of a memory, as views of the same tensors. Raises Usage where a window dropped some."""
    if not 0 < tokens <= len(memory.ids):
        raise Usage(f"expected 1 to {len(memory.ids)} tokens to keep, found {tokens}")
    if tokens == len(memory.ids):
        return memory
    if layout.window is not None and len(memory.ids) >= layout.window:
        raise Usage(f"a memory of {len(memory.ids)} tokens cannot be cut: a window of {layout.window} dropped some")
    keys = tuple(one[:, :tokens] for one in memory.keys)
    return replace(memory, ids=memory.ids[:tokens], keys=keys, values=tuple(one[:, :tokens] for one in memory.values))


def resume(network: Any, memory: Memory, following: Sequence[int], *, logits: int = 0) -> Pass:
    """What the model gives after the memory's tokens and `following`; logits of the last `logits`, 0 for all of them.

    Raises Usage for nothing to read.
    """
    if not following:
        raise Usage("expected at least one token after the memory, found none")
    cache = to_cache(network, memory)
    return read_on(network, following, cache=cache, position=len(memory.ids), logits=logits or len(following))


def split_prefill(network: Any, ids: Sequence[int], following: Sequence[int], *, logits: int = 0) -> Pass:
    """The baseline: the model reads `ids`, and then `following`, with its own cache. Logits as in `resume`."""
    cache = new_cache(network)
    first = forward(network, ids, cache=cache, position=0, logits=1)
    return read_on(network, following, cache=cache, position=first.position, logits=logits or len(following))


def read_on(network: Any, ids: Sequence[int], *, cache: Any, position: int, logits: int) -> Pass:
    """Reads `ids` after what the cache holds, in equal pieces that are not long; the logits as in `forward`.

    In one pass each token would be compared with all that follow it too, and the mask take that away again; of two
    pieces a quarter of the square is not computed.
    """
    import torch

    count = -(-len(ids) // PIECE_TOKENS)
    bounds = [len(ids) * number // count for number in range(count + 1)]
    found = []
    for start, end in pairwise(bounds):
        wanted = min(end - start, logits - (len(ids) - end))
        read = forward(network, ids[start:end], cache=cache, position=position + start, logits=max(wanted, 1))
        found += [read.logits] if wanted > 0 else []
    return Pass(torch.cat(found) if len(found) > 1 else found[0], read.cache, read.position)


def write(network: Any, begun: Pass, *, limit_tokens: int) -> list[int]:
    """The likeliest tokens after a pass, one by one; always `limit_tokens` of them. The pass's cache grows."""
    written = [int(begun.logits[-1].argmax())]
    while len(written) < limit_tokens:
        begun = forward(network, written[-1:], cache=begun.cache, position=begun.position, logits=1)
        written.append(int(begun.logits[-1].argmax()))
    return written


def shift(network: Any, memory: Memory, *, base: int) -> Memory:
    """The memory with its first token at position `base`: keys are turned by the difference, values are the same.

    New keys, computed in float32; the memory's own are not touched. Exact to rounding, as if the text had been read
    there by itself. Raises Usage for a model whose keys cannot be turned.
    """
    if base == memory.base:
        return memory
    if refusal := layout_of(network.config).shift_refusal:
        raise Usage(f"the keys of {type(network).__name__} cannot be moved: {refusal}")
    frequencies = frequencies_of(network)
    keys = tuple(turn(one, base - memory.base, frequencies) for one in memory.keys)
    return replace(memory, keys=keys, base=base)


def shift_error(network: Any, *, tokens: int = 8, base: int = 64) -> float:
    """How far moved keys are from those of the same tokens read there: the largest relative norm over the layers.

    Two short passes that prove a family nobody has tried: rounding is 1e-6 to 1e-4 in float32, 1e-2 in bfloat16; a
    layer that turns its keys otherwise, or not at all, is off by far more. Raises Usage as `shift` does.
    """
    ids = range(1, tokens + 1)
    moved = shift(network, prefill(network, ids), base=base)
    pairs = zip(moved.keys, prefill(network, ids, base=base).keys, strict=True)
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in pairs)


def frequencies_of(network: Any) -> Tensor:
    """What the network turns a key by from one position to the next, in radians: one angle per pair of numbers.

    Raises Usage where the network has no such table, or turns neighbours in place of halves.
    """
    import sys

    import torch

    found = [buffer for name, buffer in network.named_buffers() if name.rsplit(".", 1)[-1] == "inv_freq"]
    # PEFT and the like wrap a network: the class that knows how keys are turned is that of the decoder inside
    module = sys.modules[type(network.get_decoder()).__module__]
    rotate = getattr(module, "rotate_half", None)
    if not found or rotate is None or any(not torch.equal(found[0], one) for one in found):
        raise Usage(f"the keys of {type(network).__name__} cannot be moved: it has no rope that memos knows")
    if rotate(torch.arange(4.0)).tolist() != [-2.0, -3.0, 0.0, 1.0]:
        raise Usage(f"the keys of {type(network).__name__} cannot be moved: its rope turns neighbours, not halves")
    table: Tensor = found[0].float()
    return table


def turn(keys: Tensor, positions: int, frequencies: Tensor) -> Tensor:
    """Keys [..., head_dim] turned on by so many positions; what is beyond the frequencies (partial rotary) stays.

    Without the rope's scaling of attention: that is in the keys already.
    """
    import torch

    angle = positions * frequencies.to(keys.device)
    cosine, sine, half = angle.cos(), angle.sin(), len(frequencies)
    wide = keys.float()
    first, second, rest = wide[..., :half], wide[..., half : 2 * half], wide[..., 2 * half :]
    turned = torch.cat((first * cosine - second * sine, second * cosine + first * sine, rest), dim=-1)
    return turned.to(keys.dtype)
