"""What a stored memory takes: load against a plain scan of its file, and 8 and 4 bits against its model's dtype."""

from __future__ import annotations

import argparse
import gc
import mmap
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.runtime import fidelity, kv
from tests.bench import timing
from tests.bench.shapes import QWEN, held, in_dtype, new_network, scratch, store, tokens_of
from tests.bench.timing import Bar, Spread

if TYPE_CHECKING:
    from memos_cli.runtime.model import Loaded

LOADED_TOKENS = 2048
BARS = {8: 1.9, 4: 3.2}
KL_TIMES = 10
ANSWER_TOKENS = 5


def load(given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    """Seconds and resident memory of a load whose every page is touched, beside a scan of the same bytes."""
    # heads and layers of the large shape with hardly a weight beside them: a load needs none
    network = new_network(replace(in_dtype(QWEN, "bfloat16"), hidden=64, mlp=64))
    with scratch() as folder:
        path = store(folder, network, _random_memory(network)).path
        size = path.stat().st_size
        _touch(path, network), _scan(path)
        grown = _grown(path, network)
        pairs = timing.measure_pairs(lambda: _scan(path), lambda: _touch(path, network), times=max(given.runs, 9))
        views = timing.measure(lambda: held(path, network), times=20)
    rates = [Spread.of([size / 1e9 / pair[at] for pair in pairs], digits=2) for at in (0, 1)]
    share = round(Spread.of(timing.ratios(pairs)).median, 3)
    row = {
        "file MB": round(size / 1e6, 1), "scan GB/s": rates[0], "load and touch GB/s": rates[1], "of the scan": share,
        "load alone ms": Spread.of(views, scale=1e3, digits=2),
        **{f"{name} / file": one for name, one in grown.items()},
    }  # fmt: skip
    timing.table([row])
    bars = [
        Bar("load, resident memory of the file's size", grown["RSS"], 1.1),
        Bar("load, of a scan", share, 0.8, True),
    ]
    return row, bars


def _random_memory(network: Any) -> kv.Memory:
    import torch

    shape = (QWEN.kv_heads, LOADED_TOKENS, QWEN.head_dim)
    drawn = [torch.randn(shape).to(network.dtype) for _ in range(4)]
    keys, values = (tuple(drawn[at + layer % 2] for layer in range(QWEN.layers)) for at in (0, 2))
    return kv.Memory(tuple(tokens_of(LOADED_TOKENS)), keys, values)


def _touch(path: Path, network: Any) -> int:
    """Loads the memory and reads every number of it."""
    import torch

    memory = held(path, network)
    return sum(int(one.view(torch.int64).numpy().sum()) for one in (*memory.keys, *memory.values))


def _scan(path: Path) -> int:
    """The same bytes without any of it: a mapping, summed in pieces of a tensor's size."""
    import numpy as np

    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        step = QWEN.kv_heads * LOADED_TOKENS * QWEN.head_dim * 2
        whole = len(mapped) // step * step
        return sum(_piece_sum(np, mapped, len(mapped) - whole + start, step) for start in range(0, whole, step))


def _piece_sum(np: Any, mapped: mmap.mmap, start: int, step: int) -> int:
    return int(np.frombuffer(mapped, "<i8", step // 8, start).sum())


def _resident() -> dict[str, int]:
    """Bytes of this process in RAM: all, those of its own, and those of files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"RSS": "VmRSS", "own": "RssAnon", "mapped": "RssFile"}
    return {name: int(lines[line].split()[0]) * 1024 for name, line in names.items()}


def _grown(path: Path, network: Any) -> dict[str, float]:
    """What the process holds more while a memory is loaded and was read, as a share of its file."""
    import torch

    gc.collect()
    before = _resident()
    memory = held(path, network)
    for one in (*memory.keys, *memory.values):
        one.view(torch.int64).numpy().sum()
    after = _resident()
    return {name: round((after[name] - before[name]) / os.path.getsize(path), 3) for name in before}


def bits(given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    """Size and fidelity of each number of bits: on nano with facts of its world, and on a random shape."""
    rows = _on_nano(count=6 if given.short else 25) + _on_random()
    timing.say("random weights prove nothing of quality: their rows tell sizes, and that the figures are finite")
    timing.table(rows)
    bars = [
        Bar(f"{row['model']}, {row['bits']} bits, times smaller", row["smaller"], BARS[row["bits"]], True)
        for row in rows
    ]
    bars += [
        Bar(f"{row['model']}, 8 bits, KL of the noise floor's", round(row["KL"] / row["noise KL"], 2), KL_TIMES)
        for row in rows
        if row["bits"] == 8 and row["model"].startswith("nano")
    ]
    return rows, bars


def _on_nano(*, count: int) -> list[dict[str, Any]]:
    import torch

    from memos_cli.runtime.model import LocalModel

    model = LocalModel("nano").load()
    model.network.to(torch.bfloat16)
    texts = list(_texts(model, count))
    return [_row("nano bfloat16, 16 facts", model.network, texts, size, answer_tokens=ANSWER_TOKENS) for size in BARS]


def _texts(model: Loaded, count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens of a memory of 16 facts and of a question to it."""
    from memos_cli.runtime.generate import chat_ids
    from memos_cli.runtime.nano.train.evaluation import examples

    user = model.tokenizer.convert_tokens_to_ids("<|user|>")
    for example in examples("16", count):
        ids = chat_ids(model, example.questions[0].text, system=example.memory)
        cut = ids.index(user)
        yield ids[:cut], ids[cut:]


def _on_random() -> list[dict[str, Any]]:
    shape = replace(in_dtype(QWEN, "bfloat16"), name="Qwen3 random", layers=4)
    network = new_network(shape)
    texts = [(tokens_of(256, first=start), tokens_of(16, first=start + 256)) for start in (0, 300)]
    return [_row(f"{shape.name}, {shape.layers} layers", network, texts, size, answer_tokens=4) for size in BARS]


def _row(
    name: str, network: Any, texts: list[tuple[list[int], list[int]]], size: int, *, answer_tokens: int
) -> dict[str, Any]:
    found, smaller, tokens = [], [], []
    for ids, question in texts:
        with scratch() as folder:
            memory = kv.prefill(network, ids)
            whole, small = (store(folder, network, memory, bits=one).path for one in (None, size))
            smaller.append(whole.stat().st_size / small.stat().st_size)
            stored = held(small, network)
        found.append(fidelity.measure(network, ids, [question], _reader(network, stored), answer_tokens=answer_tokens))
        tokens.append(len(ids))
    count = len(found)
    return {
        "model": name, "bits": size, "tokens": round(sum(tokens) / count), "smaller": round(sum(smaller) / count, 3),
        "KL": sum(one.memory.mean_kl for one in found) / count,
        "noise KL": sum(one.noise.mean_kl for one in found) / count,
        "no memory KL": round(sum(one.ceiling.mean_kl for one in found) / count, 3),
        "top-1": round(sum(one.memory.top1 for one in found) / count, 4),
        "noise top-1": round(sum(one.noise.top1 for one in found) / count, 4), "memories": count,
    }  # fmt: skip


def _reader(network: Any, memory: kv.Memory) -> fidelity.Read:
    return lambda following: kv.resume(network, memory, following)
