"""Where the time of a prompt goes, from its words to the answer, and what the cube costs over raw LanceDB.

A cube of 10,000 memories, some of them facts that the default model is asked about, each question once with those
facts read as text and once with them as activation memory. The stages of the walk, as an answer tells them itself:

    parse     the prompt becomes a structured call
    retrieve  recall, and the places of what was found
    schedule  whether the model is asked, and what it is given within its budget
    load      which form each memory is taken in, and bringing that to the model (a cache is read, turned, completed)
    infer     reading what is left to read, up to the first token
    write     the rest of the answer
    around    leave to read, versions that are held, the access log

A warm process; what only its first question waits for is told apart. The plan of the scheduler (which form a memory
should be kept in) is made beside queries and not on their way, so it is a line of its own. The overhead of the cube is
the whole of `memos query` over the embedding and the same calls of LanceDB through its own builder, pair by pair. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from memos_cli.interface import api
from memos_cli.interface.found import Answered
from memos_cli.runtime.nano.train.names import Names
from tests.bench import query, timing
from tests.bench.distill import RELATIONS
from tests.bench.timing import Bar, Spread

ROWS = 10_000
OVERHEAD = 1.15
STAGES = {
    "parse": ("parse",), "retrieve": ("retrieve",), "schedule": ("closeness", "prompt"),
    "load": ("load", "rotate", "recompute"), "infer": ("question", "first_token"),
}  # fmt: skip
COLD = ("imports", "weights")


def facts(count: int) -> list[tuple[str, str]]:
    """Made-up facts, each with its question."""
    names = Names(Random("path"), held=True)
    subjects = list(dict.fromkeys(names.subject("person") for _ in range(3 * count)))[:count]
    relations = list(RELATIONS)
    told = []
    for number, subject in enumerate(subjects):
        relation = relations[number % len(relations)]
        said = f"The {relation} of {subject} is {names.value(RELATIONS[relation])}."
        told.append((said, f"What is the {relation} of {subject}?"))
    return told


def with_facts(root: Path, told: Sequence[tuple[str, str]], *, home: Path) -> list[str]:
    """Adds the facts to a cube; the ids of their memories."""
    source = root.parent / "facts.md"
    source.write_text("".join(f"- {said}\n" for said, _ in told), encoding="utf-8")
    api.ingest(root, [source], home=home)
    return [memory.id for memory in api.memories(root, where="source~facts.md", home=home)]


class Asking:
    """A cube and a model that stay open, asked one question after another in one form."""

    def __init__(self, root: Path, form: str, *, home: Path) -> None:
        self._next: list[str] = []
        self._answers: Iterator[Answered] = api.answer_many(
            [root], iter(self._next.pop, None), form=form, k=1, floor=0.0, home=home
        )

    def ask(self, question: str) -> dict[str, float]:
        """The seconds of each stage."""
        self._next.append(question)
        return next(self._answers).seconds


def profile(
    root: Path, told: Sequence[tuple[str, str]], *, home: Path
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row for each stage, with the text and with activation memory, and what the first question waited for."""
    forms = {"text": Asking(root, "plaintext", home=home), "activation": Asking(root, "activation", home=home)}
    cold = {name: one.ask(told[0][1]) for name, one in forms.items()}
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in forms}
    for number, (_, question) in enumerate(told[1:]):
        # in turns, so that what slows the machine slows both
        for name in sorted(forms, reverse=bool(number % 2)):
            seen[name].append(forms[name].ask(question))
    rows = []
    for stage, parts in {**STAGES, "write": (), "around": (), "whole": ("total",)}.items():
        row: dict[str, Any] = {"stage": stage}
        for name, answers in seen.items():
            row[f"{name} ms"] = Spread.of([_spent(each, stage, parts) for each in answers], scale=1e3, digits=2)
        rows.append(row)
    return rows, {name: cold["text"].get(name, 0.0) for name in COLD}


def _spent(seconds: dict[str, float], stage: str, parts: Sequence[str]) -> float:
    if stage == "write":
        # what was written after the first token, which the reading of the prompt gives
        return max(0.0, seconds["write"] - sum(_spent(seconds, name, STAGES[name]) for name in ("load", "infer")))
    if stage == "around":
        known = sum(_spent(seconds, name, each) for name, each in {**STAGES, "write": ()}.items())
        return max(0.0, seconds["total"] - known)
    return sum(seconds.get(name, 0.0) for name in parts)


def planning(root: Path, *, home: Path, runs: int) -> Spread:
    """Seconds of a plan for the whole cube, without measuring the model."""
    work: Callable[[], object] = lambda: api.schedule([root], estimate=True, home=home)  # noqa: E731
    return Spread.of(timing.measure(work, times=runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--facts", type=int, default=41, help="questions; the first warms up")
    parser.add_argument("--prompts", type=int, default=60, help="prompts for the overhead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "home"
        root, _ = query.make(folder, given.rows, home=home)
        overheads = [
            mode for kind in ("hybrid", "text")
            for mode in query.measure([root], home=home, mode=kind, asked=query.prompts(given.prompts))
        ]  # fmt: skip
        told = facts(given.facts)
        ids = with_facts(root, told, home=home)
        begin = time.perf_counter()
        api.convert(root, ids=ids, kind="segment", home=home)
        converting = time.perf_counter() - begin
        rows, cold = profile(root, told, home=home)
        plan = planning(root, home=home, runs=5)
    timing.say(f"{given.rows} memories, {given.facts - 1} questions in each form; median (least..9 of 10)")
    timing.table(rows)
    timing.say(f"once a process: imports {cold['imports']:.2f} s, weights {cold['weights']:.2f} s")
    timing.say(f"a plan for the whole cube: {plan.median:.3f} s ({plan.least:.3f}..{plan.p90:.3f})")
    timing.say(f"{len(ids)} facts made into activation memory: {converting:.2f} s")
    timing.table([{key: value for key, value in each.items() if key != "stages_ms"} for each in overheads])
    bars = [Bar(f"{one['mode']}, memos over raw LanceDB", one["ratio"].median, OVERHEAD) for one in overheads]
    result = {"rows": given.rows, "stages": rows, "cold": cold, "plan_s": plan, "overhead": overheads}
    timing.finish("path", result, bars=bars)


if __name__ == "__main__":
    main()
