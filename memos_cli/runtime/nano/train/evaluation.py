"""What the model can read: sets of questions, by how many facts and which wording, and the share answered exactly.

Test names are made of held-out syllables only. `held` sets use patterns that were never trained, in statement and
question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy
import torch

from memos_cli.runtime.nano.train.batches import Encoder, collate, grouped
from memos_cli.runtime.nano.train.world import UNKNOWN, Example, World, as_told

if TYPE_CHECKING:
    from memos_cli.runtime.nano.train.network import Network

Maker = Callable[[World], Example | None]
QUICK = {"1": 48, "4": 48, "16": 32, "32": 24, "held 1": 64, "held 4": 64, "unknown": 48}


def reading(facts: int, *, shape: str | None = None) -> Maker:
    """Questions that have an answer among `facts` statements."""

    def make(world: World) -> Example | None:
        drawn = world.facts(facts, own=1.0)
        memory, stated = world.state(drawn, shape=shape or world.random.choice(("prose", "lines")))
        fact = world.random.choice(drawn)
        question = world.ask(fact, answer=as_told(memory, stated).get(id(fact)))
        return Example(memory, (question,)) if len(drawn) == facts else None

    return make


def unanswerable(facts: int) -> Maker:
    """Questions about a subject that is not there, or a relation that its subject has not."""

    def make(world: World) -> Example | None:
        drawn = world.facts(facts, own=1.0)
        question = world.ask_unknown(drawn)
        return Example(world.state(drawn, shape="prose")[0], (question,)) if question else None

    return make


CELLS: dict[str, tuple[Maker, bool]] = {
    **{str(facts): (reading(facts), False) for facts in (1, 4, 16, 32)},
    **{f"held {facts}": (reading(facts), True) for facts in (1, 4, 16)},
    **{f"{shape} 4": (reading(4, shape=shape), False) for shape in ("chat", "bullets", "keys")},
    "unknown": (unanswerable(4), False),
    "unknown held": (unanswerable(4), True),
}


def examples(cell: str, count: int, *, seed: int = 11) -> list[Example]:
    """`count` single questions of a cell, the same for the same seed."""
    make, held = CELLS[cell]
    world = World(Random(f"{seed} {cell}"), held_names=True, held_words=held)
    found: list[Example] = []
    while len(found) < count:
        example = make(world)
        if example is not None:
            found.append(example)
    return found


@torch.no_grad()
def right(network: Network, encoder: Encoder, asked: Sequence[Example], *, device: str = "cpu") -> list[bool]:
    """Whether each example's every answer token is the likeliest one: just when greedy generation answers exactly."""
    from memos_cli.runtime.nano.train.loop import moved

    verdicts: dict[int, bool] = {}
    lines = [encoder.encode(example) for example in asked]
    places = {id(line): number for number, line in enumerate(lines)}
    for group in grouped(lines, 4096):
        batch = moved(collate(group, numpy.random.default_rng(0), vocabulary=network.shape.vocabulary), device)
        hidden, _ = network(batch.ids, batch.positions, batch.mask)
        best = network.logits(hidden[:, :-1]).argmax(-1).cpu()
        for row, line in enumerate(group):
            answer = torch.tensor(line.answer[1:])
            wanted = torch.tensor(line.ids[1:])[answer]
            verdicts[places[id(line)]] = bool((best[row, : len(answer)][answer] == wanted).all())
    return [verdicts[number] for number in range(len(asked))]


def quick(network: Network, encoder: Encoder, *, device: str, most: int) -> dict[str, float]:
    """Small sets for the log of a run; those with far more facts than trained so far are left out."""
    network.eval()
    counts = {cell: count for cell, count in QUICK.items() if not cell.isdigit() or int(cell) <= 2 * most}
    cells = {
        cell: _mean(right(network, encoder, examples(cell, count), device=device)) for cell, count in counts.items()
    }
    network.train()
    return cells


def refused(network: Network, encoder: Encoder, asked: Sequence[Example]) -> Iterator[bool]:
    """Whether each answerable question gets the answer "unknown"."""
    told = [Example(each.memory, tuple(type(q)(q.text, UNKNOWN) for q in each.questions)) for each in asked]
    yield from right(network, encoder, told)


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / max(len(values), 1)
