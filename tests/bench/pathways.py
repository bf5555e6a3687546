"""Every pathway between the forms of memory in one table: what it takes, what it keeps, and when it pays.

The default model is asked about made-up facts that its training never saw, in wordings that no adapter was taught
with: with nothing, with the memory's text, with its cache, and with an adapter that was taught it. Then each move from
one form to another, as the program does it: what it takes, and how much of the memory arrives.

    s a use     seconds from the prompt to the first token, retrieval left out (it is the same for all)
    tokens      read at each use; in brackets those that come out of a file
    bytes       on disk for one memory, besides what the other forms take
    p(answer)   the mean probability of the whole answer; for caches and adapters over the questions of a self-test
    fidelity    the share of answers that are those of the text
    accuracy    the share of answers that are right
    pays after  uses after which the seconds of making it are earned back, against reading the text

A cache is made in three ways: as it is, in 8 bits, and with half of it left out. What is taught to an adapter goes by
the program's own gates; the bench publishes it all the same and says so. A short memory is one fact; a long one is a
page of facts, of which each question asks for one: there a cache has more to save. From an adapter to caches there is
no way but by text: what is read back from it is written into caches, and asked. The last line is JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from memos_cli.errors import MemosError
from memos_cli.interface import api
from memos_cli.interface.found import Answered
from memos_cli.operation.answer import plain
from memos_cli.operation.probes import TEST, wordings
from memos_cli.operation.tutor import Tutor
from memos_cli.runtime.model import LocalModel
from memos_cli.runtime.nano.train.names import Names
from memos_cli.runtime.train import Turn
from tests.bench import timing
from tests.bench.distill import RELATIONS
from tests.bench.timing import Bar, Spread

MODEL = "nano"
CACHES: dict[str, dict[str, Any]] = {
    "activation": {}, "activation, int8": {"quantize": "int8"}, "activation, half": {"compress": "kvzip:0.5"},
}  # fmt: skip
# What counts for the answer, without what finds the memory.
ON_THE_WAY = ("prompt", "load", "rotate", "recompute", "question", "first_token")
LEAST = {"plaintext": 0.95, "activation": 0.95, "parameter": 0.8}


@dataclass(frozen=True, slots=True)
class Fact:
    """A memory, and what is asked about it: a question a run, in other words each time."""

    subject: str
    relation: str
    value: str

    @property
    def text(self) -> str:
        return f"The {self.relation} of {self.subject} is {self.value}."

    def question(self, number: int) -> str:
        held = wordings()["noun"][TEST]
        said = held[number % len(held)].format(s=self.subject, r=self.relation, v=self.value)
        return str(said[0].upper() + said[1:])


@dataclass(frozen=True, slots=True)
class Used:
    """What one form gave at all its uses."""

    answers: list[str]
    seconds: list[float]
    read: float
    reused: float


def facts(count: int, *, seed: int) -> list[Fact]:
    """Made-up facts about as many made-up people."""
    names = Names(Random(f"pathways {seed}"), held=True)
    subjects = list(dict.fromkeys(names.subject("person") for _ in range(3 * count)))[:count]
    relations = list(RELATIONS)
    found = []
    for number, subject in enumerate(subjects):
        relation = relations[number % len(relations)]
        found.append(Fact(subject, relation, names.value(RELATIONS[relation])))
    return found


def cube_of(folder: Path, name: str, told: Sequence[Fact], *, page: int = 1, home: Path) -> Path:
    """A cube of the facts, found by words; so many of them are one memory."""
    source = folder / "facts.md"
    pages = [" ".join(one.text for one in told[at : at + page]) for at in range(0, len(told), page)]
    source.write_text("".join(f"- {each}\n" for each in pages), encoding="utf-8")
    root = folder / f"{name}.cube"
    api.ingest(root, [source], embedder="none", home=home)
    return root


def used(root: Path, form: str, told: Sequence[Fact], *, runs: int, home: Path) -> Used:
    """Every fact asked `runs` times through `query --answer`; the first question warms up."""
    questions = [one.question(number) for number in range(runs) for one in told]
    answers = list(_answered(root, form, [questions[0], *questions], home=home))[1:]
    seconds = [sum(one.seconds.get(name, 0.0) for name in ON_THE_WAY) for one in answers]
    count = len(answers)
    return Used(
        [one.answer or "" for one in answers], seconds,
        sum(one.prompt_tokens - one.reused_tokens for one in answers) / count,
        sum(one.reused_tokens for one in answers) / count,
    )  # fmt: skip


def _answered(root: Path, form: str, questions: Sequence[str], *, home: Path) -> Iterator[Answered]:
    limits = api.Limits(0.0, 0.0, -1e9)  # the gate is told apart: here what it would refuse is measured too
    return api.answer_many([root], list(questions), form=form, k=1, floor=0.0, limits=limits, home=home)


def with_nothing(tutor: Tutor, told: Sequence[Fact], *, runs: int) -> Used:
    """The questions alone."""
    from memos_cli.runtime.generate import generate

    prompts = [tutor.bare(one.question(number)) for number in range(runs) for one in told]
    generate(tutor.model, prompts[0], limit_tokens=8)
    answers, seconds = [], []
    for prompt in prompts:
        written = generate(tutor.model, prompt, limit_tokens=32)
        answers.append("" if plain(written.text) == plain(tutor.refusal) else written.text.strip())
        seconds.append(written.first_seconds)
    return Used(answers, seconds, sum(map(len, prompts)) / len(prompts), 0.0)


def right(answers: Sequence[str], told: Sequence[Fact]) -> float:
    """The share of answers that are the facts' values."""
    return sum(plain(said) == plain(told[n % len(told)].value) for n, said in enumerate(answers)) / len(answers)


