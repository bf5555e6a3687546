"""From a running model into a file and back: bit for bit, and refused when it would lie."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memos_cli.cube import activation, tensorfile
from memos_cli.errors import Damaged, NotFound, Usage, WrongModel
from memos_cli.infrastructure.dumper import About, Storage, as_stored, dump, header_of
from memos_cli.infrastructure.loader import load
from memos_cli.runtime import kv
from memos_cli.runtime.compress import compress
from memos_cli.runtime.fingerprint import Fingerprint
from memos_cli.runtime.kv import Memory
from memos_cli.runtime.sparse import SparseMemory, resume
from tests.runtime.test_layout import FAMILIES, new_model

TEXT = [(7 * n) % 89 + 5 for n in range(40)]
NEXT = [(11 * n) % 83 + 6 for n in range(7)]
HARD = dict.fromkeys(
    ("adapters", "architecture", "config", "layout", "rope", "tokenizer", "weights", "format", "quantization"), "a" * 64
)
PRINT = Fingerprint(HARD, {"device": "cpu"})
ABOUT = About("m1", "sha256:" + "0" * 64, "segment", {"tool": "test", "made_at": "2026-01-01T00:00:00Z"})


def stored(folder: Path, network: Any, memory: Any, **storage: Any) -> Path:
    header = header_of(network, memory.ids, ABOUT, fingerprint=PRINT, storage=Storage(**storage))
    made = dump(folder, header, memory, network, fidelity={"top1": 0.5})
    assert made.path.name == header.name, "the name is known before it is made"
    assert made.header.fidelity == {"top1": 0.5}
    return made.path


@pytest.mark.many(4)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_comes_back_continues_bit_for_bit(family: str, dtype: str, attention: str, tmp_path: Path) -> None:
    import torch

    network = new_model(family, dtype=dtype, attention=attention)
    path = stored(tmp_path / "activation", network, kv.prefill(network, TEXT))
    assert path.name.startswith("m1.")
    found = load(path, network, fingerprint=PRINT)
    assert isinstance(found.memory, Memory)
    assert (found.memory.ids, found.memory.base, found.warnings) == (tuple(TEXT), 0, ())
    exact = kv.split_prefill(network, TEXT, NEXT)
    resumed = kv.resume(network, found.memory, NEXT)
    assert torch.equal(resumed.logits, exact.logits)
    assert kv.write(network, resumed, limit_tokens=8) == kv.write(network, exact, limit_tokens=8)


def test_the_cache_grows_and_the_file_does_not(tmp_path: Path) -> None:
    """What the published MemOS does: each turn writes into the stored object, and the memory grows."""
    import torch

    network = new_model("qwen3")
    path = stored(tmp_path / "activation", network, kv.prefill(network, TEXT))
    before = path.read_bytes()
    found = load(path, network, fingerprint=PRINT).memory
    assert isinstance(found, Memory)
    turns = [kv.resume(network, found, NEXT) for _ in range(3)]
    for begun in turns:
        kv.write(network, begun, limit_tokens=5)
        assert begun.cache.get_seq_length() == len(TEXT) + len(NEXT) + 4
    assert torch.equal(turns[0].logits, turns[2].logits)
    assert all(one.shape[1] == len(TEXT) for one in found.keys)
    assert path.read_bytes() == before


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_a_running_models_cache_is_kept_and_goes_on(family: str, tmp_path: Path) -> None:
    import torch

    network = new_model(family)
    begun = kv.split_prefill(network, TEXT, NEXT)
    said = kv.write(network, begun, limit_tokens=4)
    read = [*TEXT, *NEXT, *said[:-1]]  # the last token that was written has not been read
    with pytest.raises(Usage, match=f"{len(read)} tokens"):
        kv.from_cache(network, begun.cache, [*read, said[-1]])
    path = stored(tmp_path / "activation", network, kv.from_cache(network, begun.cache, read))
    found = load(path, network, fingerprint=PRINT).memory
    assert isinstance(found, Memory)
    there = kv.forward(network, said[-1:], cache=begun.cache, position=begun.position + 3, logits=1)
    assert torch.equal(kv.resume(network, found, said[-1:]).logits, there.logits)


def test_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    network = new_model("llama")
    path = stored(tmp_path / "activation", network, kv.prefill(network, TEXT))
    found = load(path, network, fingerprint=PRINT).memory
    assert isinstance(found, Memory)
    spans = activation.read(path).head.spans
    starts = [one.data_ptr() for one in (*found.keys, *found.values)]
    offsets = [spans[f"layers.{n:03d}.{part}"].offset for part in ("key", "value") for n in range(3)]
    assert [a - starts[0] for a in starts] == [a - offsets[0] for a in offsets]


def test_another_dtype_is_turned_into_the_models(tmp_path: Path) -> None:
    import torch

    network = new_model("llama")
    memory = kv.prefill(network, TEXT)
    for dtype, most in (("float16", 1e-3), ("bfloat16", 1e-2)):
        path = stored(tmp_path / dtype, network, memory, dtype=dtype)
        assert path.stat().st_size < 0.7 * stored(tmp_path / "whole", network, memory).stat().st_size
        found = load(path, network, fingerprint=PRINT).memory
        assert isinstance(found, Memory)
        assert found.keys[1].dtype == torch.float32
        assert 0 < (found.keys[1] - memory.keys[1]).norm() / memory.keys[1].norm() < most


@pytest.mark.parametrize(("bits", "most"), [(8, 2e-2), (4, 2e-1)])
def test_few_bits_come_back_close(bits: int, most: float, tmp_path: Path) -> None:
    import torch

    network = new_model("qwen3")
    memory = kv.prefill(network, TEXT)
    path = stored(tmp_path / "activation", network, memory, bits=bits)
    found = load(path, network, fingerprint=PRINT)
    assert isinstance(found.memory, Memory)
    assert found.header.quantization is not None
    foretold = as_stored(found.header, memory)
    for part in ("keys", "values"):
        for held, told, right in zip(
            getattr(found.memory, part), getattr(foretold, part), getattr(memory, part), strict=True
        ):
            assert torch.equal(held, told)
            assert (held - right).norm() / right.norm() < most


def test_heads_that_keep_tokens_of_their_own_come_back(tmp_path: Path) -> None:
    import torch

    network = new_model("qwen3")
    for method, keep in (("knorm", 0.5), ("memory3", None)):
        sparse = compress(network, kv.prefill(network, TEXT), method=method, keep=keep)
        about = replace(ABOUT, compression={"method": method})
        header = header_of(network, sparse.ids, about, fingerprint=PRINT)
        found = load(dump(tmp_path / method, header, sparse, network).path, network, fingerprint=PRINT).memory
        assert isinstance(found, SparseMemory)
        assert torch.equal(resume(network, found, NEXT).logits, resume(network, sparse, NEXT).logits)


def test_another_model_is_refused_and_a_soft_difference_is_told(tmp_path: Path) -> None:
    """What the published MemOS does not notice: a cache of another model loads, and answers nonsense."""
    network = new_model("qwen3")
    path = stored(tmp_path / "activation", network, kv.prefill(network, TEXT))
    for field in HARD:
        other = Fingerprint({**HARD, field: "b" * 64}, {})
        with pytest.raises(WrongModel, match=f"{field}: made with"):
            load(path, network, fingerprint=other)
    with pytest.raises(WrongModel, match="layer"):
        load(path, new_model("phi"), fingerprint=PRINT)
    soft = load(path, network, fingerprint=Fingerprint(HARD, {"device": "cuda"}))
    assert "device" in soft.warnings[0]


def test_harm_is_refused(tmp_path: Path) -> None:
    network = new_model("qwen3")
    path = stored(tmp_path / "activation", network, kv.prefill(network, TEXT))
    whole = path.read_bytes()
    with pytest.raises(NotFound):
        load(path.with_name("m2.0123456789ab.kv.safetensors"), network, fingerprint=PRINT)
    for name, data in (("cut", whole[:-1]), ("header", whole[:40] + b"\x00" + whole[41:]), ("empty", b"")):
        path.unlink()
        path.write_bytes(data)
        with pytest.raises(Damaged):
            load(path, network, fingerprint=PRINT)
        assert name
    # of what the first reading does not touch, a full one tells
    path.unlink()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(Damaged):
        activation.verify(path)


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    network = new_model("qwen3")
    memory = kv.prefill(network, TEXT)
    memory.values[1][0, 3, 2] = float("nan")
    with pytest.raises(Damaged, match="not a number"):
        stored(tmp_path / "activation", network, memory)
    large = kv.prefill(network, TEXT)
    large.keys[0][0, 0, 0] = 1e6
    with pytest.raises(Damaged, match="infinite"):
        stored(tmp_path / "activation", network, large, dtype="float16")
    assert not (tmp_path / "activation").exists()
    with pytest.raises(Usage, match="float64"):
        stored(tmp_path / "activation", network, large, dtype="float64")


def test_any_reader_of_safetensors_opens_it(tmp_path: Path) -> None:
    import torch
    from safetensors import safe_open

    network = new_model("llama", dtype="bfloat16")
    memory = kv.prefill(network, TEXT)
    path = stored(tmp_path / "activation", network, memory)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["memos.rope"]) == {"state": "post", "type": "default"}
        assert file.get_tensor("token_ids").tolist() == TEXT
        assert torch.equal(file.get_tensor("layers.002.value"), memory.values[2])
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert (8 + length) % tensorfile.ALIGNMENT_BYTES == 0
