"""Attention of our own around the model's: layers that hold different numbers of tokens, and who listens to queries.

It computes nothing itself. It cuts the mask to the tokens that a layer holds, tells a listener what is asked of what,
and passes on to what the model attends with: sdpa, or the eager function of its own file. Only inside `attending`; at
other times the network is as it was. It attends for one caller at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from memos_cli.errors import Usage

if TYPE_CHECKING:
    from torch import Tensor

OURS = {"sdpa": "memos_sdpa", "eager": "memos_eager"}
# What some models do to attention weights besides: scores that do not know of it would be of another model.
_EXTRAS = ("softcap", "s_aux", "position_bias")


class Heard(NamedTuple):
    """What a layer asks of what: queries [heads, asking, head_dim], keys and values [kv_heads, seen, head_dim].

    Keys and queries are turned by the rope. `scale` is what their products are multiplied by.
    """

    layer: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    scale: float


Listener = Callable[[Heard], None]
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def refusal(network: Any) -> str:
    """Why the attention of a network cannot be ours; "" where it can."""
    if _usual(network) is None:
        found = network.config.get_text_config(decoder=True)._attn_implementation
        return f"it attends with {found}, and memos knows sdpa and eager"
    # those that do not (Bloom, MPT, GPT-J) also count positions by how many keys there are
    return "" if network._can_set_attn_implementation() else "it attends in a way of its own, which nobody can choose"


@contextmanager
def attending(network: Any, listener: Listener | None = None) -> Iterator[None]:
    """Inside, the network takes layers that hold different numbers of tokens, and tells `listener` of each layer.

    Raises Usage for a network whose attention cannot be ours.
    """
    if reason := refusal(network):
        raise Usage(f"the attention of {type(network).__name__} cannot be changed: {reason}")
    _register()
    config = network.config.get_text_config(decoder=True)
    before, token = config._attn_implementation, _LISTENER.set(listener)
    config._attn_implementation = _usual(network)
    try:
        yield
    finally:
        config._attn_implementation = before
        _LISTENER.reset(token)


def _usual(network: Any) -> str | None:
    """Our name for what the network attends with, which may be it already."""
    found = network.config.get_text_config(decoder=True)._attn_implementation
    return OURS.get(found, found if found in OURS.values() else None)


def _register() -> None:
    """Makes both names known to transformers; they stay known, and nobody has them who does not ask."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    AttentionInterface.register(OURS["sdpa"], _sdpa)
    AttentionInterface.register(OURS["eager"], _eager)
    AttentionMaskInterface.register(OURS["sdpa"], sdpa_mask)
    AttentionMaskInterface.register(OURS["eager"], eager_mask)


def _sdpa(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, Tensor | None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    _tell(module, query, key, value, more)
    return sdpa_attention_forward(module, query, key, value, _cut(attention_mask, key), **more)


def _eager(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, Tensor | None]:
    own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if own is None:
        raise Usage(f"{type(module).__name__} has no eager attention that memos knows")
    _tell(module, query, key, value, more)
    found: tuple[Tensor, Tensor | None] = own(module, query, key, value, _cut(attention_mask, key), **more)
    return found


def _cut(mask: Tensor | None, key: Tensor) -> Tensor | None:
    """The last columns of a mask: what was read after the memory, and as much of it as the layer holds."""
    return None if mask is None else mask[..., -key.shape[2] :]


def _tell(module: Any, query: Tensor, key: Tensor, value: Tensor, more: dict[str, Any]) -> None:
    listener = _LISTENER.get()
    if listener is None:
        return
    if extra := next((name for name in _EXTRAS if more.get(name) is not None), None):
        raise Usage(f"{type(module).__name__} does more to its attention than memos knows ({extra})")
    scale = more.get("scaling")
    listener(Heard(module.layer_idx, query[0], key[0], value[0], query.shape[-1] ** -0.5 if scale is None else scale))
