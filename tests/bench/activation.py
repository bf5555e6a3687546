"""What activation memory saves: time to the first token, load, size, and what is lost with it.

`ttft`: a question of 32 tokens after a memory, from its file against from its text, on a model of the shape of
Qwen3-0.6B. `grid`: the contexts and questions of the table that MemOS publishes, and a context of four segments, which
it has none of. `load`: what a mapped file takes, beside a plain scan. `bits`: 8 and 4 bits. `quality`: exact answers of
the default model, by the way that memories are joined and made smaller. The physics: with n tokens of memory and q of
question the text costs n + q and the memory q, so the first is (n + q) / q times as much, until reading the file and
attending over n tokens tell. Weights are random but for nano's; ratios are taken pair by pair in one process. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from memos_cli.runtime import compose, kv
from tests.bench import activation_plot, activation_quality, activation_storage, timing
from tests.bench.shapes import (
    LARGE,
    QWEN,
    SMALL,
    Shape,
    from_file,
    from_text,
    held,
    in_dtype,
    new_network,
    scratch,
    store,
    tokens_of,
)
from tests.bench.timing import Bar, Spread

QUESTION = 32
TTFT_BARS = {1024: 15.0, 2048: 28.0}
CONTEXTS = (583, 2773, 6064)
# The best published cell of three models: the share of the time to the first token that is saved.
PUBLISHED = {
    (6064, 953): 79.1, (6064, 303): 91.1, (6064, 167): 94.2, (2773, 953): 64.6, (2773, 303): 85.1, (2773, 167): 89.7,
    (583, 953): 23.8, (583, 303): 55.6, (583, 167): 71.3,
}  # fmt: skip
SEGMENTS = 4
COMPOSED = (compose.CONCAT, compose.LINK, compose.BLEND)
# What notes on hardware give for an H200: half of its peak in bf16, its memory, the bus to the host, a drive.
H200 = {"flops": 395e12, "hbm": 4.3e12, "pcie": 50e9, "nvme": 7e9}
FLOOR_S = 3e-3
Work = Callable[[], object]
Cell = tuple[int, int]


def ttft(shape: Shape, contexts: list[int], *, runs: int, device: str = "cpu") -> list[dict[str, Any]]:
    """A row for each length of memory, with what the limits are and how much of them is reached."""
    network, rows = new_network(shape, device=device), []
    from_text(network, tokens_of(64))
    for context in contexts:
        ids, question = tokens_of(context), tokens_of(QUESTION, first=context)
        with scratch() as folder:
            rows.append(_reading(network, shape, folder, ids, question, runs=runs))
        timing.say(f"{shape.name} {shape.dtype}: {context} tokens done")
    return rows


def _reading(
    network: Any, shape: Shape, folder: Path, ids: list[int], question: list[int], *, runs: int
) -> dict[str, Any]:
    begin = perf_counter()
    memory = kv.prefill(network, ids)
    path = store(folder, network, memory).path
    built = perf_counter() - begin
    same = _same(network, path, memory, question)
    pairs = timing.measure_pairs(
        lambda: from_text(network, [*ids, *question]), lambda: from_file(network, path, question), times=runs, warm=0
    )
    resident = timing.measure(lambda: kv.resume(network, memory, question, logits=1), times=max(runs, 5))
    loads = timing.measure(lambda: held(path, network), times=max(runs, 5))
    ratio, limit = Spread.of(timing.ratios(pairs)), shape.limit(len(ids), len(question))
    mapped = Spread.of([second for _, second in pairs])
    return {
        "model": f"{shape.name} {shape.dtype}", "memory": len(ids), "question": len(question),
        "build s": round(built, 2),
        "text s": Spread.of([first for first, _ in pairs]), "memory s": mapped,
        "ratio": ratio, "limit": round(limit, 1),
        "of limit %": round(100 * ratio.median / limit, 1), "load ms": Spread.of(loads, scale=1e3, digits=2),
        # how much of the time of a memory that is in RAM already one from a file takes
        "of resident %": round(100 * Spread.of(resident, digits=6).median / mapped.median, 1),
        "file MB": round(path.stat().st_size / 1e6, 1), "bit for bit": same, "runs": runs,
    }  # fmt: skip


def _same(network: Any, path: Path, memory: kv.Memory, question: list[int]) -> bool:
    """Whether what comes from the file gives the very logits of a model that read the text and then the question."""
    import torch

    from_memory = kv.resume(network, held(path, network), question, logits=1).logits
    return bool(torch.equal(from_memory, kv.resume(network, memory, question, logits=1).logits))


def grid(shape: Shape, cells: Sequence[Cell], *, runs: int, device: str = "cpu") -> list[dict[str, Any]]:
    """Contexts with questions: whole, and as four segments that are composed in three ways."""
    network, rows = new_network(shape, device=device), []
    from_text(network, tokens_of(64))
    for context in dict.fromkeys(context for context, _ in cells):
        with scratch() as folder:
            for question in (question for of, question in cells if of == context):
                rows += _cell(network, shape, folder, context, question, runs=runs)
                timing.say(f"{shape.name} {shape.dtype}: {context} tokens and {question} done")
    return rows


def _cell(network: Any, shape: Shape, folder: Path, context: int, question: int, *, runs: int) -> list[dict[str, Any]]:
    ids, asked = tokens_of(context), tokens_of(question, first=context)
    begin = perf_counter()
    path = store(folder, network, kv.prefill(network, ids), name=f"whole{question}").path
    built = perf_counter() - begin
    paths = _segments(network, folder, ids, name=f"part{question}")
    ways: dict[str, Work] = {"memory": lambda: from_file(network, path, asked)}
    ways |= {f"compose {mode}": _composing(network, paths, asked, mode) for mode in COMPOSED}
    seconds = _in_turns([lambda: from_text(network, [*ids, *asked]), *ways.values()], times=runs)
    texts, limit = seconds[0], 100 * (1 - 1 / shape.limit(context, question))
    rows = []
    for way, found in zip(ways, seconds[1:], strict=True):
        saved = [100 * (1 - one / text) for one, text in zip(found, texts, strict=True)]
        row = {"model": f"{shape.name} {shape.dtype}", "context": context, "question": question, "way": way}
        row |= {"build s": round(built, 2) if way == "memory" else None, "text s": Spread.of(texts)}
        row |= {"memory s": Spread.of(found), "saved %": Spread.of(saved, digits=1), "limit %": round(limit, 1)}
        rows.append({**row, "published %": PUBLISHED[context, question] if way == "memory" else None, "runs": runs})
    return rows


def _segments(network: Any, folder: Path, ids: list[int], *, name: str) -> list[Path]:
    """The files of a context in four, each read by itself."""
    cuts = [len(ids) * part // SEGMENTS for part in range(SEGMENTS + 1)]
    parts = [ids[first:last] for first, last in zip(cuts, cuts[1:], strict=False)]
    read = (kv.prefill(network, part) for part in parts)
    return [store(folder, network, one, name=f"{name}-{at}").path for at, one in enumerate(read)]


def _composing(network: Any, paths: list[Path], question: list[int], mode: str) -> Work:
    def work() -> int:
        composed = compose.compose(network, [held(path, network) for path in paths], question, mode=mode, logits=1)
        return int(composed.read.logits[-1].argmax())

    return work


def _in_turns(works: list[Work], *, times: int) -> list[list[float]]:
    """Seconds of each, one after the other, so that what slows the machine slows all; all but the first are warmed.

    Each lap has another order, for what a long pass leaves behind slows whatever comes next.
    """
    for work in works[1:]:
        work()
    seconds: list[list[float]] = [[] for _ in works]
    for lap in range(times):
        for turn in random.Random(lap).sample(range(len(works)), len(works)):
            seconds[turn] += timing.measure(works[turn], times=1, warm=0)
    return seconds


def arithmetic(shape: Shape = LARGE) -> list[dict[str, Any]]:
    """The grid on an H200 by multiplications and bytes alone: nothing of it was measured."""
    weights_s = 2 * shape.parameters / H200["hbm"] + FLOOR_S
    rows = []
    for (context, question), published in sorted(PUBLISHED.items()):
        text = max(shape.flops(context + question) / H200["flops"], weights_s)
        asked = max(shape.flops(question, before=context) / H200["flops"], weights_s)
        size = context * shape.token_bytes()
        row: dict[str, Any] = {"context": context, "question": question, "text ms": round(1e3 * text, 1)}
        for place in ("hbm", "pcie", "nvme"):
            row[f"saved % {place}"] = round(100 * (1 - (asked + size / H200[place]) / text), 1)
        rows.append({**row, "published %": published})
    return rows


def grid_bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Every cell against the best published one."""
    told = [row for row in rows if row["way"] == "memory"]
    return [
        Bar(f"{row['model']}, {row['context']}/{row['question']}, saved %", row["saved %"].median,
            row["published %"], least=True)
        for row in told
    ]  # fmt: skip


