"""Adapters on running networks of several families: they do what they say, and leave nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import Damaged, MemosError, NotFound, Usage, WrongModel
from memos_cli.runtime import adapter
from memos_cli.runtime.adapter_algebra import concatenate, recompress
from memos_cli.runtime.adapter_files import CONFIG, WEIGHTS, read_plain
from tests.runtime.adapters import logits, save_random, scatter
from tests.runtime.test_layout import SIZES, new_model

FAMILIES = ["qwen3", "llama", "mistral", "gemma", "phi", "phi3", "gpt_neox", "gpt2"]
TARGETS = {
    "phi": ("fc1", "fc2"), "phi3": ("down_proj", "gate_up_proj"), "gpt_neox": ("dense_4h_to_h", "dense_h_to_4h"),
    "gpt2": ("c_fc", "mlp.c_proj"),
}  # fmt: skip


def network_of(family: str) -> Any:
    if family == "gpt2":
        from transformers import AutoModelForCausalLM, GPT2Config

        return AutoModelForCausalLM.from_config(GPT2Config(vocab_size=97, n_embd=32, n_layer=3, n_head=4)).eval()
    more: dict[str, Any] = {"partial_rotary_factor": 1.0} if family == "phi3" else {}
    return new_model(family, **more)


@pytest.fixture(scope="module")
def llama() -> Any:
    return new_model("llama")


def state_of(network: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.many(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_an_adapter_and_is_then_as_it_was(family: str, tmp_path: Path) -> None:
    import torch

    network = network_of(family)
    kinds = [(name, type(module)) for name, module in network.named_modules()]
    before, weights = logits(network), state_of(network)
    assert adapter.targets_of(network) == TARGETS.get(family, ("down_proj", "gate_proj", "up_proj"))
    folder = save_random(network, tmp_path / "a", seed=1)
    with adapter.attach(network, [folder]) as attached:
        on = logits(network)
        assert adapter.differs(attached) > 0.01
        with attached.off():
            assert torch.equal(logits(network), before)
        assert torch.equal(logits(network), on)
        assert not [name for name, one in network.named_parameters() if one.requires_grad]
    assert not torch.equal(on, before)
    assert torch.equal(logits(network), before)
    assert [(name, type(module)) for name, module in network.named_modules()] == kinds
    assert state_of(network).keys() == weights.keys()
    assert all(torch.equal(one, weights[name]) for name, one in network.state_dict().items())
    assert all(one.requires_grad for one in network.parameters())


# peft asks transformers in a way that transformers has given up
@pytest.mark.many(3)
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_is_one_of_peft_and_comes_back_to_the_bit(family: str, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    network = network_of(family)
    with adapter.fresh(network, rank=4, seed=3) as made:
        scatter(made, seed=3)
        trained = logits(network)
        adapter.save(made, tmp_path / "a", base="tiny")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [CONFIG, WEIGHTS]
    with adapter.attach(network, [tmp_path / "a"]):
        assert torch.equal(logits(network), trained)
    theirs = PeftModel.from_pretrained(network, str(tmp_path / "a")).eval()
    assert torch.equal(logits(theirs), trained)


def test_equal_seeds_give_equal_bytes_and_a_fresh_one_does_nothing(llama: Any, tmp_path: Path) -> None:
    import torch

    before = logits(llama)
    torch.manual_seed(99)
    drawn = torch.rand(1)
    torch.manual_seed(99)
    for name in ("a", "b"):
        with adapter.fresh(llama, rank=4, seed=11) as made:
            assert torch.equal(logits(llama), before)
            assert {one.dtype for one in made.parameters()} == {torch.float32}
            assert len(made.parameters()) == 2 * 3 * 3
            assert {name for name, one in llama.named_parameters() if one.requires_grad} == {
                name for name, _ in llama.named_parameters() if ".default." in name
            }
            adapter.save(made, tmp_path / name, base="tiny")
    assert torch.equal(torch.rand(1), drawn), "the caller's own random numbers go on as they were"
    for file in (CONFIG, WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert json.loads((tmp_path / "a" / CONFIG).read_text())["base_model_name_or_path"] == "tiny"


def test_a_layer_is_trained_on_those_beneath_which_stay(llama: Any, tmp_path: Path) -> None:
    import torch

    first = save_random(llama, tmp_path / "first", seed=1)
    second = save_random(llama, tmp_path / "second", seed=2, rank=2, beneath=[first])
    third = tmp_path / "third"
    with adapter.attach(llama, [first, second]):
        under = logits(llama)
    with adapter.fresh(llama, rank=3, seed=5, beneath=[first, second]) as made:
        assert torch.equal(logits(llama), under)
        frozen = {name: one.clone() for name, one in llama.named_parameters() if "beneath_" in name}
        taught = torch.optim.SGD(made.parameters(), lr=0.1)
        for _ in range(2):
            with made.off():
                bare = logits(llama)
            loss = (llama(input_ids=torch.tensor([[1, 2, 3]])).logits ** 2).mean()
            loss.backward()
            taught.step()
        with made.beneath():
            assert torch.equal(logits(llama), under)
        assert all(torch.equal(one, frozen[name]) for name, one in llama.named_parameters() if name in frozen)
        learnt = logits(llama)
        adapter.save(made, third, base="tiny")
    assert torch.equal(bare, logits(llama))
    with adapter.attach(llama, [first, second, third]):
        assert torch.equal(logits(llama), learnt)


def test_side_by_side_is_the_sum_of_the_deltas_and_the_stack(llama: Any, tmp_path: Path) -> None:
    import torch

    a = save_random(llama, tmp_path / "a", seed=1, rank=4, alpha=32)
    b = save_random(llama, tmp_path / "b", seed=2, rank=6, alpha=5, targets=["q_proj", "down_proj"])
    with adapter.attach(llama, [a, b]):
        stacked = logits(llama)
    with adapter.attach(llama, [b, a]):
        turned = logits(llama)
    assert concatenate([a, b], tmp_path / "ab", base="tiny").rank == 10
    made, parts = read_plain(tmp_path / "ab"), (read_plain(a), read_plain(b))
    assert made.targets == ("down_proj", "gate_proj", "q_proj", "up_proj")
    for module, (left, right) in made.pairs.items():
        exact = sum(
            one.scale * (one.pairs[module][1].double() @ one.pairs[module][0].double())
            for one in parts
            if module in one.pairs
        )
        assert torch.linalg.norm(right.double() @ left.double() - exact) <= 1e-6 * torch.linalg.norm(exact)
    with adapter.attach(llama, [tmp_path / "ab"]):
        flat = logits(llama)
    for other in (stacked, turned):
        assert torch.allclose(flat, other, rtol=1e-4, atol=1e-4 * float(flat.abs().max()))


def test_at_the_true_rank_nothing_is_lost(llama: Any, tmp_path: Path) -> None:
    import torch

    a = save_random(llama, tmp_path / "a", seed=1, rank=4)
    b = save_random(llama, tmp_path / "b", seed=2, rank=3)
    concatenate([a, b, b_again(b, tmp_path)], tmp_path / "wide", base="tiny")
    made = recompress([tmp_path / "wide"], tmp_path / "small", base="tiny")
    assert (read_plain(tmp_path / "wide").rank, made.rank) == (10, 7)
    assert made.error < 1e-6
    with adapter.attach(llama, [tmp_path / "wide"]):
        wide = logits(llama)
    with adapter.attach(llama, [tmp_path / "small"]):
        assert torch.allclose(logits(llama), wide, rtol=1e-4, atol=1e-4 * float(wide.abs().max()))
    assert recompress([tmp_path / "wide"], tmp_path / "filled", rank=8).rank == 8
    with pytest.raises(Usage, match="is 7, found 6"):
        recompress([tmp_path / "wide"], tmp_path / "less", rank=6)


def b_again(folder: Path, tmp_path: Path) -> Path:
    """The same adapter in another place: its delta twice needs no more rank than once."""
    return Path(shutil.copytree(folder, tmp_path / "b-again"))


def test_modules_of_one_adapter_only_need_no_more_rank_than_it(llama: Any, tmp_path: Path) -> None:
    a = save_random(llama, tmp_path / "a", seed=1, rank=4, targets=["up_proj"])
    b = save_random(llama, tmp_path / "b", seed=2, rank=4, targets=["down_proj"])
    assert concatenate([a, b], tmp_path / "wide").rank == 8
    assert recompress([a, b], tmp_path / "small").rank == 4


def test_nothing_is_put_on_twice(llama: Any, tmp_path: Path) -> None:
    a = save_random(llama, tmp_path / "a", seed=1)
    with pytest.raises(Usage, match="once"):
        adapter.attach(llama, [a, a])
    with adapter.attach(llama, [a]):
        for again in (lambda: adapter.attach(llama, [a]), lambda: adapter.fresh(llama)):
            with pytest.raises(Usage, match="carries adapters already"):
                again()
    with pytest.raises(Usage, match="found none"):
        adapter.attach(llama, [])


def test_what_was_taken_out_takes_nothing_out_again(llama: Any, tmp_path: Path) -> None:
    import torch

    a, b = (save_random(llama, tmp_path / name, seed=seed) for seed, name in ((1, "a"), (2, "b")))
    before = logits(llama)
    old = adapter.attach(llama, [a])
    old.close()
    with adapter.attach(llama, [b]):
        on = logits(llama)
        old.close()
        assert torch.equal(logits(llama), on)
    assert torch.equal(logits(llama), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_merge_is_refused_and_changes_nothing(dtype: str, tmp_path: Path) -> None:
    import torch

    network = new_model("llama", dtype=dtype)
    before, weights = logits(network), state_of(network)
    with adapter.attach(network, [save_random(network, tmp_path / "a", seed=1)]) as attached:
        assert adapter.differs(attached) > 0
        for module in network.modules():
            if hasattr(module, "lora_A"):
                with pytest.raises(Usage, match="not merged"):
                    module.merge()
    assert torch.equal(logits(network), before)
    assert all(torch.equal(one, weights[name]) for name, one in network.state_dict().items())


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def first(tensors: dict[str, Any], half: str) -> str:
    return min(name for name in tensors if half in name)


def drop_module(tensors: dict[str, Any]) -> None:
    for half in ("lora_A", "lora_B"):
        del tensors[first(tensors, half)]


def rename_module(tensors: dict[str, Any]) -> None:
    for name in [name for name in tensors if ".layers.0.mlp.up_proj." in name]:
        tensors[name.replace("up_proj", "upper")] = tensors.pop(name)


def add_module(tensors: dict[str, Any]) -> None:
    for half in ("lora_A", "lora_B"):
        name = f"base_model.model.model.layers.0.self_attn.o_proj.{half}.weight"
        tensors[name] = tensors[first(tensors, half)].new_ones((4, 32) if half == "lora_A" else (32, 4))


def fill_with_nothing(tensors: dict[str, Any]) -> None:
    tensors[first(tensors, "lora_B")][0, 0] = float("nan")


def widen(tensors: dict[str, Any]) -> None:
    name = first(tensors, "lora_A")
    tensors[name] = tensors[name].new_ones(4, tensors[name].shape[1] + 1)


@pytest.mark.many(4)
@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        (lambda tensors: tensors.pop(first(tensors, "lora_A")), Damaged, "found one of them"),
        (drop_module, Damaged, "lacks weights"),
        (add_module, Damaged, "does not name"),
        (rename_module, WrongModel, "no such module"),
        (widen, WrongModel, "made for"),
        (fill_with_nothing, Damaged, "finite"),
        (
            lambda tensors: tensors.update({"lm_head.weight": tensors[first(tensors, "lora_A")].clone()}),
            Damaged,
            "lm_head",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_config_are_fatal(
    llama: Any, tmp_path: Path, change: Callable[[dict[str, Any]], object], error: type[MemosError], word: str
) -> None:
    import torch

    before = logits(llama)
    folder = save_random(llama, tmp_path / "a", seed=1)
    change_tensors(folder, change)
    with pytest.raises(error, match=word):
        adapter.attach(llama, [folder])
    assert torch.equal(logits(llama), before)
    assert not hasattr(llama, "peft_config")


@pytest.mark.many(8)
@pytest.mark.parametrize(
    "more",
    [
        {"use_rslora": True}, {"use_dora": True}, {"lora_bias": True}, {"bias": "all"}, {"modules_to_save": ["x"]},
        {"rank_pattern": {"up_proj": 2}}, {"alpha_pattern": {"up_proj": 2}}, {"target_parameters": ["x"]},
        {"peft_type": "LOHA"}, {"init_lora_weights": "pissa"}, {"target_modules": ".*"}, {"r": 0}, {"r": "8"},
        {"lora_alpha": -1}, {"alora_invocation_tokens": [1]}, {"layer_replication": [[0, 1]]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_more_than_a_plain_lora_is_refused(llama: Any, tmp_path: Path, more: dict[str, Any]) -> None:
    folder = save_random(llama, tmp_path / "a", seed=1)
    said = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**said, **more}))
    with pytest.raises(Damaged):
        adapter.attach(llama, [folder])


def test_what_is_absent_is_not_found(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=CONFIG):
        adapter.attach(llama, [tmp_path / "none"])
    folder = save_random(llama, tmp_path / "a", seed=1)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9])
    with pytest.raises(Damaged, match="safetensors"):
        adapter.attach(llama, [folder])
    (folder / WEIGHTS).unlink()
    with pytest.raises(NotFound, match=WEIGHTS):
        adapter.attach(llama, [folder])


def test_an_adapter_of_another_size_is_of_another_model(llama: Any, tmp_path: Path) -> None:
    other = new_model("llama", intermediate_size=2 * SIZES["intermediate_size"])
    folder = save_random(other, tmp_path / "a", seed=1)
    with pytest.raises(WrongModel, match="48"):
        adapter.attach(llama, [folder])


def test_experts_are_refused() -> None:
    from transformers import AutoModelForCausalLM, MixtralConfig

    config = MixtralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    with pytest.raises(Usage, match="experts"):
        adapter.fresh(AutoModelForCausalLM.from_config(config))
