"""Fidelity: a whole memory is at the floor, none is at the ceiling, a broken one is found out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from memos_cli.errors import Usage
from memos_cli.runtime import kv
from memos_cli.runtime.compose import compose
from memos_cli.runtime.fidelity import divergences, first_difference, measure
from tests.runtime.test_layout import new_model

TEXT = [(7 * n) % 89 + 5 for n in range(40)]
PROBES = [[(11 * n + 5 * probe) % 83 + 6 for n in range(6)] for probe in range(3)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_memory_put_back_is_no_different_at_all(dtype: str) -> None:
    network = new_model("qwen3", dtype=dtype)
    memory = kv.prefill(network, TEXT)
    found = measure(network, TEXT, PROBES, lambda ids: kv.resume(network, memory, ids), answer_tokens=8)
    assert (found.memory.mean_kl, found.memory.max_kl, found.memory.top1, found.memory.exact) == (0, 0, 1, 1)
    assert found.memory.first == (None, None, None)
    assert found.recovered == 1
    assert (found.probes, found.tokens) == (3, 24)
    assert found.noise.mean_kl < found.ceiling.mean_kl / 10
    assert found.ceiling.top1 < 1


def test_no_memory_is_the_ceiling_and_wrong_positions_are_found() -> None:
    network = new_model("llama")
    memory = kv.prefill(network, TEXT)
    wrong = replace(kv.shift(network, memory, base=17), base=0)
    without = measure(
        network, TEXT, PROBES, lambda ids: kv.forward(network, ids, cache=None, position=0, logits=len(ids)),
        answer_tokens=1,
    )  # fmt: skip
    assert without.memory == without.ceiling
    assert without.recovered == 0
    found = measure(network, TEXT, PROBES, lambda ids: kv.resume(network, wrong, ids), answer_tokens=6)
    assert found.memory.mean_kl > 100 * found.noise.mean_kl
    assert found.memory.p95_kl <= found.memory.max_kl


def test_memories_read_again_are_at_the_floor_and_joined_ones_are_not() -> None:
    network = new_model("qwen3")
    segments = [kv.prefill(network, TEXT[:15]), kv.prefill(network, TEXT[15:])]

    def by(mode: str) -> float:
        read = measure(
            network, TEXT, PROBES, lambda ids: compose(network, segments, ids, mode=mode).read, answer_tokens=6
        )
        return read.memory.mean_kl

    assert by("full") < 1e-6
    assert by("concat") > 1e-4


def test_divergence_is_the_formula() -> None:
    import torch

    expected, found = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])
    right = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert divergences(expected, found).tolist() == pytest.approx([right])
    assert divergences(found, found).tolist() == [0]


def test_first_difference() -> None:
    assert first_difference([1, 2, 3], [1, 2, 3]) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1


def test_nothing_to_measure_is_said() -> None:
    network = new_model("llama")
    for ids, probes in (([], PROBES), (TEXT, []), (TEXT, [[]])):
        with pytest.raises(Usage, match="probes"):
            measure(network, ids, probes, lambda following: kv.split_prefill(network, TEXT, following))
