"""Exact answers of the default model when facts come as activation memory: by how they are joined and made smaller.

Every name in the questions is made of syllables that training never saw. Joined: each fact is a memory of its own, read
after the prompt's head and put where its text stands in the prompt. Made smaller: one memory of all facts, of which
each head keeps a share. `exact` is what it writes, `top-1` how often it finds the same token likeliest as the model
that reads the text, over that model's own answer. Intervals are Wilson's at 95%.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from memos_cli.runtime import compose, compress, fidelity, kv
from tests.bench import timing
from tests.bench.nano import Share, same
from tests.bench.timing import Bar

if TYPE_CHECKING:
    from memos_cli.runtime.compose import Placed
    from memos_cli.runtime.model import Loaded
    from memos_cli.runtime.nano.train.world import Example

FACTS = (4, 16)
KEEPS = (0.5, 0.25)
ANSWER_TOKENS, LIMIT_TOKENS = 6, 24
REPEAT = "Repeat the previous context exactly."


def quality(given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    """A table for each number of facts, and one of the methods that make a memory smaller."""
    from memos_cli.runtime.model import LocalModel

    model = LocalModel("nano").load()
    rows = []
    for facts in FACTS:
        rows += [{"facts": facts, **row} for row in _joined(model, facts, given.questions)]
        timing.say(f"quality, {facts} facts: done")
    smaller = _smaller(model, FACTS[-1], given.questions)
    timing.table(rows)
    timing.table(smaller)
    return {"joined": rows, "smaller": smaller}, []


def examples(facts: int, count: int) -> list[Example]:
    """Questions with an answer among so many facts, a line to each."""
    from memos_cli.runtime.nano.train.evaluation import reading
    from memos_cli.runtime.nano.train.world import World

    world, make = World(Random(f"5 {facts}"), held_names=True), reading(facts, shape="lines")
    found: list[Example] = []
    while len(found) < count:
        example = make(world)
        if example is not None and len(example.memory.split("\n")) == facts:
            found.append(example)
    return found


def _joined(model: Loaded, facts: int, count: int) -> list[dict[str, Any]]:
    told = _Told()
    for example in examples(facts, count):
        ids, placed = _placed(model, example, example.memory.split("\n"))
        cut = placed[-1].end
        reads: dict[str, fidelity.Read] = {
            mode: _reader(model, ids[:cut], placed, mode) for mode in compose.MODES
        }  # fmt: skip
        told.add(model, example, ids, cut, reads)
    return told.rows()


def _placed(model: Loaded, example: Example, texts: Sequence[str]) -> tuple[list[int], list[Placed[kv.Memory]]]:
    """The tokens of a prompt, and the memories of its beginning and of each text, read after that beginning."""
    from memos_cli.runtime.spans import prompt_of

    prompt = prompt_of(model, example.questions[0].text, system=example.memory, texts=texts)
    spans = [span for span in prompt.spans if span is not None]
    head = list(prompt.ids[: spans[0][0]])
    read = [
        compose.Placed(kv.prefill(model.network, prompt.ids[first:last], context=head), first) for first, last in spans
    ]
    # blend and link leave the first memory as it is: let that be the head, which every prompt begins with
    return list(prompt.ids), [compose.Placed(kv.prefill(model.network, head), 0), *read]


def _reader(model: Loaded, before: Sequence[int], placed: Sequence[Placed[Any]], mode: str) -> fidelity.Read:
    return lambda following: compose.inject(model.network, [*before, *following], placed, mode=mode).read


def _smaller(model: Loaded, facts: int, count: int) -> list[dict[str, Any]]:
    told = _Told()
    for example in examples(facts, count):
        ids, (_head, placed) = _placed(model, example, [example.memory])
        # scored and kept as read from place 0 on, with what stands before it: one memory of all up to its end
        memory = kv.prefill(model.network, ids[: placed.end])
        reads = {name: _reader(model, ids[: placed.end], [one], "concat") for name, one in _kept(model, memory)}
        with compose.attended(model.network, [next(_sparse(model, memory))]):
            told.add(model, example, ids, placed.end, reads)
    return told.rows()


def _kept(model: Loaded, memory: kv.Memory) -> Iterator[tuple[str, Placed[Any]]]:
    """What each method keeps of a memory at each share."""
    from memos_cli.runtime.generate import tokenize

    repeat = tokenize(model, REPEAT)
    for method in compress.METHODS:
        for keep in KEEPS:
            made = compress.compress(model.network, memory, method=method, keep=keep, prompt=repeat)
            yield f"{method} {keep:g}", compose.Placed(made, 0)


def _sparse(model: Loaded, memory: kv.Memory) -> Iterator[Placed[Any]]:
    yield compose.Placed(compress.compress(model.network, memory, method=compress.KNORM, keep=0.5), 0)


class _Told:
    """What was found so far, by the name of a way."""

    def __init__(self) -> None:
        self.exact: dict[str, list[bool]] = {}
        self.top1: dict[str, list[float]] = {}
        self.kl: dict[str, list[float]] = {}

    def add(
        self, model: Loaded, example: Example, ids: Sequence[int], cut: int, reads: Mapping[str, fidelity.Read]
    ) -> None:
        """One question: what each way writes, and how far it is from the model that reads the text."""
        from memos_cli.runtime.generate import go_on

        network, tail, answer = model.network, list(ids[cut:]), example.questions[0].answer
        for name, read in {"plaintext": _text(network, ids[:cut]), **reads}.items():
            written = go_on(model, read(tail), limit_tokens=LIMIT_TOKENS).text.strip()
            self.exact.setdefault(name, []).append(same(written, answer))
        found = fidelity.compare(network, ids[:cut], [tail], reads, answer_tokens=ANSWER_TOKENS)
        for name, one in {"plaintext": found.noise, **found.ways, "no memory": found.ceiling}.items():
            self.top1.setdefault(name, []).append(one.top1)
            self.kl.setdefault(name, []).append(one.mean_kl)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each way."""
        rows = []
        for name, top1 in self.top1.items():
            exact = self.exact.get(name)
            share = Share(sum(exact), len(exact)).told() if exact else {}
            mean = sum(self.kl[name]) / len(top1)
            rows.append({"way": name, **share, "top-1": round(sum(top1) / len(top1), 3), "KL": float(f"{mean:.3g}")})
        return rows


def _text(network: Any, before: Sequence[int]) -> fidelity.Read:
    return lambda following: kv.split_prefill(network, before, following)