def alike(answers: Sequence[str], text: Sequence[str]) -> float:
    """The share of answers that are those of the text."""
    return sum(plain(a) == plain(b) for a, b in zip(answers, text, strict=True)) / len(text)


def row(name: str, found: Used, text: Used, told: Sequence[Fact], **more: Any) -> dict[str, Any]:
    """A line of the table of uses."""
    return {
        "form": name, "ms a use": Spread.of(found.seconds, scale=1e3, digits=2),
        "tokens": f"{found.read:.0f} ({found.reused:.0f})", **more,
        "fidelity": round(alike(found.answers, text.answers), 3), "accuracy": round(right(found.answers, told), 3),
    }  # fmt: skip


def pays(made_seconds: float, found: Used, text: Used) -> int | None:
    """After how many uses a form is earned back against the text; None where it saves nothing."""
    saved = Spread.of(text.seconds).median - Spread.of(found.seconds).median
    return round(made_seconds / saved) if saved > 1e-5 else None


def chance(tutor: Tutor, told: Sequence[Fact], *, texts: bool) -> float:
    """The mean probability of the answers, after the text of the fact or after nothing."""
    from memos_cli.operation.tutor import Line

    turns = [
        Turn(
            tutor.reading(one.question(0), [Line(one.text)]) if texts else tutor.bare(one.question(0)),
            tutor.coded(one.value),
        )
        for one in told
    ]
    rows = zip(tutor.rows(turns), turns, strict=True)
    return round(sum(float(r[range(len(t.answer)), list(t.answer)].sum().exp()) for r, t in rows) / len(turns), 3)


