"""Layouts: what each family keeps, and the reasons for which a cache or its keys are refused."""

from __future__ import annotations

from typing import Any

import pytest

from memos_cli.runtime.layout import bytes_per_token, layout_of, rope_parameters

WINDOW = 12
SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = ["qwen3", "llama", "mistral", "gemma", "gemma3_text", "phi", "gpt_neox"]
SHIFTABLE = ["qwen3", "llama", "mistral", "gemma", "phi", "gpt_neox"]


def new_config(family: str, **more: Any) -> Any:
    """A tiny configuration of a family; windows are short where it has them."""
    from transformers import CONFIG_MAPPING

    given: dict[str, Any] = dict(SIZES)
    if family not in ("phi", "gpt_neox"):
        given |= {"num_key_value_heads": 2, "head_dim": 8}
    if family == "mistral":
        given["sliding_window"] = WINDOW
    if family == "gemma3_text":
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        given |= {"sliding_window": WINDOW, "layer_types": kinds}
    return CONFIG_MAPPING[family](**given | more)


def new_model(family: str, *, dtype: str = "float32", attention: str = "sdpa", **more: Any) -> Any:
    """A tiny model of a family, of random weights wide enough that attention tells tokens apart."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    network = AutoModelForCausalLM.from_config(new_config(family, **more), attn_implementation=attention)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() == 2 and "embed" not in name:
                weight.mul_(6)
    return network.eval().to(getattr(torch, dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_kept(family: str) -> None:
    layout = layout_of(new_config(family))
    assert layout.store_refusal == ""
    assert len(layout.layers) == 3
    heads, width = (4, 8) if family in ("phi", "gpt_neox") else (2, 8)
    assert {(layer.kv_heads, layer.head_dim) for layer in layout.layers} == {(heads, width)}
    assert bytes_per_token(layout, element_bytes=2) == 3 * 2 * heads * width * 2


def test_windows_are_those_of_the_cache() -> None:
    assert layout_of(new_config("llama")).window is None
    assert layout_of(new_config("mistral")).window == WINDOW
    mixed = layout_of(new_config("gemma3_text"))
    assert [layer.kind for layer in mixed.layers] == ["sliding", "full", "sliding"]
    assert [layer.kept(40) for layer in mixed.layers] == [WINDOW - 1, 40, WINDOW - 1]
    assert [layer.rope for layer in mixed.layers] == ["sliding_attention", "full_attention", "sliding_attention"]


@pytest.mark.parametrize("family", SHIFTABLE)
def test_one_plain_rope_can_be_shifted(family: str) -> None:
    assert layout_of(new_config(family)).shift_refusal == ""


@pytest.mark.parametrize(
    ("rope", "word"),
    [
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, "dynamic"),
        ({"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}, "mrope"),
        (
            {
                "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
                "factor": 2.0, "original_max_position_embeddings": 256,
            },
            "longrope",
        ),
    ],
)  # fmt: skip
def test_ropes_that_change_are_not_shifted(rope: dict[str, Any], word: str) -> None:
    layout = layout_of(new_config("llama", rope_parameters=rope))
    assert layout.store_refusal == ""
    assert word in layout.shift_refusal


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 256},
        {
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
    ],
)  # fmt: skip
def test_ropes_scaled_once_and_for_all_are_shifted(rope: dict[str, Any]) -> None:
    assert layout_of(new_config("llama", rope_parameters=rope)).shift_refusal == ""


def test_ropes_by_type_of_layer_are_not_shifted() -> None:
    config = new_config("gemma3_text")
    assert "several types" in layout_of(config).shift_refusal
    assert set(rope_parameters(config)) == {"sliding_attention", "full_attention"}


def test_compressed_states_and_running_states_are_not_kept() -> None:
    from transformers import CONFIG_MAPPING

    compressed = CONFIG_MAPPING["deepseek_v3"](num_hidden_layers=2)
    assert "MLA" in layout_of(compressed).store_refusal
    assert "MLA" in layout_of(compressed).shift_refusal
    running = CONFIG_MAPPING["qwen3_next"](num_hidden_layers=4)
    assert "linear" in layout_of(running).store_refusal


def test_learned_positions_are_not_shifted() -> None:
    from transformers import GPT2Config

    layout = layout_of(GPT2Config(n_layer=2, n_embd=32, n_head=4))
    assert layout.store_refusal == ""
    assert "no rope" in layout.shift_refusal


def test_models_with_layers_without_rope_are_not_shifted() -> None:
    assert "no rope" in layout_of(new_config("smollm3", no_rope_layers=[1, 0, 1])).shift_refusal
    assert layout_of(new_config("smollm3", no_rope_layers=[1, 1, 1])).shift_refusal == ""
