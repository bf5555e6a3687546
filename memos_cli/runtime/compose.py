"""Several memories in one prompt: each was read by itself, and now stands where its text would.

What a memory lacks is that it never saw those before it. So some of their tokens are read again, in the same pass as
all of the prompt that no memory holds: `concat` none, `link` the first few of each, `blend` those whose keys are off
the most, `full` all of them. `parallel` leaves every memory at the same positions. Knows nothing of cubes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memos_cli.errors import Usage
from memos_cli.runtime import sparse
from memos_cli.runtime.attend import attending
from memos_cli.runtime.kv import Memory, Pass, check_shapes, forward, prefill, read_on, shift, to_cache
from memos_cli.runtime.layout import Layout, layout_of
from memos_cli.runtime.sparse import SparseMemory

if TYPE_CHECKING:
    from torch import Tensor

CONCAT, LINK, BLEND, PARALLEL, FULL = "concat", "link", "blend", "parallel", "full"
MODES = (CONCAT, LINK, BLEND, PARALLEL, FULL)
LINK_TOKENS = 16
RECOMPUTE_RATIO = 0.15


AnyMemory = TypeVar("AnyMemory", bound=Memory | SparseMemory)


@dataclass(frozen=True, slots=True)
class Placed(Generic[AnyMemory]):
    """A memory, and the place in the prompt of its first token."""

    memory: AnyMemory
    at: int

    @property
    def end(self) -> int:
        """The place after its last token."""
        return self.at + len(self.memory.ids)


@dataclass(frozen=True, slots=True)
class Recompute:
    """How much is read again: tokens of each memory (`link`), share of the tokens of all but the first (`blend`)."""

    link_tokens: int = LINK_TOKENS
    ratio: float = RECOMPUTE_RATIO


@dataclass(frozen=True, slots=True)
class Composed:
    """The pass over the prompt's end, and how many of the memories' tokens were reused and read again.

    The logits are those of the tokens after the last memory. `seconds` went into moving the memories (`rotate`),
    finding what to read again (`choose`) and the pass itself (`read`).
    """

    read: Pass
    reused: int
    recomputed: int
    seconds: dict[str, float]


def refusal(network: Any, *, mode: str, tokens: int, moved: bool = True) -> str:
    """Why memories cannot be composed in a mode, `tokens` in all with question and answer; "" where they can.

    Those that stay where they were read (`moved` is False) need no rope that can be turned.
    """
    layout = layout_of(network.config)
    if layout.store_refusal:
        return layout.store_refusal
    if layout.window is not None and tokens > layout.window:
        return f"{tokens} tokens are more than the {layout.window} that a window of it sees"
    return layout.shift_refusal if moved else ""


def compose(
    network: Any,
    segments: Sequence[Memory],
    question: Sequence[int],
    *,
    mode: str = BLEND,
    link_tokens: int = LINK_TOKENS,
    recompute_ratio: float = RECOMPUTE_RATIO,
    limit_tokens: int = 0,
    logits: int = 0,
) -> Composed:
    """What the model gives for `question` after the segments, one after the other; see `inject`."""
    ids = [token for one in segments for token in one.ids]
    starts = [sum(len(one.ids) for one in segments[:number]) for number in range(len(segments))]
    placed = [Placed(one, start) for one, start in zip(segments, starts, strict=True)]
    again = Recompute(link_tokens, recompute_ratio)
    prompt = [*ids, *question]
    return inject(network, prompt, placed, mode=mode, again=again, limit_tokens=limit_tokens, logits=logits)


def inject(
    network: Any,
    ids: Sequence[int],
    placed: Sequence[Placed[Any]],
    *,
    mode: str = BLEND,
    again: Recompute = Recompute(),
    limit_tokens: int = 0,
    logits: int = 0,
) -> Composed:
    """What the model gives for the prompt `ids` of which the memories, in order, hold parts.

    Whatever no memory holds is read, and so is what `mode` chooses; the first memory is never chosen but by `full`,
    for nothing stands before it that it has not seen. `limit_tokens` is how much will be written after it. A memory
    from the very beginning of the prompt is put back without a copy, bit for bit. The logits are those of the last
    `logits` tokens, 0 for all that come after the memories. The memories' tensors are not touched. Raises Usage for a
    model or a call that cannot be composed.
    """
    _check(network, ids, placed, mode=mode, limit_tokens=limit_tokens, again=again)
    whole = [Placed(one.memory, one.at) for one in placed if isinstance(one.memory, Memory)]
    if len(whole) < len(placed):
        return _joined(network, ids, placed, mode=mode, logits=logits)
    first = whole[0]
    if len(whole) == 1 and first.at == 0 == first.memory.base and mode != FULL:
        return _resumed(network, ids, first, logits=logits)
    prompt = _Prompt(ids, whole, parallel=mode == PARALLEL)
    _check_possible(network, prompt, whole, mode=mode, limit_tokens=limit_tokens)
    start = perf_counter()
    moved = [replace(one, memory=shift(network, one.memory, base=prompt.position(one.at))) for one in whole]
    turned = perf_counter()
    chosen = _chosen(network, prompt, moved, mode=mode, again=again)
    found = perf_counter()
    read = _read(network, prompt, moved, sorted({*prompt.literal, *chosen}), logits=logits)
    held = sum(len(one.memory.ids) for one in whole)
    seconds = {"rotate": turned - start, "choose": found - turned, "read": perf_counter() - found}
    return Composed(read, held - len(chosen), len(chosen), seconds)


def attended(network: Any, placed: Sequence[Placed[Any]]) -> AbstractContextManager[None]:
    """Around `inject` and what is written after it: attention that takes layers of different lengths, where it must."""
    return attending(network) if any(isinstance(one.memory, SparseMemory) for one in placed) else nullcontext()


def _joined(network: Any, ids: Sequence[int], placed: Sequence[Placed[Any]], *, mode: str, logits: int) -> Composed:
    """Where heads keep tokens of their own nothing is read again, and what stands between is read by itself."""
    if mode != CONCAT:
        raise Usage(f"memories whose heads keep tokens of their own are joined by {CONCAT} only, found {mode}")
    start = perf_counter()
    parts: list[Memory | SparseMemory] = []
    cursor = 0
    for one in placed:
        if one.at > cursor:
            parts.append(prefill(network, ids[cursor : one.at]))
        parts.append(one.memory)
        cursor = one.end
    joined = sparse.join(network, parts)
    turned = perf_counter()
    read = sparse.resume(network, joined, ids[cursor:], logits=logits)
    held = sum(len(one.memory.ids) for one in placed)
    return Composed(read, held, 0, {"rotate": turned - start, "choose": 0.0, "read": perf_counter() - turned})


def _resumed(network: Any, ids: Sequence[int], first: Placed[Memory], *, logits: int) -> Composed:
    start = perf_counter()
    cache = to_cache(network, first.memory)
    made = perf_counter()
    rest = ids[first.end :]
    read = read_on(network, rest, cache=cache, position=first.end, logits=logits or len(rest))
    return Composed(read, first.end, 0, {"rotate": made - start, "choose": 0.0, "read": perf_counter() - made})


class _Prompt:
    """The tokens of a prompt, which places no memory holds, and at which position each place stands."""

    def __init__(self, ids: Sequence[int], placed: Sequence[Placed[Any]], *, parallel: bool) -> None:
        self.ids = list(ids)
        self.end = placed[-1].end
        held = {place for one in placed for place in range(one.at, one.end)}
        # up to the end of the last memory; after it everything is read in any case
        self.literal = [place for place in range(self.end) if place not in held]
        self._spans = [(one.at, one.end) for one in placed] if parallel else []

    def position(self, place: int) -> int:
        """Where a token stands: at its place, or in `parallel` as if only the longest memory stood before it.

        (Memory3, section 3.3: references share one interval of positions, and the context follows it.)
        """
        before = [end - at for at, end in self._spans if end <= place]
        started = next((at for at, end in self._spans if at <= place < end), None)
        if started is not None:
            return self._spans[0][0] + place - started
        return place - sum(before) + max(before, default=0)


def _check(
    network: Any, ids: Sequence[int], placed: Sequence[Placed[Any]], *, mode: str, limit_tokens: int, again: Recompute
) -> None:
    if mode not in MODES:
        raise Usage(f"expected a mode of {', '.join(MODES)}, found {mode!r}")
    if not 0 <= again.ratio <= 1 or again.link_tokens < 0 or limit_tokens < 0:
        found = f"{again.ratio}, {again.link_tokens} and {limit_tokens}"
        raise Usage(f"expected a ratio of 0 to 1 and no less than 0 tokens, found {found}")
    if not placed or placed[-1].end >= len(ids):
        raise Usage("expected memories and a question, found none")
    if placed[0].at < 0 or any(one.end > other.at for one, other in pairwise(placed)):
        raise Usage("expected memories in order that do not overlap")
    for one in placed:
        if tuple(ids[one.at : one.end]) != one.memory.ids:
            # the wrong memory would give a wrong answer and no error
            raise Usage(f"expected the memory of the tokens from place {one.at} on, found one of other tokens")


def _check_possible(
    network: Any, prompt: _Prompt, placed: Sequence[Placed[Memory]], *, mode: str, limit_tokens: int
) -> None:
    moved = any(prompt.position(one.at) != one.memory.base for one in placed)
    if reason := refusal(network, mode=mode, tokens=len(prompt.ids) + limit_tokens, moved=moved):
        raise Usage(f"memories of {type(network).__name__} cannot be composed: {reason}", hint="--form plaintext")
    for one in placed:
        check_shapes(_unbounded(layout_of(network.config)), one.memory)


def _unbounded(layout: Layout) -> Layout:
    """The same layout without windows: what is composed is shorter than any, and a memory of a full one is not."""
    return replace(layout, layers=tuple(replace(layer, window=None) for layer in layout.layers))


def _chosen(
    network: Any, prompt: _Prompt, moved: Sequence[Placed[Memory]], *, mode: str, again: Recompute
) -> list[int]:
    """The places, in order, of the memories' tokens that are read again."""
    if mode == FULL:
        return [place for one in moved for place in range(one.at, one.end)]
    if mode == LINK:
        return [place for one in moved[1:] for place in range(one.at, min(one.at + again.link_tokens, one.end))]
    places = [place for one in moved[1:] for place in range(one.at, one.end)]
    count = round(again.ratio * len(places)) if mode == BLEND else 0
    if not count or count == len(places):
        return places[:count]
    found = _deviations(network, prompt, moved).topk(count).indices
    return sorted(places[at] for at in found.tolist())


