"""Fingerprints: what must agree is found out when it does not, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memos_cli.errors import NotFound, Usage
from memos_cli.runtime.fingerprint import Difference, Fingerprint, compare, fingerprint, weights_digest
from memos_cli.runtime.model import Loaded, load
from tests.runtime.decoders import save_random


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("decoder")
    save_random(place, chat=True)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Loaded:
    return load(folder, name="tiny")


def different(model: Loaded, folder: Path, cache: Path, other: Loaded, **more: Any) -> tuple[set[str], set[str]]:
    """The names of the hard and of the soft fields that differ."""
    found = compare(fingerprint(model, folder, cache=cache), fingerprint(other, folder, cache=cache, **more))
    return {one.field for one in found.hard}, {one.field for one in found.soft}


def test_a_model_fits_itself_wherever_it_lies(model: Loaded, folder: Path, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    first = fingerprint(model, folder, cache=tmp_path / "a")
    second = fingerprint(load(moved, name="other"), moved, cache=tmp_path / "b")
    assert compare(first, second).fits
    assert compare(first, second).soft == ()
    assert first.digest == second.digest
    assert set(first.hard) == {
        "architecture", "config", "layout", "rope", "weights", "adapters", "tokenizer", "format", "quantization",
    }  # fmt: skip
    assert set(first.soft) == {"dtype", "attention", "device", "torch", "transformers", "chat_template"}


def test_what_is_only_computed_otherwise_is_soft(model: Loaded, folder: Path, tmp_path: Path) -> None:
    other = load(folder, name="tiny")
    other.network.set_attn_implementation("eager")
    other.tokenizer.chat_template = "{{ messages }}"
    assert different(model, folder, tmp_path, other) == (set(), {"attention", "chat_template"})


def test_rope_is_hard_and_so_are_rounded_frequencies(model: Loaded, folder: Path, tmp_path: Path) -> None:
    import torch

    other = load(folder, name="tiny")
    other.network.config.rope_parameters["rope_theta"] = 5e5
    assert different(model, folder, tmp_path, other)[0] == {"config", "rope"}
    rounded = load(folder, name="tiny")
    rounded.network.to(torch.bfloat16)
    assert different(model, folder, tmp_path, rounded) == ({"rope"}, {"dtype"})


def test_adapters_are_hard_in_their_order(model: Loaded, folder: Path, tmp_path: Path) -> None:
    assert different(model, folder, tmp_path, model, adapters=("aa", "bb"))[0] == {"adapters"}
    first = fingerprint(model, folder, cache=tmp_path, adapters=("aa", "bb"))
    second = fingerprint(model, folder, cache=tmp_path, adapters=("bb", "aa"))
    assert compare(first, second).hard == (Difference("adapters", "aa,bb", "bb,aa"),)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_adapters_that_nobody_names_are_refused(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    plain = load(folder, name="tiny")
    wrapped = get_peft_model(plain.network, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(Usage, match="carries adapters"):
        fingerprint(replace(plain, network=wrapped), folder, cache=tmp_path)
    named = fingerprint(replace(plain, network=wrapped), folder, cache=tmp_path, adapters=("aa",))
    assert named.hard["architecture"] == "LlamaForCausalLM"


def test_a_call_with_padding_does_not_change_the_tokenizer(model: Loaded, folder: Path, tmp_path: Path) -> None:
    before = fingerprint(model, folder, cache=tmp_path)
    model.tokenizer.pad_token = model.tokenizer.eos_token
    padded = fingerprint(model, folder, cache=tmp_path)
    model.tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=8)
    assert fingerprint(model, folder, cache=tmp_path).digest == padded.digest
    model.tokenizer.pad_token = None
    other = load(folder, name="tiny")
    other.tokenizer.add_tokens(["bee"])
    assert {one.field for one in compare(before, fingerprint(other, folder, cache=tmp_path)).hard} == {"tokenizer"}


def test_weights_are_read_once_until_they_change(tmp_path: Path) -> None:
    import numpy
    from safetensors.numpy import save_file

    weights, cache = tmp_path / "model.safetensors", tmp_path / "cache"
    save_file({"a": numpy.zeros(4)}, weights)
    first = weights_digest(tmp_path, cache=cache)
    told = json.loads((cache / "weights.json").read_text())
    (key,) = told
    (cache / "weights.json").write_text(json.dumps({key: "0" * 64}))
    assert weights_digest(tmp_path, cache=cache) != first, "the remembered digest is used"
    os.utime(weights, ns=(1, 1))
    assert weights_digest(tmp_path, cache=cache) == first, "a file of another time is read again"
    (cache / "weights.json").write_text("{broken")
    assert weights_digest(tmp_path, cache=cache) == first
    save_file({"a": numpy.ones(4)}, weights)
    assert weights_digest(tmp_path, cache=cache) != first


def test_a_folder_without_weights_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="safetensors"):
        weights_digest(tmp_path, cache=tmp_path)


def test_a_field_that_one_side_lacks_differs() -> None:
    found = compare(Fingerprint({"a": "1"}, {}), Fingerprint({"b": "1"}, {}))
    assert found.hard == (Difference("a", "1", None), Difference("b", None, "1"))
    assert not found.fits


def test_digests_are_the_same_in_every_process() -> None:
    program = "from memos_cli.runtime.fingerprint import digest_of; print(digest_of({'b': [1, 'é'], 'a': None}))"
    outs = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outs) == 1
