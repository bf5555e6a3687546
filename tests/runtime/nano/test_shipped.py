"""The model that comes with memos: loads as any other, reads, and takes a cache or an adapter from stock libraries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from memos_cli.runtime.generate import chat_ids, generate
from memos_cli.runtime.model import NANO, Loaded, LocalModel
from memos_cli.runtime.nano.train.evaluation import examples

LIMIT_BYTES = 16 << 20


@pytest.fixture(scope="module")
def nano() -> Iterator[Loaded]:
    """The shipped model, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield LocalModel("nano").load()
    torch.set_num_threads(before)


def ask(model: Loaded, memory: str, question: str) -> str:
    """The greedy answer."""
    return generate(model, chat_ids(model, question, system=memory), limit_tokens=32).text.strip()


def test_it_is_small_and_plain() -> None:
    files = {path.name: path for path in NANO.iterdir() if path.is_file()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= set(files)
    assert sum(path.stat().st_size for path in files.values()) < LIMIT_BYTES
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]


def test_any_input_round_trips(nano: Loaded) -> None:
    for text in ("Ana", "  two\n\nlines \t", "naïve 日本語 🎉 \x00", 'Ana\'s "12-34".'):
        assert nano.tokenizer.decode(nano.tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.parametrize("count", [12, pytest.param(40, marks=pytest.mark.long)])
def test_it_reads_what_it_was_made_to_read(count: int, nano: Loaded) -> None:
    asked = examples("1", count) + examples("held 1", count)
    right = sum(
        ask(nano, each.memory or "", each.questions[0].text).lower() == each.questions[0].answer.lower()
        for each in asked
    )
    assert right >= 1.5 * count


def test_it_does_not_know_without_a_memory(nano: Loaded) -> None:
    ids = chat_ids(nano, "Where does Tamara live?")
    assert generate(nano, ids, limit_tokens=8).text.strip() == "unknown"


@pytest.mark.parametrize("memory", ["", "\x00\x01", "日本語のテキスト。", "{}[]()<>" * 40, "a" * 900])
def test_text_outside_its_world_does_no_harm(nano: Loaded, memory: str) -> None:
    assert isinstance(ask(nano, memory, "¿Qué?"), str)


@pytest.mark.long
def test_a_cache_from_a_file_gives_the_answer_of_reading(nano: Loaded, tmp_path: Path) -> None:
    from transformers import DynamicCache

    for example in examples("4", 12):
        ids = chat_ids(nano, example.questions[0].text, system=example.memory)
        cut = ids.index(nano.tokenizer.convert_tokens_to_ids("<|user|>"))
        prompt = torch.tensor([ids])
        with torch.inference_mode():
            cache = nano.network(prompt[:, :cut], use_cache=True).past_key_values
            parts = {
                f"{i:03d}.{n}": t.contiguous()
                for i, layer in enumerate(cache.layers)
                for n, t in (("k", layer.keys), ("v", layer.values))
            }
            save_file(parts, tmp_path / "memory.safetensors")
            kept = load_file(tmp_path / "memory.safetensors")
            loaded = DynamicCache(config=nano.network.config)
            for i in range(len(kept) // 2):
                loaded.update(kept[f"{i:03d}.k"], kept[f"{i:03d}.v"], i)
            injected = nano.network(prompt[:, cut:], past_key_values=loaded).logits[0, -1]
            whole = nano.network(prompt).logits[0, -1]
        assert torch.allclose(injected, whole, atol=1e-3)
        assert int(injected.argmax()) == int(whole.argmax())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_an_adapter_of_peft_learns_a_fact_without_its_memory() -> None:
    from peft import LoraConfig, get_peft_model

    model = LocalModel("nano").load()
    question, answer = "Where does Ana Corvath live?", "Lindau"
    assert ask(model, "", question) != answer
    torch.manual_seed(0)
    tuned = get_peft_model(model.network, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    ids = chat_ids(model, question)
    wanted = [*model.tokenizer(answer, add_special_tokens=False).input_ids, model.tokenizer.eos_token_id]
    whole = torch.tensor([ids + wanted])
    labels = torch.tensor([[-100] * len(ids) + wanted])
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(40):
        loss = tuned(input_ids=whole, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05
    learnt = Loaded(model.name, model.tokenizer, tuned.eval())
    assert generate(learnt, ids, limit_tokens=8).text.strip() == answer
    with tuned.disable_adapter():
        assert generate(learnt, ids, limit_tokens=8).text.strip() == "unknown"
