"""What the default model can read, and how fast: exact answers by the number of facts, wording and shape of the memory.

Every name in the questions is made of syllables that training never saw; the `held` cells use wordings that it never
saw. An answer is exact letter by letter, but for the case of its first letter. Greedy, through the same loading and
generation as `query --answer`. Intervals are Wilson's at 95%. The last line is JSON. `--model` measures another folder,
such as a checkpoint's export.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING

from memos_cli.interface import api
from memos_cli.runtime.nano.train.evaluation import CELLS, examples
from memos_cli.runtime.nano.train.world import UNKNOWN, Fact, World
from tests.bench import timing

if TYPE_CHECKING:
    from memos_cli.runtime.model import Loaded

BARS = {"1": 0.97, "4": 0.95, "16": 0.90, "32": 0.80, "held 1": 0.80, "held 4": 0.70, "unknown": 0.90}
MEMORIES, ASKED = 500, 300
TTFT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `count`, with the interval it lies in by 95%."""

    right: int
    count: int

    @property
    def value(self) -> float:
        return self.right / max(self.count, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval."""
        n, p, z = max(self.count, 1), self.value, 1.96
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    def told(self) -> dict[str, float]:
        """As it goes into a table."""
        low, high = self.interval
        return {"exact": round(self.value, 3), "low": round(low, 3), "high": round(high, 3), "count": self.count}


def same(written: str, answer: str) -> bool:
    """Letter by letter, but for the case of the first: a sentence that begins with a value hides it."""
    return written[:1].lower() + written[1:] == answer[:1].lower() + answer[1:]


def cell(model: Loaded, name: str, *, count: int, seeds: Sequence[int]) -> tuple[Share, Share]:
    """The share of a cell's questions that is answered exactly, and the share that is answered with unknown."""
    from memos_cli.runtime.generate import chat_ids, generate

    right = refused = asked = 0
    for seed in seeds:
        for example in examples(name, count, seed=seed):
            question = example.questions[0]
            ids = chat_ids(model, question.text, system=example.memory)
            written = generate(model, ids, limit_tokens=32).text.strip()
            right += same(written, question.answer)
            refused += written == UNKNOWN
            asked += 1
    return Share(right, asked), Share(refused, asked)


def through_a_cube(spec: str, folder: Path, *, seed: int = 7) -> Share:
    """Exact answers of `query --answer` on a cube of 500 memories of the reading world, each a line of its own."""
    world = World(Random(f"{seed} cube"), held_names=True)
    facts: dict[tuple[str, str], Fact] = {}
    while len(facts) < MEMORIES:
        for fact in world.facts(world.random.randint(1, 12), own=1.0):
            facts.setdefault((fact.subject, fact.relation.name), fact)
    kept = list(facts.values())[:MEMORIES]
    source = folder / "facts.md"
    source.write_text("\n".join(f"- {world.state([fact], shape='lines')[0]}" for fact in kept) + "\n", encoding="utf-8")
    cube = folder / "world.cube"
    api.ingest(str(cube), [str(source)], home=folder / "home")
    asked = [(world.ask(fact).text, fact.value) for fact in world.random.sample(kept, ASKED)]
    told = api.answer_many([str(cube)], [text for text, _ in asked], model=spec, home=folder / "home")
    right = sum(same(found.answer or "", value) for found, (_, value) in zip(told, asked, strict=True))
    return Share(right, len(asked))


def speed(spec: str) -> dict[str, timing.Spread]:
    """Seconds to load, after torch and transformers, and to the first token after a memory of 256 tokens."""
    import torch

    from memos_cli.runtime.generate import chat_ids, count_tokens, generate
    from memos_cli.runtime.model import LocalModel

    torch.set_num_threads(1)
    model = LocalModel(spec).load()
    world = World(Random(3), held_names=True)
    memory = ""
    while count_tokens(model, memory) < TTFT_TOKENS:
        memory += world.state(world.facts(4, own=1.0), shape="lines")[0] + "\n"
    ids = chat_ids(model, "Where does Ana live?", system=memory)
    firsts = [generate(model, ids, limit_tokens=4).first_seconds for _ in range(8)][1:]
    loads = []
    for _ in range(7):
        begin = perf_counter()
        LocalModel(spec).load()
        loads.append(perf_counter() - begin)
    return {"load s": timing.Spread.of(loads[1:]), f"first token s ({len(ids)} tokens)": timing.Spread.of(firsts)}


def main() -> None:
    """Runs the cells that are asked for and prints the table."""
    options = argparse.ArgumentParser(prog="python -m tests.bench.nano", description=__doc__)
    options.add_argument("--model", default="nano")
    options.add_argument("--count", type=int, default=500, help="questions a cell and seed")
    options.add_argument("--seeds", type=int, nargs="*", default=[11])
    options.add_argument("--cells", nargs="*", default=list(CELLS))
    options.add_argument("--no-cube", action="store_true")
    given = options.parse_args()
    import torch

    from memos_cli.runtime.model import LocalModel

    torch.set_num_threads(1)
    model = LocalModel(given.model).load()
    shares: dict[str, Share] = {}
    refused = Share(0, 0)
    for name in given.cells:
        shares[name], said = cell(model, name, count=given.count, seeds=given.seeds)
        if not name.startswith("unknown"):
            refused = Share(refused.right + said.right, refused.count + said.count)
        timing.say(f"{name}: {shares[name].value:.3f}")
    if not given.no_cube:
        with tempfile.TemporaryDirectory() as folder:
            shares["query --answer, 500 memories"] = through_a_cube(given.model, Path(folder))
    seconds = speed(given.model)
    timing.table([{"cell": name, **share.told()} for name, share in {**shares, "refused": refused}.items()])
    timing.table([{"what": name, "median (least..p90)": spread} for name, spread in seconds.items()])
    bars = [
        timing.Bar(name, round(shares[name].value, 3), bar, least=True) for name, bar in BARS.items() if name in shares
    ]
    if "query --answer, 500 memories" in shares:
        bars.append(
            timing.Bar("through a cube", round(shares["query --answer, 500 memories"].value, 3), 0.85, least=True)
        )
    bars.append(timing.Bar("answerable, but refused", round(refused.value, 3), 0.03))
    bars += [timing.Bar(name, spread.median, 0.5 if "load" in name else 0.3) for name, spread in seconds.items()]
    told = {name: share.told() for name, share in shares.items()} | {"refused": refused.told(), **seconds}
    timing.finish("nano", {"model": given.model, **told}, bars=bars)


if __name__ == "__main__":
    main()
