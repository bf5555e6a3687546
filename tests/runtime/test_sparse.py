"""Sparse memories on real tiny models: what was dropped is not seen, and everything else is where it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from memos_cli.errors import Usage, WrongModel
from memos_cli.runtime import kv
from memos_cli.runtime.attend import attending
from memos_cli.runtime.compose import compose
from memos_cli.runtime.layout import layout_of
from memos_cli.runtime.sparse import SparseMemory, check, injected, join, pick, resume, shift, to_cache, whole
from tests.runtime.test_layout import SHIFTABLE, new_model

TEXT = [(7 * n) % 89 + 5 for n in range(40)]
PARTS = [TEXT[:14], TEXT[14:29], TEXT[29:]]
QUESTION = [(11 * n) % 83 + 6 for n in range(9)]
KEPT = {"same": (10, 10, 10), "ragged": (7, 25, 12), "half": (9, 9, 0), "later": (0, 40, 5)}


def new_open(family: str, **more: Any) -> Any:
    """A model of a family whose layers all see everything."""
    return new_model(family, **({"sliding_window": None} if family == "mistral" else {}) | more)


def chosen(memory: kv.Memory, kept: Sequence[int], *, seed: int = 3) -> list[Any]:
    """Random places for each head of each layer, rising."""
    import torch

    random = torch.Generator().manual_seed(seed)
    heads, tokens = memory.keys[0].shape[0], len(memory.ids)
    drawn = [torch.rand(heads, tokens, generator=random).argsort(-1)[:, :count].sort(-1).values for count in kept]
    return [places if count else None for places, count in zip(drawn, kept, strict=True)]


@contextmanager
def masked(network: Any, tokens: int, positions: Sequence[Any]) -> Iterator[None]:
    """Inside, the network attends as written here: each head to the places it keeps, of a memory that is whole."""
    import torch
    from transformers import AttentionInterface

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_more: Any) -> Any:
        heads, asking, seen = query.shape[1], query.shape[2], key.shape[2]
        repeat = heads // key.shape[1]
        key, value = (one[0].repeat_interleave(repeat, dim=0).double() for one in (key, value))
        open_ = torch.zeros(heads, asking, seen, dtype=torch.bool)
        for head in range(heads):
            places = positions[module.layer_idx]
            for asks in range(asking):
                if places is not None:
                    open_[head, asks, places[head // repeat].long()] = True
                open_[head, asks, tokens : seen - asking + asks + 1] = True
        weights = (query[0].double() @ key.transpose(1, 2) * scaling).masked_fill(~open_, -torch.inf).softmax(-1)
        return (weights @ value).to(query.dtype).transpose(0, 1)[None].contiguous(), None

    AttentionInterface.register("memos_test_masked", attend)
    before = network.config._attn_implementation
    network.config._attn_implementation = "memos_test_masked"
    try:
        yield
    finally:
        network.config._attn_implementation = before


@pytest.mark.many(5)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("family", SHIFTABLE)
def test_it_is_the_whole_memory_with_what_was_dropped_masked(family: str, kept: Sequence[int], attention: str) -> None:
    network = new_open(family, attention=attention)
    memory = kv.prefill(network, TEXT)
    positions = chosen(memory, kept)
    with masked(network, len(TEXT), positions):
        expected = kv.resume(network, memory, QUESTION)
        written = kv.write(network, expected, limit_tokens=6)
    sparse = pick(memory, positions)
    assert sparse.kept == tuple(kept)
    found = resume(network, sparse, QUESTION)
    assert (found.logits - expected.logits).abs().max() < 1e-3 * expected.logits.std()
    with attending(network):
        assert kv.write(network, found, limit_tokens=6) == written
    plain = kv.resume(network, memory, QUESTION).logits
    assert (plain - expected.logits).abs().max() > 0.05 * plain.std(), "otherwise this shows nothing"


@pytest.mark.many(6)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", SHIFTABLE)
def test_keeping_all_is_the_whole_memory_bit_for_bit(family: str, dtype: str, attention: str) -> None:
    import torch

    network = new_open(family, attention=attention, dtype=dtype)
    memory = kv.prefill(network, TEXT)
    exact = kv.resume(network, memory, QUESTION)
    every = pick(memory, whole(memory).positions)
    for sparse in (whole(memory), every):
        assert torch.equal(resume(network, sparse, QUESTION).logits, exact.logits)
        with attending(network):
            assert torch.equal(resume(network, sparse, QUESTION).logits, exact.logits)
    assert all(a is b for a, b in zip(whole(memory).keys, memory.keys, strict=True))


@pytest.mark.many(2)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("family", ["qwen3", "gpt_neox"])
def test_generate_writes_what_a_loop_of_passes_does(family: str, kept: Sequence[int], attention: str) -> None:
    import torch

    network = new_open(family, attention=attention)
    memory = kv.prefill(network, TEXT)
    sparse = pick(memory, chosen(memory, kept))
    prompt = torch.tensor([[*TEXT, *QUESTION]])
    more = {"max_new_tokens": 7, "do_sample": False, "eos_token_id": None}
    with injected(network, sparse) as cache:
        out = network.generate(prompt, attention_mask=torch.ones_like(prompt), past_key_values=cache, **more)
    with attending(network):
        expected = kv.write(network, resume(network, sparse, QUESTION), limit_tokens=7)
    assert out[0, prompt.shape[1] :].tolist() == expected
    assert cache.get_seq_length() == prompt.shape[1] + 6
    # twice, with a mask that nobody gave, and searched in two beams
    with injected(network, sparse) as cache:
        assert network.generate(prompt, past_key_values=cache, **more)[0].tolist() == out[0].tolist()
    with injected(network, sparse) as cache:
        cache.batch_repeat_interleave(2)
        more |= {"num_beams": 2, "attention_mask": torch.ones_like(prompt)}
        beams = network.generate(prompt, past_key_values=cache, **more)
    assert beams.shape == out.shape


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
def test_what_follows_stands_after_all_of_the_text(kept: Sequence[int]) -> None:
    network = new_open("llama")
    memory = kv.prefill(network, TEXT)
    sparse = pick(memory, chosen(memory, kept))
    with injected(network, sparse) as cache:
        assert {layer.get_seq_length() for layer in cache.layers} == {len(TEXT)}
        assert cache.get_mask_sizes(4, 0) == (max(kept) + 4, len(TEXT) - max(kept))
        # the network counts for itself: no positions are given
        import torch

        with torch.no_grad():
            own = network(input_ids=torch.tensor([QUESTION]), past_key_values=cache, use_cache=True).logits[0]
        assert cache.get_seq_length() == len(TEXT) + len(QUESTION)
        assert [layer.keys.shape[2] for layer in cache.layers] == [count + len(QUESTION) for count in kept]
        cache.crop(-len(QUESTION))
        assert cache.get_seq_length() == len(TEXT)
        again = kv.forward(network, QUESTION, cache=cache, position=len(TEXT), logits=len(QUESTION))
    assert torch.equal(own, again.logits)
    # the first keys that are new are those of a token that stands there in a text of its own
    alone = kv.prefill(network, QUESTION, base=len(TEXT)).keys[0]
    new = cache.layers[0].keys[0, :, -len(QUESTION) :]
    assert (new - alone).norm() < 1e-5 * alone.norm()


def test_the_memory_is_not_written_to() -> None:
    import torch

    network = new_open("qwen3")
    memory = kv.prefill(network, TEXT)
    sparse = pick(memory, chosen(memory, KEPT["half"]))
    before = [one.clone() for one in (*sparse.keys, *sparse.values) if one is not None]
    first = resume(network, sparse, QUESTION).logits
    with injected(network, sparse) as cache:
        assert cache.layers[0].keys.data_ptr() == sparse.keys[0].data_ptr()
    assert torch.equal(resume(network, sparse, QUESTION).logits, first)
    now = [one for one in (*sparse.keys, *sparse.values) if one is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_network_is_as_it_was_afterwards(attention: str) -> None:
    import torch

    network = new_open("llama", attention=attention)
    memory = kv.prefill(network, TEXT)
    exact = kv.resume(network, memory, QUESTION).logits
    sparse = pick(memory, chosen(memory, KEPT["half"]))
    with injected(network, sparse):
        assert network.config._attn_implementation == f"memos_{attention}"
    assert network.config._attn_implementation == attention
    with pytest.raises(ZeroDivisionError), injected(network, sparse), attending(network):
        raise ZeroDivisionError
    assert network.config._attn_implementation == attention
    assert torch.equal(kv.resume(network, memory, QUESTION).logits, exact)


@pytest.mark.many(3)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", SHIFTABLE)
def test_joined_memories_are_each_where_it_would_stand(family: str, attention: str) -> None:
    network = new_open(family, attention=attention)
    memories = [kv.prefill(network, part) for part in PARTS]
    # all of each: what composing without reading again gives
    plain = compose(network, memories, QUESTION, mode="concat").read.logits
    assert (resume(network, join(network, memories), QUESTION).logits - plain).abs().max() < 1e-4 * plain.std()
    # parts of some, a whole one, and one without its last layer, against one long memory with a mask
    chosen_ = [chosen(memories[0], (4, 5, 6)), whole(memories[1]).positions, chosen(memories[2], (3, 3, 0))]
    joined = join(network, [pick(memories[0], chosen_[0]), memories[1], pick(memories[2], chosen_[2])])
    assert joined.kept == (4 + 15 + 3, 5 + 15 + 3, 6 + 15)
    assert joined.ids == tuple(TEXT)
    long = join(network, memories)
    assert all(one is not None for one in long.keys)
    starts, positions = [0, 14, 29], []
    for number in range(3):
        found = [one[number] + start for one, start in zip(chosen_, starts, strict=True) if one[number] is not None]
        positions.append(sys.modules["torch"].cat(found, dim=1))
    with masked(network, len(TEXT), positions):
        expected = kv.resume(network, kv.Memory(long.ids, long.keys, long.values), QUESTION).logits
    assert (resume(network, joined, QUESTION).logits - expected).abs().max() < 1e-3 * expected.std()
    check(layout_of(network.config), joined)


def test_one_memory_joined_is_itself_and_a_moved_one_is_moved_back() -> None:
    import torch

    network = new_open("qwen3")
    memory = kv.prefill(network, TEXT)
    sparse = pick(memory, chosen(memory, KEPT["half"]))
    assert all(a is b for a, b in zip(join(network, [sparse]).keys, sparse.keys, strict=True))
    away = shift(network, sparse, base=90)
    assert away.keys[2] is None
    assert away.positions is sparse.positions
    there = kv.prefill(network, TEXT, base=90)
    right = pick(there, sparse.positions)
    assert (away.keys[0] - right.keys[0]).norm() < 1e-5 * right.keys[0].norm()
    back = join(network, [away])
    assert torch.allclose(back.keys[0], sparse.keys[0], atol=1e-5)
    with pytest.raises(Usage, match="from 90"):
        to_cache(network, away)


def test_models_that_take_none_say_why() -> None:
    sliding, mixed = new_model("mistral"), new_model("gemma3_text")
    for network in (sliding, mixed):
        memory = whole(kv.prefill(network, TEXT[:5]))
        with pytest.raises(Usage, match="window"):
            resume(network, memory, QUESTION)
        with pytest.raises(Usage, match="window"):
            join(network, [memory])
    neighbours = new_open("cohere")
    one = kv.prefill(neighbours, TEXT)
    resume(neighbours, pick(one, chosen(one, KEPT["half"])), QUESTION)
    with pytest.raises(Usage, match="neighbours"):
        join(neighbours, [one, one])
    changing = new_open("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    one = kv.prefill(changing, TEXT)
    with pytest.raises(Usage, match="dynamic"):
        join(changing, [one, whole(one)])
    odd = new_open("llama")
    odd.config._attn_implementation = "flex_attention"
    with pytest.raises(Usage, match="flex_attention"):
        resume(odd, whole(kv.prefill(new_open("llama"), TEXT)), QUESTION)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_network_with_an_adapter_takes_them_too() -> None:
    from peft import LoraConfig, get_peft_model

    network = new_open("llama")
    memory = kv.prefill(network, TEXT)
    sparse = pick(memory, chosen(memory, KEPT["half"]))
    exact = resume(network, sparse, QUESTION).logits
    # an adapter that has learned nothing yet changes nothing
    wrapped = get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    assert (resume(wrapped, sparse, QUESTION).logits - exact).abs().max() < 1e-4 * exact.std()
    assert join(wrapped, [sparse, memory]).kept == (9 + 40, 9 + 40, 40)
    assert wrapped.config._attn_implementation == "sdpa"


def test_memories_that_do_not_hold_together_are_refused() -> None:
    import torch

    network = new_open("llama")
    memory = kv.prefill(network, TEXT)
    good = pick(memory, chosen(memory, KEPT["ragged"]))
    layout = layout_of(network.config)
    check(layout, good)

    def with_positions(change: Any) -> SparseMemory:
        return replace(good, positions=(change(good.positions[0]), *good.positions[1:]))

    wrong = {
        "layers": replace(good, keys=good.keys[:2]),
        "or none of them": replace(good, values=(None, *good.values[1:])),
        "keeps tokens": SparseMemory(good.ids, (None,) * 3, (None,) * 3, (None,) * 3),
        "shape": with_positions(lambda one: one[:, :-1]),
        "rise": with_positions(lambda one: one.flip(-1)),
        "39 at most": with_positions(lambda one: torch.where(one == one.max(), 40, one)),
    }
    for words, one in wrong.items():
        with pytest.raises(WrongModel, match=words):
            check(layout, one)
    with pytest.raises(WrongModel, match="shape"):
        check(layout_of(new_open("llama", head_dim=16).config), good)
    with pytest.raises(Usage, match="none"):
        resume(network, good, [])
    with pytest.raises(Usage, match="none"):
        join(network, [])