def measure(folder: Path, given: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The table of forms, and that of moves."""
    home = folder / "home"
    told = facts(given.facts, seed=given.seed)
    local = LocalModel(MODEL)
    tutor = Tutor(local.load(), local.traits)
    root = cube_of(folder, "text", told, home=home)
    text = used(root, "plaintext", told, runs=given.runs, home=home)
    nothing = with_nothing(tutor, told, runs=given.runs)
    size = sum(len(one.text.encode()) for one in told) / len(told)
    forms = [
        row("nothing", nothing, text, told, bytes=0, **{"p(answer)": chance(tutor, told, texts=False)}),
        row("plaintext", text, text, told, bytes=round(size), **{"p(answer)": chance(tutor, told, texts=True)}),
    ]
    moves: list[dict[str, Any]] = []
    for name, way in () if given.adapter_only else CACHES.items():
        forms_row, move = by_cache(folder, name, way, told, text, given, home=home)
        forms.append(forms_row)
        moves.append(move)
        timing.say(f"{forms_row}")
    forms_row, of_adapter = by_adapter(folder, told, text, tutor, given, home=home)
    forms.append(forms_row)
    return forms, [*moves, *of_adapter]


def of_pages(folder: Path, given: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same for long memories, with the text and with caches."""
    home = folder / "home"
    told = facts(given.pages * given.page, seed=given.seed + 1)
    root = cube_of(folder, "pages", told, page=given.page, home=home)
    text = used(root, "plaintext", told, runs=1, home=home)
    size = sum(len(one.text.encode()) + 1 for one in told) / given.pages
    rows, moves = [row("plaintext", text, text, told, bytes=round(size))], []
    for name, way in CACHES.items():
        line, move = by_cache(folder, name, way, told, text, given, page=given.page, home=home)
        rows.append(line)
        moves.append(move)
    return rows, moves


def by_cache(
    folder: Path, name: str, way: dict[str, Any], told: Sequence[Fact], text: Used, given: argparse.Namespace,
    *, page: int = 1, home: Path,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Text into caches, made and used."""
    root = cube_of(folder, f"{name.replace(', ', '-')}-{page}", told, page=page, home=home)
    memories = len(told) // page
    begin = perf_counter()
    made = api.convert(root, model=MODEL, home=home, **way)
    seconds = (perf_counter() - begin) / memories
    found = used(root, "activation", told, runs=given.runs if page == 1 else 1, home=home)
    size = round(made.bytes / memories)
    known = _known(root, "activation", home=home)
    line = row(name, found, text, told, bytes=size, **{"p(answer)": known, "pays after": pays(seconds, found, text)})
    refused = len(made.failing) / memories
    move = {
        "move": f"plaintext -> {name}", "s a memory": round(seconds, 3), "bytes": size,
        "arrives": round(right(found.answers, told), 3), "refused by its gate": round(refused, 3),
        "pays after": line["pays after"],
    }  # fmt: skip
    return line, move


def _known(root: Path, form: str, *, home: Path) -> float | None:
    """The mean probability of answers, as the cube's own self-test finds it."""
    told = api.self_test(root, forms=[form], model=MODEL, home=home)
    return next((one.before for one in told.forms if one.form == form), None)


def by_adapter(
    folder: Path, told: Sequence[Fact], text: Used, tutor: Tutor, given: argparse.Namespace, *, home: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Text into an adapter, used; what the adapter knows back into text; and that into caches."""
    root = cube_of(folder, "parameter", told, home=home)
    taught = api.distill(root, model=MODEL, publish_ungated=True, steps=given.steps, home=home)
    seconds = taught.seconds / len(told)
    timing.say(f"adapter: {taught.steps} steps, short of {', '.join(taught.failures) or 'no gate'}")
    size = round(taught.bytes / len(told))
    try:
        found = used(root, "parameter", told, runs=given.runs, home=home)
    except MemosError as error:
        # short of its gates it is not asked by the program; its own chances are told all the same
        timing.say(f"adapter: {error.message}")
        found = _bare(root, tutor, told, runs=given.runs)
    line = row(
        "parameter", found, text, told, bytes=size,
        **{"p(answer)": _known(root, "parameter", home=home), "pays after": pays(seconds, found, text)},
    )  # fmt: skip
    timing.say(f"{line}")
    moves = [{
        "move": "plaintext -> parameter", "s a memory": round(seconds, 3), "bytes": size,
        "arrives": round(right(found.answers, told), 3), "refused by its gate": float(bool(taught.failures)),
        "pays after": line["pays after"],
    }]  # fmt: skip
    begin = perf_counter()
    back = api.elicit(
        root, model=MODEL, subjects=[one.subject for one in told], relations=list(RELATIONS), home=home
    )  # fmt: skip
    reading = (perf_counter() - begin) / len(told)
    gold = {(plain(one.subject), plain(one.relation)): plain(one.value) for one in told}
    good = sum(gold.get((plain(one.subject), plain(one.relation))) == plain(one.value) for one in back.facts)
    moves.append({
        "move": "parameter -> plaintext", "s a memory": round(reading, 3), "bytes": round(text_bytes(told)),
        "arrives": round(good / len(told), 3), "refused by its gate": None,
        "of what arrives right": round(good / max(1, len(back.facts)), 3), "pays after": None,
    })  # fmt: skip
    moves.append(
        onward(folder, [(one.subject, one.relation, one.value) for one in back.facts], told, reading, home=home)
    )
    moves.append({
        "move": "activation -> plaintext", "s a memory": 0.0, "bytes": 0, "arrives": 1.0, "refused by its gate": None,
        "pays after": None,
    })  # fmt: skip
    return line, moves


def onward(
    folder: Path, heard: Sequence[tuple[str, str, str]], told: Sequence[Fact], reading: float, *, home: Path
) -> dict[str, Any]:
    """An adapter into caches. A cache is of a text, so there is no way but by what is read back: its facts are
    memories of a cube of their own, which has nothing else."""
    move = {"move": "parameter -> activation", "s a memory": round(reading, 3), "bytes": 0, "arrives": 0.0,
            "refused by its gate": None, "pays after": None}  # fmt: skip
    if not heard:
        return move
    root = cube_of(folder, "from-adapter", [Fact(*one) for one in heard], home=home)
    begin = perf_counter()
    made = api.convert(root, model=MODEL, home=home)
    seconds = reading + (perf_counter() - begin) / len(told)
    found = used(root, "activation", told, runs=1, home=home)
    return {
        **move,
        "s a memory": round(seconds, 3), "bytes": round(made.bytes / len(heard)),
        "arrives": round(right(found.answers, told), 3),
        "refused by its gate": round(len(made.failing) / len(heard), 3),
    }  # fmt: skip


def text_bytes(told: Sequence[Fact]) -> float:
    """The bytes of one fact's words."""
    return sum(len(one.text.encode()) for one in told) / len(told)


def _bare(root: Path, tutor: Tutor, told: Sequence[Fact], *, runs: int) -> Used:
    from memos_cli.cube import parameter_stack
    from memos_cli.runtime import adapter

    chain = parameter_stack.chain(root / "current" / "parameter", "facts")
    with adapter.attach(tutor.model.network, [one.path for one in chain]):
        return with_nothing(tutor, told, runs=runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=12)
    parser.add_argument("--pages", type=int, default=4, help="long memories")
    parser.add_argument("--page", type=int, default=12, help="facts of each")
    parser.add_argument("--runs", type=int, default=5, help="questions a fact, each in another wording")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of training; by default until the facts are known")
    parser.add_argument("--adapter-only", action="store_true", help="without caches of texts and without pages")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    begin = perf_counter()
    with tempfile.TemporaryDirectory() as name:
        forms, moves = measure(Path(name), given)
        long, long_moves = ([], []) if given.adapter_only else of_pages(Path(name), given)
    timing.say(f"{given.facts} facts, {given.runs} questions each, {perf_counter() - begin:.0f} s in all")
    timing.table(forms)
    timing.table(moves)
    if long:
        timing.say(f"{given.pages} pages of {given.page} facts, each fact asked for once")
        timing.table(long)
        timing.table(long_moves)
    told = {one["form"]: one["accuracy"] for one in forms}
    bars = [
        Bar(f"{name}, right answers", told[name], least, least=True) for name, least in LEAST.items() if name in told
    ]
    bars.append(Bar("nothing, right answers", told["nothing"], 0.1))
    timing.finish(
        "pathways",
        {"facts": given.facts, "forms": forms, "moves": moves, "pages": long, "page_moves": long_moves},
        bars=bars,
    )


if __name__ == "__main__":
    main()
