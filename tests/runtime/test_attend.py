"""Attention of our own: what it hears is what the model computes, and the model computes the same as without it."""

from __future__ import annotations

from typing import Any

import pytest

from memos_cli.errors import Usage
from memos_cli.runtime import kv
from memos_cli.runtime.attend import Heard, attending, refusal
from tests.runtime.test_layout import FAMILIES, new_model

TEXT = [(7 * n) % 89 + 5 for n in range(30)]


def read(network: Any) -> Any:
    return kv.forward(network, TEXT, cache=None, position=0, logits=len(TEXT)).logits


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_heard_is_what_is_attended_with(family: str, attention: str) -> None:
    import torch

    network = new_model(family, attention=attention)
    exact, out, heard = read(network), [], []
    ends = ("self_attn", "attention")
    modules = [module for path, module in network.named_modules() if path.rsplit(".", 1)[-1] in ends]
    hooks = [
        (getattr(module, "o_proj", None) or module.dense).register_forward_pre_hook(lambda _m, given: out.append(given))
        for module in modules
    ]
    with attending(network, heard.append):
        assert torch.equal(read(network), exact)
    for hook in hooks:
        hook.remove()
    assert [one.layer for one in heard] == [0, 1, 2]
    memory = kv.prefill(network, TEXT)
    for number, one in enumerate(heard):
        assert torch.allclose(one.keys[:, -memory.keys[number].shape[1] :], memory.keys[number], atol=1e-5)
        # the last token sees all, or a window's worth
        shared = one.queries.shape[0] // one.keys.shape[0]
        window = memory.keys[number].shape[1] + 1 if memory.keys[number].shape[1] < len(TEXT) else len(TEXT)
        keys, values = (each.repeat_interleave(shared, dim=0)[:, -window:] for each in (one.keys, one.values))
        weights = (one.queries[:, -1:] @ keys.transpose(1, 2) * one.scale).softmax(-1)
        assert torch.allclose((weights @ values).flatten(), out[number][0][0, -1], atol=1e-4)


def test_nobody_hears_outside_and_the_inner_listener_only_inside() -> None:
    network = new_model("llama")
    first: list[Heard] = []
    second: list[Heard] = []
    with attending(network, first.append):
        read(network)
        with attending(network, second.append):
            read(network)
        with attending(network):
            read(network)
        assert network.config._attn_implementation == "memos_sdpa"
        read(network)
    read(network)
    assert (len(first), len(second)) == (6, 3)
    assert network.config._attn_implementation == "sdpa"


def test_another_network_is_not_touched() -> None:
    network, other = new_model("llama"), new_model("llama")
    heard: list[Heard] = []
    with attending(network, heard.append):
        read(other)
        assert other.config._attn_implementation == "sdpa"
    assert not heard


def test_models_that_attend_their_own_way_say_so() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    bloom = BloomForCausalLM(BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4)).eval()
    assert "of its own" in refusal(bloom)
    with pytest.raises(Usage, match="of its own"), attending(bloom):
        pass
    network = new_model("llama")
    assert refusal(network) == ""
    network.config._attn_implementation = "flex_attention"
    assert "flex_attention" in refusal(network)


def test_scores_that_a_model_bends_are_not_told() -> None:
    kinds = {"layer_types": ["full_attention"] * 3}
    network = new_model("gemma2", attention="eager", **kinds)
    with pytest.raises(Usage, match="softcap"), attending(network, lambda _heard: None):
        read(network)
    assert network.config._attn_implementation == "eager"
    with attending(network):
        read(network)
