"""Several memories before one question: each read by itself, now standing one after the other.

What a memory lacks is that it never saw those before it. So some of their tokens are read again, in the same pass as
the question: `concat` none, `link` the first few of each, `blend` those whose keys are off the most, `full` all of
them. `parallel` leaves every memory at the same positions. Knows nothing of cubes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Usage
from memos_cli.runtime.kv import Memory, Pass, check_shapes, forward, shift
from memos_cli.runtime.layout import Layout, layout_of

if TYPE_CHECKING:
    from torch import Tensor

CONCAT, LINK, BLEND, PARALLEL, FULL = "concat", "link", "blend", "parallel", "full"
MODES = (CONCAT, LINK, BLEND, PARALLEL, FULL)
LINK_TOKENS = 16
RECOMPUTE_RATIO = 0.15


@dataclass(frozen=True, slots=True)
class Composed:
    """The pass over the question, with its logits, and how many of the memories' tokens were reused and read again."""

    read: Pass
    reused: int
    recomputed: int


def refusal(network: Any, *, mode: str, tokens: int) -> str:
    """Why memories cannot be composed in a mode, `tokens` in all with question and answer; "" where they can."""
    layout = layout_of(network.config)
    if layout.store_refusal:
        return layout.store_refusal
    if layout.window is not None and tokens > layout.window:
        return f"{tokens} tokens are more than the {layout.window} that a window of it sees"
    return layout.shift_refusal


def compose(
    network: Any,
    segments: Sequence[Memory],
    question: Sequence[int],
    *,
    mode: str = BLEND,
    link_tokens: int = LINK_TOKENS,
    recompute_ratio: float = RECOMPUTE_RATIO,
    limit_tokens: int = 0,
) -> Composed:
    """What the model gives for `question` after the segments; `limit_tokens` is how much will be written after it.

    `recompute_ratio` is of the tokens of all segments but the first, which has nothing before it and is right as it
    is. The segments' tensors are not touched. Raises Usage for a model or a call that cannot be composed.
    """
    _check(network, segments, question, mode=mode, limit_tokens=limit_tokens, ratio=recompute_ratio, link=link_tokens)
    starts = _starts(segments, mode=mode)
    moved = [shift(network, one, base=start) for one, start in zip(segments, starts, strict=True)]
    ids = [token for one in segments for token in one.ids]
    again = _chosen(network, moved, ids, mode=mode, link_tokens=link_tokens, ratio=recompute_ratio)
    first = max(one.base + len(one.ids) for one in moved)
    read = _read(network, moved, ids, again, question, position=first)
    return Composed(read, len(ids) - len(again), len(again))


def _check(
    network: Any, segments: Sequence[Memory], question: Sequence[int], *, mode: str, limit_tokens: int, ratio: float,
    link: int,
) -> None:  # fmt: skip
    if mode not in MODES:
        raise Usage(f"expected a mode of {', '.join(MODES)}, found {mode!r}")
    if not segments or not question:
        raise Usage("expected memories and a question, found none")
    if not 0 <= ratio <= 1 or link < 0 or limit_tokens < 0:
        raise Usage(f"expected a ratio of 0 to 1 and no less than 0 tokens, found {ratio}, {link} and {limit_tokens}")
    tokens = sum(len(one.ids) for one in segments) + len(question) + limit_tokens
    if reason := refusal(network, mode=mode, tokens=tokens):
        raise Usage(f"memories of {type(network).__name__} cannot be composed: {reason}", hint="--form plaintext")
    for one in segments:
        check_shapes(_unbounded(layout_of(network.config)), one)


def _unbounded(layout: Layout) -> Layout:
    """The same layout without windows: what is composed is shorter than any, and a memory of a full one is not."""
    return replace(layout, layers=tuple(replace(layer, window=None) for layer in layout.layers))


def _starts(segments: Sequence[Memory], *, mode: str) -> list[int]:
    """The position of each segment's first token."""
    if mode == PARALLEL:
        return [0] * len(segments)
    return [sum(len(one.ids) for one in segments[:number]) for number in range(len(segments))]