def ttft_bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """The bars are those of bfloat16; a model in float32 computes faster where there are no instructions for it."""
    told = [row for row in rows if row["memory"] in TTFT_BARS and "bfloat16" in row["model"] and "0.6B" in row["model"]]
    return [
        Bar(f"{row['memory']} tokens, times as fast", row["ratio"].median, TTFT_BARS[row["memory"]], least=True)
        for row in told
    ]


def _ttft(given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    contexts, dtypes = ([256, 1024], ["float32"]) if given.short else (given.contexts, given.dtypes)
    rows = [row for dtype in dtypes for row in ttft(in_dtype(QWEN, dtype), contexts, runs=given.runs)]
    timing.say(QWEN.told())
    timing.table(rows)
    if given.plot:
        chosen = [row for row in rows if row["model"].endswith(dtypes[0])]
        activation_plot.draw(Path(given.plot), chosen, title=in_dtype(QWEN, dtypes[0]).told())
    return rows, ttft_bars(rows)


def _grid(given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    cells = [cell for cell in given.cells or sorted(PUBLISHED) if cell[0] < max(CONTEXTS) or not given.short]
    asked: list[tuple[Shape, list[Cell], str]] = [(SMALL, cells, "cpu")]
    if not given.short:
        asked.append((QWEN, [cell for cell in cells if cell[0] == min(CONTEXTS)], "cpu"))
    if given.gpu and (shape := _on_gpu()):
        asked.append((shape, cells, "cuda"))
    asked = [one for one in asked if one[1]]
    rows = [row for shape, some, device in asked for row in grid(shape, some, runs=given.runs, device=device)]
    shapes = [shape for shape, *_ in asked]
    for shape in shapes:
        timing.say(shape.told())
    timing.table(rows)
    timing.say(f"By arithmetic alone, nothing measured: {LARGE.told()} on an H200")
    timing.table(told := arithmetic())
    return {"measured": rows, "arithmetic, not measured": told}, grid_bars(rows)


def _on_gpu() -> Shape | None:
    import torch

    if torch.cuda.is_available():
        return LARGE
    timing.say("no accelerator here: its grid is by arithmetic only")
    return None


PARTS: dict[str, Callable[[argparse.Namespace], tuple[Any, list[Bar]]]] = {
    "ttft": _ttft,
    "grid": _grid,
    "load": activation_storage.load,
    "bits": activation_storage.bits,
    "quality": activation_quality.quality,
}


def cell(text: str) -> Cell:
    """A cell of the published table; ValueError for any other."""
    context, _, question = text.partition("/")
    if (found := (int(context), int(question))) not in PUBLISHED:
        raise ValueError(text)
    return found


def main() -> None:
    """Measures the parts that are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.activation", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--short", action="store_true", help="fewer and shorter memories, for `make bench`")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cells", type=cell, nargs="*", help="of grid, as CONTEXT/QUESTION in tokens; all by default")
    parser.add_argument("--contexts", type=int, nargs="*", default=list(TTFT_BARS), help="of ttft, in tokens")
    parser.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32"], help="of ttft")
    parser.add_argument("--questions", type=int, default=120, help="of a cell of quality")
    parser.add_argument("--gpu", action="store_true", help="the grid on an accelerator too, where there is one")
    parser.add_argument("--plot", help="an SVG to draw ttft into, in the first dtype")
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"expected parts of {', '.join(PARTS)}, found {unknown[0]}")
    import torch

    torch.set_num_threads(1)
    result, bars = {"threads": 1, "load": [round(one, 2) for one in os.getloadavg()]}, []
    for part in given.parts or [part for part in PARTS if not given.short or part != "quality"]:
        begin = perf_counter()
        result[part], found = PARTS[part](given)
        bars += found
        timing.say(f"{part}: {perf_counter() - begin:.0f} s, load {' '.join(f'{one:.1f}' for one in os.getloadavg())}")
    timing.finish("activation", json.loads(json.dumps(result, default=timing._plain)), bars=bars)


if __name__ == "__main__":
    main()