def deviations(network: Any, moved: Sequence[Memory], ids: Sequence[int]) -> Tensor:
    """How far the keys of each token after the first memory are from where they should be: squared, at layer 1.

    The memories stand one after the other, each at its base. One layer is run over the tokens that no memory before
    has seen, and of the next one only what its keys need (CacheBlend, Yao and others 2024). Raises Usage for a model
    of one layer, whose keys are never off.
    """
    placed = [Placed(one, one.base) for one in moved]
    return _deviations(network, _Prompt(ids, placed, parallel=False), placed)


def _deviations(network: Any, prompt: _Prompt, moved: Sequence[Placed[Memory]]) -> Tensor:
    import torch
    from transformers import Cache
    from transformers.cache_utils import DynamicLayer

    first = moved[0]
    if len(first.memory.keys) < 2:
        raise Usage("expected a model of at least two layers to blend, found one")

    class Listening(DynamicLayer):  # type: ignore[no-untyped-call]
        """Takes the keys of the layer it stands for, and ends the pass."""

        def update(self, key_states: Tensor, *_given: Any, **_named: Any) -> tuple[Tensor, Tensor]:
            raise _Heard(key_states)

    places = [place for place in range(prompt.end) if not first.at <= place < first.end]
    layers = [_layer(prompt, moved[:1], places, 0), Listening()]  # type: ignore[no-untyped-call]
    try:
        _forward(network, prompt, Cache(layers=layers), places, seen=prompt.end, logits=1)
    except _Heard as heard:
        stored = torch.cat([one.memory.keys[1] for one in moved[1:]], dim=1)
        at = {place: number for number, place in enumerate(places)}
        held = [at[place] for one in moved[1:] for place in range(one.at, one.end)]
        return ((heard.keys[0, :, held].float() - stored.float()) ** 2).sum(dim=(0, 2))
    raise Usage(f"{type(network).__name__} asks nothing of its second layer's cache; it cannot be blended")


