"""What each head keeps: every score against its formula, written here once more over dense attention and hooks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from memos_cli.errors import Usage, WrongModel
from memos_cli.runtime import compress as compressing
from memos_cli.runtime import kv
from memos_cli.runtime.compress import METHODS, compress, scores
from memos_cli.runtime.sparse import join, resume
from tests.runtime.test_layout import SHIFTABLE, new_model
from tests.runtime.test_sparse import QUESTION, TEXT, new_open

LONG = [(7 * n + n * n // 11) % 89 + 5 for n in range(300)]
PROMPT = [3, 4, 9]


def shared(tensor: Any, network: Any) -> Any:
    """A tensor of heads [heads, ...] as [kv_heads, heads that share it, ...]."""
    heads = getattr(network.config, "num_key_value_heads", None) or network.config.num_attention_heads
    return tensor.view(heads, tensor.shape[0] // heads, *tensor.shape[1:])


def before_rope(network: Any, ids: list[int], *, base: int = 0) -> list[tuple[Any, Any]]:
    """Per layer queries [heads, tokens, head_dim] and keys [kv_heads, ...] before the rope, at the projections."""
    found: dict[str, list[Any]] = {"q": [], "k": []}
    kind = network.config.model_type

    def hear(name: str) -> Any:
        def hook(_module: Any, _given: Any, out: Any) -> None:
            width = 8 * (3 if name == "qkv" else 1)
            heads = out[0] if kind == "qwen3" else out[0].view(len(ids), -1, width)
            heads = heads.transpose(0, 1).double()
            if name == "qkv":
                found["q"].append(heads[..., :8])
                found["k"].append(heads[..., 8:16])
            else:
                found[name].append(heads)

        return hook

    ends = {"qwen3": {"q_norm": "q", "k_norm": "k"}, "gpt_neox": {"query_key_value": "qkv"}}
    names = ends.get(kind, {"q_proj": "q", "k_proj": "k"})
    hooks = [
        module.register_forward_hook(hear(names[path.rsplit(".", 1)[-1]]))
        for path, module in network.named_modules()
        if path.rsplit(".", 1)[-1] in names
    ]
    kv.forward(network, ids, cache=None, position=base, logits=1)
    for hook in hooks:
        hook.remove()
    return list(zip(found["q"], found["k"], strict=True))


def rotation(network: Any, position: int) -> Any:
    """The rope at a position as a matrix: what the model itself makes of each unit vector."""
    import sys

    import torch

    decoder = network.get_decoder()
    apply = sys.modules[type(decoder).__module__].apply_rotary_pos_emb
    unit = torch.eye(8)[None, None]
    cosine, sine = decoder.rotary_emb(unit, position_ids=torch.full((1, 8), position))
    wide = cosine.shape[-1]
    if wide == 8 or network.config.model_type == "gpt_neox":
        turned = apply(unit, unit, cosine, sine)[0]
    else:
        # phi turns the first part of a head and puts the rest behind it
        turned = torch.cat((apply(unit[..., :wide], unit[..., :wide], cosine, sine)[0], unit[..., wide:]), dim=-1)
    return turned[0, 0].T.double()


def attentions(network: Any, ids: list[int], cache: Any = None, position: int = 0) -> list[Any]:
    """Per layer what the model itself says of its attention: [heads, asking, seen]."""
    import torch

    with torch.no_grad():
        out = network(
            input_ids=torch.tensor([ids]), past_key_values=cache, output_attentions=True, use_cache=True,
            position_ids=torch.arange(position, position + len(ids))[None],
        )  # fmt: skip
    return [one[0].double() for one in out.attentions]


@pytest.fixture(params=[1 << 24, 700], ids=["one block", "many blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressing, "BLOCK_NUMBERS", request.param)


@pytest.mark.many(4)
@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("family", SHIFTABLE)
def test_h2o_is_the_attention_received_by_those_that_see_it(family: str) -> None:
    network, eager = new_open(family), new_open(family, attention="eager")
    found = scores(network, kv.prefill(network, TEXT), method="h2o")
    for layer, weights in zip(found, attentions(eager, TEXT), strict=True):
        heads = shared(weights, eager)
        for token in range(len(TEXT)):
            right = heads[:, :, token:, token].sum(-1).mean(-1) / (len(TEXT) - token)
            assert (layer[:, token] - right).abs().max() < 1e-4


@pytest.mark.many(6)
@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("family", SHIFTABLE)
@pytest.mark.parametrize("prompt", [PROMPT, []], ids=["asked", "not asked"])
def test_kvzip_is_the_most_attention_of_a_repetition(family: str, prompt: list[int]) -> None:
    network, eager = new_open(family), new_open(family, attention="eager")
    found = scores(network, kv.prefill(network, TEXT), method="kvzip", prompt=prompt)
    # the text, the prompt and the text again, in one pass
    for layer, weights in zip(found, attentions(eager, [*TEXT, *prompt, *TEXT]), strict=True):
        right = shared(weights, eager)[:, :, len(TEXT) :, : len(TEXT)].amax(dim=(1, 2))
        assert (layer - right).abs().max() < 1e-3


def test_kvzip_repeats_a_long_text_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(compressing, "REPEAT_TOKENS", 64)
    network, eager = new_open("qwen3", max_position_embeddings=1024), new_open("qwen3", attention="eager")
    memory = kv.prefill(network, LONG[:150])
    found = scores(network, memory, method="kvzip", prompt=PROMPT)
    right = [torch.zeros(1)] * 3
    for part in (LONG[:64], LONG[56:128], LONG[120:150]):
        again = attentions(eager, [*PROMPT, *part], kv.to_cache(eager, memory), 150)
        best = [shared(one, eager)[..., :150].amax(dim=(1, 2)) for one in again]
        right = [torch.maximum(a, b) for a, b in zip(right, best, strict=True)]
    for layer, one in zip(found, right, strict=True):
        assert (layer - one).abs().max() < 1e-4
    narrow = new_open("qwen3", max_position_embeddings=180)
    with pytest.raises(Usage, match="twice"):
        scores(narrow, kv.prefill(narrow, LONG[:150]), method="kvzip")


@pytest.mark.many(4)
@pytest.mark.parametrize("base", [0, 31])
@pytest.mark.parametrize("family", SHIFTABLE)
def test_memory3_is_attention_without_rope_and_order_within_each_chunk(family: str, base: int) -> None:
    network = new_open(family)
    found = scores(network, kv.prefill(network, LONG, base=base), method="memory3")
    for layer, (queries, keys) in zip(found, before_rope(network, LONG, base=base), strict=True):
        for start in range(0, len(LONG), 128):
            chunk = slice(start, start + 128)
            asks, asked = shared(queries, network)[:, :, chunk], keys[:, None, chunk]
            weights = (asks @ asked.transpose(2, 3) / math.sqrt(8)).softmax(-1)
            right = weights.sum(dim=(1, 2))
            assert (layer[:, chunk] - right).abs().max() < 1e-3 * right.max()


@pytest.mark.many(3)
@pytest.mark.parametrize("base", [0, 31])
@pytest.mark.parametrize("family", SHIFTABLE)
def test_expected_attention_is_the_moment_of_a_normal_query(family: str, base: int) -> None:
    import torch

    network = new_open(family)
    memory = kv.prefill(network, TEXT, base=base)
    found = scores(network, memory, method="expected_attention")
    end = base + len(TEXT)
    later = torch.stack([rotation(network, end + ahead) for ahead in range(512)]).mean(dim=0)
    for number, (queries, _keys) in enumerate(before_rope(network, TEXT, base=base)):
        keys, values = memory.keys[number].double(), memory.values[number].double()
        for head, group in enumerate(shared(queries, network)):
            received = torch.zeros(len(TEXT) - 4, dtype=torch.float64)
            for one in group:
                past = one[4:]
                mean = later @ past.mean(dim=0)
                spread = later @ torch.cov(past.T, correction=0) @ later.T
                products = [k @ mean / math.sqrt(8) + k @ spread @ k / 16 for k in keys[head, 4:]]
                received += torch.stack(products).softmax(-1) / len(group)
            right = received * values[head, 4:].norm(dim=-1)
            assert (found[number][head, 4:] - right).abs().max() < 1e-3 * right.max(), (number, head)
            assert torch.isinf(found[number][head, :4]).all()


@pytest.mark.many(4)
@pytest.mark.parametrize("family", ["qwen3", "gpt_neox"])
@pytest.mark.parametrize("method", METHODS)
def test_each_head_keeps_the_best_of_its_own(family: str, method: str) -> None:
    import torch

    network = new_open(family)
    memory = kv.prefill(network, LONG)
    found = scores(network, memory, method=method, seed=7)
    sparse = compress(network, memory, method=method, keep=0.25, seed=7)
    layers = range(2 if method == "memory3" else 3)
    parts = [range(0, 128), range(128, 256), range(256, 300)] if method == "memory3" else [range(300)]
    apart = set()
    for number in layers:
        for head, places in enumerate(sparse.positions[number].tolist()):
            right = []
            for part in parts:
                of_part = sorted(part, key=lambda at: (-float(found[number][head, at]), at))
                right += of_part[: round(0.25 * len(part))]
            assert places == sorted(right)
            apart.add(tuple(places))
            assert torch.equal(sparse.keys[number][head], memory.keys[number][head, places])
            assert torch.equal(sparse.values[number][head], memory.values[number][head, places])
    assert len(apart) > 1, "heads keep tokens of their own"
    assert sparse.kept == tuple(75 if number in layers else 0 for number in range(3))
    # what comes of it can be put back
    assert resume(network, sparse, QUESTION).logits.isfinite().all()


def test_how_much_is_kept() -> None:
    network = new_open("llama")
    memory = kv.prefill(network, LONG)
    for keep, kept in ((0.5, 150), (1.0, 300), (1, 1), (40, 40), (999, 300), (0.0001, 1)):
        assert compress(network, memory, method="knorm", keep=keep).kept == (kept,) * 3
    # eight of each 128, in the first half of the layers: the last 44 keep three
    assert compress(network, memory, method="memory3").kept == (19, 19, 0)
    assert compress(network, memory, method="memory3", keep=1.0).kept == (300, 300, 0)
    assert compress(network, kv.prefill(network, TEXT[:1]), method="memory3").kept == (1, 1, 0)
    for wrong in (0, 0.0, -1, 1.5, True, "all", None):
        with pytest.raises(Usage, match="expected"):
            compress(network, memory, method="knorm", keep=wrong)  # type: ignore[arg-type]


def test_all_of_it_is_the_memory() -> None:
    import torch

    network = new_open("qwen3")
    memory = kv.prefill(network, TEXT)
    exact = kv.resume(network, memory, QUESTION).logits
    for method in ("kvzip", "expected_attention", "h2o", "random", "knorm"):
        assert torch.equal(resume(network, compress(network, memory, method=method, keep=1.0), QUESTION).logits, exact)


def test_the_first_tokens_are_kept_by_expected_attention() -> None:
    network = new_open("llama")
    for tokens, keep, first in ((40, 6, 4), (40, 2, 2), (4, 3, 3), (2, 2, 2)):
        sparse = compress(network, kv.prefill(network, TEXT[:tokens]), method="expected_attention", keep=keep)
        for places in sparse.positions:
            assert places[:, :first].tolist() == [list(range(first))] * 2


def test_random_is_drawn_by_its_seed_and_knorm_takes_the_shortest_keys() -> None:
    import torch

    network = new_open("llama")
    memory = kv.prefill(network, TEXT)
    first, again, other = (compress(network, memory, method="random", keep=9, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.positions, again.positions, strict=True))
    assert not torch.equal(first.positions[0], other.positions[0])
    assert not torch.equal(first.positions[0], first.positions[1])
    shortest = compress(network, memory, method="knorm", keep=5)
    lengths = memory.keys[1].norm(dim=-1)
    assert lengths[0][shortest.positions[1][0].long()].max() <= lengths[0].sort().values[4]


def test_reading_leaves_the_network_as_it_was() -> None:
    import torch

    network = new_open("llama")
    memory = kv.prefill(network, TEXT)
    exact = kv.resume(network, memory, QUESTION).logits
    before = [one.clone() for one in (*memory.keys, *memory.values)]
    for method in METHODS:
        compress(network, memory, method=method, keep=9)
        assert network.config._attn_implementation == "sdpa"
    assert torch.equal(kv.resume(network, memory, QUESTION).logits, exact)
    assert all(torch.equal(a, b) for a, b in zip(before, (*memory.keys, *memory.values), strict=True))


def test_compressed_memories_are_joined() -> None:
    network = new_open("qwen3")
    parts = [kv.prefill(network, LONG[:140]), kv.prefill(network, LONG[140:])]
    joined = join(network, [compress(network, parts[0], method="memory3"), parts[1]])
    assert joined.kept == (9 + 160, 9 + 160, 160)
    assert resume(network, joined, QUESTION).logits.isfinite().all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_scores_of_a_narrow_network_are_close_to_those_of_a_wide_one(dtype: str) -> None:
    network, narrow = new_open("llama"), new_open("llama", dtype=dtype)
    for method in ("h2o", "kvzip", "knorm"):
        wide = scores(network, kv.prefill(network, TEXT), method=method)[0]
        found = scores(narrow, kv.prefill(narrow, TEXT), method=method)[0]
        assert (wide - found).abs().max() < 0.1 * wide.abs().max()


def test_what_cannot_be_compressed_is_said() -> None:
    network = new_open("llama")
    memory = kv.prefill(network, TEXT)
    with pytest.raises(Usage, match="method"):
        compress(network, memory, method="best", keep=4)
    sliding = new_model("mistral")
    with pytest.raises(Usage, match="window"):
        compress(sliding, kv.prefill(sliding, TEXT[:5]), method="knorm", keep=4)
    with pytest.raises(WrongModel, match="layers"):
        compress(new_open("llama", num_hidden_layers=2), memory, method="h2o", keep=4)
    neighbours = new_open("cohere")
    there = kv.prefill(neighbours, TEXT)
    compress(neighbours, there, method="h2o", keep=4)
    with pytest.raises(Usage, match="neighbours"):
        compress(neighbours, there, method="memory3")
    changing = new_open("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    with pytest.raises(Usage, match="dynamic"):
        compress(changing, kv.prefill(changing, TEXT), method="expected_attention", keep=4)
    away = kv.prefill(network, TEXT, base=9)
    with pytest.raises(Usage, match="from 9"):
        compress(network, away, method="kvzip", keep=4)
