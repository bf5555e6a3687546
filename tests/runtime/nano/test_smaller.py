"""A trained model with a memory in fewer bits, and of fewer tokens: how far its answers are from those with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from memos_cli.runtime import kv
from memos_cli.runtime.compress import compress
from memos_cli.runtime.fidelity import Fidelity, measure
from memos_cli.runtime.generate import chat_ids
from memos_cli.runtime.model import NANO, load
from memos_cli.runtime.nano.train.evaluation import examples
from memos_cli.runtime.quantize import dequantize, quantize, schemes_for
from memos_cli.runtime.sparse import resume

Change = Callable[[Any, kv.Memory], Any]


def fidelity(change: Change, *, dtype: torch.dtype, count: int = 4) -> list[Fidelity]:
    """How close reading goes with changed memories of 16 facts each, one question to each."""
    model = load(NANO, name="nano")
    network, found = model.network.to(dtype), []
    for example in examples("16", count):
        ids = chat_ids(model, example.questions[0].text, system=example.memory)
        cut = ids.index(model.tokenizer.convert_tokens_to_ids("<|user|>"))
        memory = change(network, kv.prefill(network, ids[:cut]))
        read = partial(kv.resume if isinstance(memory, kv.Memory) else resume, network, memory)
        found.append(measure(network, ids[:cut], [ids[cut:]], read, answer_tokens=5))
    return found


def in_bits(bits: int) -> Change:
    """Through so many bits and back."""

    def change(_network: Any, memory: kv.Memory) -> kv.Memory:
        keys, values = (
            tuple(dequantize(quantize(one, **scheme), **scheme, dim=one.shape[2], dtype=one.dtype) for one in each)
            for each, scheme in zip((memory.keys, memory.values), schemes(memory, bits), strict=True)
        )
        return replace(memory, keys=keys, values=values)

    return change


def schemes(memory: kv.Memory, bits: int) -> list[dict[str, Any]]:
    return [one._asdict() for one in schemes_for(bits, tokens=len(memory.ids), dim=memory.keys[0].shape[2])]


def mean_kl(found: list[Fidelity]) -> float:
    return sum(one.memory.mean_kl for one in found) / len(found)


@pytest.mark.long
def test_8_bits_are_near_the_models_own_rounding() -> None:
    found = fidelity(in_bits(8), dtype=torch.bfloat16)
    noise = sum(one.noise.mean_kl for one in found) / len(found)
    assert mean_kl(found) < 10 * noise + 1e-5
    assert all(one.memory.top1 == 1 and one.recovered > 0.999 for one in found)


@pytest.mark.long
def test_4_bits_are_further_but_read() -> None:
    found = fidelity(in_bits(4), dtype=torch.bfloat16)
    assert mean_kl(found) < 0.1
    assert all(one.recovered > 0.9 for one in found)


@pytest.mark.long
def test_kvzip_keeps_what_answers_need_and_chance_does_not() -> None:
    def half(method: str) -> Change:
        return lambda network, memory: compress(network, memory, method=method, keep=0.5)

    kept, chance = (mean_kl(fidelity(half(one), dtype=torch.float32)) for one in ("kvzip", "random"))
    assert kept < chance / 2


@pytest.mark.long
@pytest.mark.parametrize("method", ["expected_attention", "h2o", "memory3"])
def test_the_others_run_on_it(method: str) -> None:
    found = fidelity(lambda network, memory: compress(network, memory, method=method, keep=0.9), dtype=torch.float32)
    assert all(one.memory.mean_kl < one.ceiling.mean_kl for one in found)