class _Heard(Exception):
    """The keys that were waited for."""

    def __init__(self, keys: Tensor) -> None:
        super().__init__()
        self.keys = keys


def _mask(network: Any, asking: Sequence[int], seen: Sequence[int]) -> Tensor:
    """[1, 1, asking, seen]: a token sees what stands no later than it, by place and not by order in the pass."""
    import torch

    device = network.device
    open_ = torch.tensor(list(seen), device=device)[None] <= torch.tensor(list(asking), device=device)[:, None]
    if network.config.get_text_config(decoder=True)._attn_implementation == "sdpa":
        return open_[None, None]
    closed = torch.full((), torch.finfo(network.dtype).min, dtype=network.dtype, device=device)
    return torch.where(open_, torch.zeros_like(closed), closed)[None, None]


def _forward(network: Any, prompt: _Prompt, cache: Any, places: Sequence[int], *, seen: int, logits: int) -> Pass:
    """A pass over the tokens at some places, where the cache shows those at all places before `seen`."""
    tokens, positions = [prompt.ids[place] for place in places], [prompt.position(place) for place in places]
    mask = _mask(network, places, range(seen))
    return forward(network, tokens, cache=cache, position=positions, logits=logits, mask=mask)


def _read(network: Any, prompt: _Prompt, moved: Sequence[Placed[Memory]], again: Sequence[int], *, logits: int) -> Pass:
    """One pass over the places that are read again and the prompt's end; what comes after may be written as usual."""
    from transformers import Cache

    length = len(prompt.ids)
    cache = Cache(layers=[_layer(prompt, moved, again, number) for number in range(len(moved[0].memory.keys))])
    places = [*again, *range(prompt.end, length)]
    return _forward(network, prompt, cache, places, seen=length, logits=logits or length - prompt.end)


