"""Caches of real tiny models of each family: put back, continued, cut and moved."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest

from memos_cli.errors import Usage, WrongModel
from memos_cli.runtime import kv
from memos_cli.runtime.layout import layout_of
from tests.runtime.test_layout import FAMILIES, SHIFTABLE, WINDOW, new_model

TEXT = [(7 * n) % 89 + 5 for n in range(40)]
QUESTION = [(11 * n) % 83 + 6 for n in range(9)]


@pytest.mark.many(7)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_putting_back_equals_reading_in_two_passes_bit_for_bit(family: str, dtype: str, attention: str) -> None:
    import torch

    network = new_model(family, dtype=dtype, attention=attention)
    memory = kv.prefill(network, TEXT)
    first = kv.split_prefill(network, TEXT, QUESTION)
    second = kv.resume(network, memory, QUESTION)
    assert torch.equal(first.logits, second.logits)
    assert kv.write(network, first, limit_tokens=6) == kv.write(network, second, limit_tokens=6)
    without = kv.forward(network, QUESTION, cache=None, position=len(TEXT), logits=len(QUESTION))
    assert not torch.allclose(without.logits, second.logits, atol=1e-2), "the memory is seen"


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_the_memory_is_neither_copied_nor_grown_by_what_is_written_after_it(family: str) -> None:
    import torch

    network = new_model(family)
    memory = kv.prefill(network, TEXT)
    kept = [one.clone() for one in (*memory.keys, *memory.values)]
    cache = kv.to_cache(network, memory)
    for layer, keys, values in zip(cache.layers, memory.keys, memory.values, strict=True):
        assert layer.keys.data_ptr() == keys.data_ptr()
        assert layer.values.data_ptr() == values.data_ptr()
    answers = [kv.write(network, kv.resume(network, memory, QUESTION), limit_tokens=8) for _turn in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert all(torch.equal(a, b) for a, b in zip(kept, (*memory.keys, *memory.values), strict=True))


def test_generate_takes_a_cache_that_was_put_back() -> None:
    import torch

    network = new_model("llama")
    whole = torch.tensor([[*TEXT, *QUESTION]])
    more = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(whole), "eos_token_id": None}
    memory = kv.prefill(network, TEXT)
    out = network.generate(whole, past_key_values=kv.to_cache(network, memory), **more)
    assert out[0, whole.shape[1] :].tolist() == kv.write(
        network, kv.split_prefill(network, TEXT, QUESTION), limit_tokens=6
    )


def test_a_cache_knows_its_length() -> None:
    network = new_model("gemma3_text")
    cache = kv.to_cache(network, kv.prefill(network, TEXT))
    assert [layer.get_seq_length() for layer in cache.layers] == [len(TEXT)] * 3
    assert cache.layers[0].get_mask_sizes(4) == (WINDOW - 1 + 4, len(TEXT) - WINDOW + 1)


@pytest.mark.parametrize("family", SHIFTABLE)
def test_moved_keys_are_those_of_a_text_read_there(family: str) -> None:
    import torch

    network = new_model(family)
    memory, there = kv.prefill(network, TEXT), kv.prefill(network, TEXT, base=90)
    before = memory.keys[0].clone()
    moved = kv.shift(network, memory, base=90)
    for number, bound in ((0, 1e-6), (2, 1e-4)):
        off = (moved.keys[number] - there.keys[number]).norm() / there.keys[number].norm()
        assert off < bound, f"layer {number}"
    assert torch.equal(moved.values[0], there.values[0])
    assert all(a is b for a, b in zip(moved.values, memory.values, strict=True))
    assert torch.equal(memory.keys[0], before)
    apart = (memory.keys[0] - there.keys[0]).norm() / there.keys[0].norm()
    assert apart > 0.1, "without turning they are not"
    back = kv.shift(network, moved, base=0)
    assert (back.keys[0] - before).norm() / before.norm() < 1e-6


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
        {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64},
        {
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ],
    ids=["linear", "yarn", "llama3"],
)  # fmt: skip
def test_scaled_ropes_are_turned_by_their_own_frequencies(rope: dict[str, Any]) -> None:
    network = new_model("llama", rope_parameters=rope)
    moved = kv.shift(network, kv.prefill(network, TEXT), base=90).keys[0]
    there = kv.prefill(network, TEXT, base=90).keys[0]
    assert (moved - there).norm() / there.norm() < 1e-6


def test_moved_keys_in_bfloat16_are_off_by_one_rounding() -> None:
    import torch

    network = new_model("qwen3", dtype="bfloat16")
    moved = kv.shift(network, kv.prefill(network, TEXT), base=90).keys[0]
    there = kv.prefill(network, TEXT, base=90).keys[0]
    assert moved.dtype == torch.bfloat16
    assert (moved.float() - there.float()).norm() / there.float().norm() < 1e-2


def test_keys_that_cannot_be_moved_are_refused_with_the_reason() -> None:
    network = new_model("gemma3_text")
    with pytest.raises(Usage, match="several types"):
        kv.shift(network, kv.prefill(network, TEXT), base=5)
    neighbours = new_model("cohere")
    with pytest.raises(Usage, match="neighbours"):
        kv.shift(neighbours, kv.prefill(neighbours, TEXT), base=5)


def test_what_a_memory_saves_is_the_shared_beginning_less_one() -> None:
    import torch

    network = new_model("qwen3")
    layout, memory = layout_of(network.config), kv.prefill(network, TEXT)
    assert kv.shared_tokens(TEXT, [*TEXT[:17], 3, *TEXT[18:]]) == 17
    assert kv.reusable_tokens(layout, memory, [*TEXT, *QUESTION]) == len(TEXT)
    assert kv.reusable_tokens(layout, memory, TEXT) == len(TEXT) - 1
    assert kv.reusable_tokens(layout, memory, [*TEXT[:17], 3]) == 17
    assert kv.reusable_tokens(layout, memory, [3, *TEXT]) == 0
    assert kv.reusable_tokens(layout, memory, []) == 0
    part = kv.crop(layout, memory, 17)
    assert part.keys[1].data_ptr() == memory.keys[1].data_ptr()
    assert torch.allclose(
        kv.resume(network, part, QUESTION).logits,
        kv.split_prefill(network, TEXT[:17], QUESTION).logits, atol=1e-3, rtol=1e-3,
    )  # fmt: skip


def test_a_full_window_is_reused_whole_or_not_at_all() -> None:
    network = new_model("mistral")
    layout, memory = layout_of(network.config), kv.prefill(network, TEXT)
    assert kv.reusable_tokens(layout, memory, [*TEXT, *QUESTION]) == len(TEXT)
    assert kv.reusable_tokens(layout, memory, TEXT) == 0
    assert kv.reusable_tokens(layout, memory, [*TEXT[:30], 3]) == 0
    with pytest.raises(Usage, match="window"):
        kv.crop(layout, memory, 20)
    short = kv.prefill(network, TEXT[: WINDOW - 1])
    assert kv.reusable_tokens(layout, short, TEXT[: WINDOW - 1]) == WINDOW - 2
    assert len(kv.crop(layout, short, 5).ids) == 5


def test_a_memory_of_another_shape_or_place_is_refused() -> None:
    network, other = new_model("qwen3"), new_model("llama", num_hidden_layers=2)
    memory = kv.prefill(network, TEXT)
    with pytest.raises(WrongModel, match="2 layers"):
        kv.to_cache(other, memory)
    with pytest.raises(WrongModel, match="shape"):
        kv.to_cache(new_model("llama", head_dim=16), memory)
    with pytest.raises(Usage, match="from 90"):
        kv.to_cache(network, kv.shift(network, memory, base=90))
    with pytest.raises(Usage, match="at least one"):
        kv.resume(network, memory, [])
    with pytest.raises(Usage, match="none"):
        kv.prefill(network, [])


def test_a_layer_that_turns_no_keys_is_found_out() -> None:
    assert kv.shift_error(new_model("qwen3")) < 1e-4
    assert kv.shift_error(new_model("qwen3", dtype="bfloat16")) < 5e-2
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    assert kv.shift_error(new_model("exaone4", layer_types=kinds, sliding_window=WINDOW)) > 0.1


@pytest.mark.many(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_question_is_read_in_pieces(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    network = new_model(family)
    ids, question = [(7 * n) % 89 + 5 for n in range(20)], [(11 * n) % 83 + 6 for n in range(13)]
    memory = kv.prefill(network, ids)
    whole = kv.resume(network, memory, question)
    monkeypatch.setattr(kv, "PIECE_TOKENS", 5)
    pieces = kv.resume(network, memory, question)
    assert pieces.logits.shape == whole.logits.shape
    assert pieces.position == whole.position == 33
    assert (pieces.logits - whole.logits).abs().max() < 1e-3 * whole.logits.std()
    assert kv.write(network, pieces, limit_tokens=5) == kv.write(network, whole, limit_tokens=5)
    assert torch.equal(pieces.logits, kv.split_prefill(network, ids, question).logits)
    for logits in (1, 4, 7):
        some = kv.resume(network, memory, question, logits=logits).logits
        assert (some - whole.logits[-logits:]).abs().max() < 1e-3 * whole.logits.std()


@pytest.mark.many(6)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_heads_that_share_keys_read_the_same_bits_as_from_copies(
    family: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    network = new_model(family, dtype=dtype)
    memory = kv.prefill(network, TEXT)
    shared = kv.resume(network, memory, QUESTION)
    monkeypatch.setattr(kv, "_sharing_heads", lambda *_given, **_named: nullcontext())
    assert torch.equal(shared.logits, kv.resume(network, memory, QUESTION).logits)


def test_no_keys_are_copied_for_heads_and_nothing_of_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import sdpa_attention

    network = new_model("qwen3")
    memory = kv.prefill(network, TEXT)
    copies = []
    repeat = sdpa_attention.repeat_kv
    monkeypatch.setattr(sdpa_attention, "repeat_kv", lambda *given: copies.append(given) or repeat(*given))
    for before in (None, "0"):
        monkeypatch.delenv(kv._SHARED_HEADS, raising=False)
        if before is not None:
            monkeypatch.setenv(kv._SHARED_HEADS, before)
        with kv._sharing_heads(network, tokens=2), ThreadPoolExecutor(1) as beside:
            beside.submit(kv.resume, network, memory, QUESTION).result()
            # another thread that was in and out has not put it back under those that are still in
            assert os.environ[kv._SHARED_HEADS] == "1"
        assert os.environ.get(kv._SHARED_HEADS) == before
    assert not copies
    cache = kv.to_cache(network, memory)
    import torch

    with torch.no_grad():
        network(torch.tensor([QUESTION]), past_key_values=cache)
    assert copies, "transformers copies them by itself, or this test could not fail"