def _chosen(
    network: Any, moved: Sequence[Memory], ids: Sequence[int], *, mode: str, link_tokens: int, ratio: float
) -> list[int]:
    """The places, in order, of the tokens that are read again."""
    first = len(moved[0].ids)
    if mode == FULL:
        return list(range(len(ids)))
    if mode == LINK:
        return [one.base + at for one in moved[1:] for at in range(min(link_tokens, len(one.ids)))]
    count = round(ratio * (len(ids) - first)) if mode == BLEND else 0
    if not count:
        return []
    if count == len(ids) - first:
        return list(range(first, len(ids)))
    found = deviations(network, moved, ids).topk(count).indices
    return sorted(first + at for at in found.tolist())


def deviations(network: Any, moved: Sequence[Memory], ids: Sequence[int]) -> Tensor:
    """How far the keys of each token after the first segment are from where they should be: squared, at layer 1.

    One layer is run over those tokens, and of the next one only what its keys need (CacheBlend, Yao and others 2024).
    Raises Usage for a model of one layer, whose keys are never off.
    """
    from transformers import Cache
    from transformers.cache_utils import DynamicLayer

    if len(moved[0].keys) < 2:
        raise Usage("expected a model of at least two layers to blend, found one")

    class Listening(DynamicLayer):  # type: ignore[no-untyped-call]
        """Takes the keys of the layer it stands for, and ends the pass."""

        def update(self, key_states: Tensor, *_given: Any, **_named: Any) -> tuple[Tensor, Tensor]:
            raise _Heard(key_states)

    first = moved[0]
    known = DynamicLayer()  # type: ignore[no-untyped-call]
    known.lazy_initialization(first.keys[0][None], first.values[0][None])
    known.keys, known.values = first.keys[0][None], first.values[0][None]
    cache, rest = Cache(layers=[known, Listening()]), list(range(len(first.ids), len(ids)))  # type: ignore[no-untyped-call]
    try:
        mask = _mask(network, rest, list(range(len(ids))))
        forward(network, ids[len(first.ids) :], cache=cache, position=rest, logits=1, mask=mask)
    except _Heard as heard:
        stored = _joined([one.keys[1] for one in moved[1:]])
        return ((heard.keys.float() - stored.float()) ** 2).sum(dim=(0, 1, 3))
    raise Usage(f"{type(network).__name__} asks nothing of its second layer's cache; it cannot be blended")


class _Heard(Exception):
    """The keys that were waited for."""

    def __init__(self, keys: Tensor) -> None:
        super().__init__()
        self.keys = keys


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """One new tensor [1, kv_heads, tokens, head_dim]; torch copies even where there is only one."""
    import torch

    return torch.cat(list(tensors), dim=1)[None]


def _mask(network: Any, asking: Sequence[int], seen: Sequence[int]) -> Tensor:
    """[1, 1, asking, seen]: a token sees what stands no later than it, by place and not by order in the pass."""
    import torch

    device = network.device
    open_ = torch.tensor(list(seen), device=device)[None] <= torch.tensor(list(asking), device=device)[:, None]
    if network.config.get_text_config(decoder=True)._attn_implementation == "sdpa":
        return open_[None, None]
    closed = torch.full((), torch.finfo(network.dtype).min, dtype=network.dtype, device=device)
    return torch.where(open_, torch.zeros_like(closed), closed)[None, None]


def _read(
    network: Any, moved: Sequence[Memory], ids: Sequence[int], again: Sequence[int], question: Sequence[int], *,
    position: int,
) -> Pass:  # fmt: skip
    """One pass over the tokens that are read again and the question; what comes after may be written as usual."""
    from transformers import Cache

    places = [*again, *range(len(ids), len(ids) + len(question))]
    # memories that stand side by side are never read again, so a token's place is its position but for the question
    positions = [*again, *range(position, position + len(question))]
    mask = _mask(network, places, range(len(ids) + len(question)))
    cache = Cache(layers=_layers(moved, again))
    tokens = [*(ids[at] for at in again), *question]
    return forward(network, tokens, cache=cache, position=positions, logits=len(question), mask=mask)


def _layers(moved: Sequence[Memory], again: Sequence[int]) -> list[Any]:
    """Layers of a cache that hold the memories; their first update puts what was read again into its place."""
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

    numbers = range(len(moved[0].keys))
    return [Scattering(_joined([m.keys[n] for m in moved]), _joined([m.values[n] for m in moved])) for n in numbers]