def _layer(prompt: _Prompt, moved: Sequence[Placed[Memory]], again: Sequence[int], number: int) -> Any:
    """A layer of a cache that holds the memories up to the end of the last one.

    Its first update puts what was read at the places `again` there, so that no place is left as it was made.
    """
    from transformers.cache_utils import DynamicLayer

    class Scattering(DynamicLayer):  # type: ignore[no-untyped-call]
        """Writes the first keys and values it gets where they belong, and appends all others."""

        def __init__(self, keys: Tensor, values: Tensor) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.lazy_initialization(keys, values)
            self.keys, self.values, self.waiting = keys, values, list(again)

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            if count := len(self.waiting):
                assert self.keys is not None
                assert self.values is not None
                self.keys[:, :, self.waiting] = key_states[:, :, :count]
                self.values[:, :, self.waiting] = value_states[:, :, :count]
                self.waiting = []
                key_states, value_states = key_states[:, :, count:], value_states[:, :, count:]
            return super().update(key_states, value_states, *args, **kwargs)

    keys = _spread([one.memory.keys[number] for one in moved], moved, prompt.end)
    values = _spread([one.memory.values[number] for one in moved], moved, prompt.end)
    return Scattering(keys, values)


def _spread(tensors: Sequence[Tensor], moved: Sequence[Placed[Memory]], length: int) -> Tensor:
    """One new tensor [1, kv_heads, length, head_dim] with each memory's own at its place, and nothing elsewhere."""
    heads, _tokens, width = tensors[0].shape
    whole = tensors[0].new_zeros((1, heads, length, width))
    for one, tensor in zip(moved, tensors, strict=True):
        whole[0, :, one.at : one.end] = tensor
    return whole
