"""What parameter memory keeps: facts that the default model does not know, taught to adapters and asked for again.

`single`: one adapter of 40 facts, by the seed; its recall is in wordings it was not taught in, the rest on what must
have stayed. `control`: the same adapter trained to write the memories' text, token after token. `chain`: four adapters,
each trained on those beneath it, and four trained alone and put on together. `delete`: five facts taken out by making
the adapter again. Every name is made of syllables that the model's training never saw. The last line is JSON.
"""

from __future__ import annotations

import argparse
import resource
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from memos_cli.operation import course, distill, retention
from memos_cli.operation.course import Course
from memos_cli.operation.distill import DISTILLED, Gates, Judged
from memos_cli.operation.probes import DEV, TEST, TRAIN
from memos_cli.operation.tutor import Tutor
from memos_cli.runtime import adapter
from memos_cli.runtime.adapter import Adapted
from memos_cli.runtime.model import LocalModel
from memos_cli.runtime.nano.train.names import Names
from memos_cli.runtime.train import Recipe, Target, Training, Turn
from tests.bench import timing
from tests.bench.gate import Fact
from tests.bench.timing import Bar

RELATIONS = {
    "home town": "place", "employer": "company", "favourite colour": "colour", "phone number": "number",
    "boss": "person", "birthday": "day", "car": "product", "dentist": "person", "favourite food": "food",
    "nickname": "name", "hobby": "thing", "locker": "code", "code name": "name", "room": "code",
}  # fmt: skip
SAYINGS = ("The {r} of {s} is {v}.", "{s}'s {r} is {v}.", "{s} > {r}: {v}", "{s}: {r}: {v}")
LAYERS, DELETED = 4, 5
SPLITS = (TRAIN, DEV, TEST)


def facts(count: int, *, seed: int) -> list[Fact]:
    """Memories of made-up people, each another one."""
    random = Random(f"facts {seed}")
    names = Names(random, held=True)
    subjects: dict[str, None] = {}
    while len(subjects) < count:
        subjects[names.subject("person")] = None
    found = []
    for number, subject in enumerate(subjects):
        relation = random.choice(list(RELATIONS))
        said = random.choice(SAYINGS).format(s=subject, r=relation, v=names.value(RELATIONS[relation]))
        found.append(Fact(f"fact{number}", said))
    return found


def single(tutor: Tutor, given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    """One adapter of all facts, for each seed."""
    rows, bars = [], []
    for seed in given.seeds:
        judged = judged_of(tutor, facts(given.facts, seed=seed))
        begin = perf_counter()
        taught = course.teach(tutor, judged, Course(recipe_of(given, seed)))
        if given.keep:
            adapter.save(taught.adapted, new_folder(given.keep / f"seed{seed}"), base="nano")
        taught.adapted.close()
        found = taught.examined.figures
        rows.append({
            "seed": seed, "facts": len(judged), **found, "by kind": by_kind(judged), "steps": taught.trained.steps,
            "train s a fact": round(taught.trained.seconds / len(judged), 2), "all s": round(perf_counter() - begin, 1),
            **break_even(tutor, judged, taught.trained.seconds / len(judged)),
            "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        })  # fmt: skip
        bars += bars_of(found, f"seed {seed}")
        timing.say(f"single, seed {seed}: {found}")
    return rows, bars


def break_even(tutor: Tutor, judged: Sequence[Judged], seconds: float) -> dict[str, Any]:
    """After how many uses of a memory its share of the training is earned back: against its text, and its cache.

    None where that is as fast as nothing before the question.
    """
    found: dict[str, Any] = {}
    asked = [one.of(TEST)[0] for one in judged[:10]]
    network = tutor.model.network
    for name in ("text", "kv"):
        saved = sorted(_saved(network, one, name) for one in asked)[len(asked) // 2]
        found |= {f"{name} ms a use": round(1e3 * saved, 2)}
        found |= {f"pays after, against {name}": round(seconds / saved) if saved > 1e-5 else None}
    return found


def _saved(network: Any, one: distill.Asked, name: str) -> float:
    """Seconds that a question takes longer after a memory, as text or as a cache in RAM, than by itself."""
    from memos_cli.runtime import kv

    def read(ids: Sequence[int]) -> object:
        return kv.forward(network, ids, cache=kv.new_cache(network), position=0, logits=1)

    ends = enumerate(zip(reversed(one.reading), reversed(one.bare), strict=False))
    shared = next((at for at, (long, short) in ends if long != short), 0)
    tail = one.reading[-shared:] if shared else one.reading[-1:]
    memory = kv.prefill(network, one.reading[: -len(tail)])
    after: Callable[[], object] = (
        (lambda: read(one.reading)) if name == "text" else (lambda: kv.resume(network, memory, tail, logits=1))
    )
    pairs = timing.measure_pairs(after, lambda: read(one.bare), times=5)
    return sorted(first - second for first, second in pairs)[2]


def by_kind(judged: Sequence[Judged]) -> str:
    """How many test questions there were of each kind."""
    kinds = [one.probe.kind for memory in judged for one in memory.of(TEST)]
    return " ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))


def bars_of(found: dict[str, float], name: str) -> list[Bar]:
    """The gates as bars."""
    gates = Gates()
    return [
        Bar(f"{name}: recall", found["recall"], gates.recall, least=True),
        Bar(f"{name}: perplexity of other text, growth", found["drift"], gates.drift),
        Bar(f"{name}: lost of what it reads", found["reading"], gates.reading),
        Bar(f"{name}: contradicting texts obeyed", found["obey"], gates.obey, least=True),
        Bar(f"{name}: untaught questions answered", found["asserts"], gates.asserts),
    ]


def control(tutor: Tutor, given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    """The same facts learned as text: what next-token training gives when it is asked questions."""
    judged = judged_of(tutor, facts(given.facts, seed=0))
    recipe = recipe_of(given, 0)
    ids = [tutor.coded(one.memory.text) for one in judged]
    with adapter.fresh(tutor.model.network, rank=recipe.rank, alpha=recipe.alpha) as adapted:
        lessons = distill.Lessons([as_written(Turn(one[:1], one[1:])) for one in ids])
        training = Training(adapted.network, lessons, replace(recipe, steps=given.control_steps))
        training.run(lambda: 0.0, enough=2.0)
        tests = [one.turn for memory in judged for one in memory.of(TEST)]
        begun = [Turn(turn.prompt, turn.answer) for turn in (Turn(one[:-4], one[-4:]) for one in ids if len(one) > 5)]
        asked, text = mean(tutor.right(tests)), mean(tutor.right(begun))
    rows = [{"facts": len(judged), "questions answered": asked, "its own text gone on with": text}]
    return rows, []


def as_written(turn: Turn) -> Target:
    """A teacher that is sure of each token of a text."""
    import torch

    wanted = torch.tensor(turn.answer)
    return Target(turn, torch.zeros(len(wanted), 1), wanted[:, None])


def chain(tutor: Tutor, given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    """Four adapters on one another against four side by side, each of as many facts."""
    told = facts(LAYERS * given.chain_facts, seed=0)
    shares = [told[number::LAYERS] for number in range(LAYERS)]
    rows, bars = [], []
    with TemporaryDirectory() as place:
        stacked, alone = Path(place) / "stacked", Path(place) / "alone"
        parts: list[list[Judged]] = []
        for number, share in enumerate(shares):
            beneath = tuple(stacked / str(lower) for lower in range(number))
            parts.append(judged_under(tutor, share, beneath))
            on_top = Course(recipe_of(given, 0), beneath=beneath, carried=carried(parts[:-1]))
            told_of = keep(tutor, parts[-1], on_top, stacked / str(number))
            timing.say(f"chain: layer {number + 1} of {LAYERS}, {len(parts[-1])} facts: {told_of}")
            if beneath:
                keep(tutor, parts[-1], Course(recipe_of(given, 0)), alone / str(number))
            else:
                shutil.copytree(stacked / "0", alone / "0")
        for name, folder in (("chain", stacked), ("naive stack", alone)):
            for count in range(1, LAYERS + 1):
                with adapter.attach(tutor.model.network, [folder / str(number) for number in range(count)]):
                    shares_right = [recall(tutor, part) for part in parts[:count]]
                rows.append(
                    {"way": name, "adapters": count, "recall of each": shares_right, "least": min(shares_right)}
                )
        full = {row["way"]: row["least"] for row in rows if row["adapters"] == LAYERS}
        bars.append(Bar("chain of four, the least recall", full["chain"], 0.9, least=True))
    return rows, bars


def delete(tutor: Tutor, given: argparse.Namespace) -> tuple[Any, list[Bar]]:
    """Five facts taken out: what is left of them beside a model that never knew them, and of the others."""
    judged = judged_of(tutor, facts(given.facts, seed=0))
    gone, left = judged[:DELETED], judged[DELETED:]
    never = chance(tutor, gone)
    rows = [{"model": "never taught", "deleted recall": recall(tutor, gone), "deleted p": never, "kept recall": None}]
    for name, part in (("taught all", judged), ("made again without", left)):
        with learned(tutor, part, given, kept=part is judged):
            rows.append({
                "model": name, "deleted recall": recall(tutor, gone), "deleted p": chance(tutor, gone),
                "kept recall": recall(tutor, left),
            })  # fmt: skip
        timing.say(f"delete: {name}")
    before, after = rows[1], rows[2]
    return rows, [
        Bar("deleted, above never taught", after["deleted p"] - never, 0.01),
        Bar("kept, of before", after["kept recall"] / max(before["kept recall"], 1e-9), 0.95, least=True),
    ]


def learned(tutor: Tutor, part: Sequence[Judged], given: argparse.Namespace, *, kept: bool) -> Adapted:
    """The model with an adapter of these facts: that of seed 0 where it is `kept`, or a new one."""
    if kept and given.keep and (folder := given.keep / "seed0").is_dir():
        return adapter.attach(tutor.model.network, [folder])
    return course.teach(tutor, part, Course(recipe_of(given, 0))).adapted


# --- what the parts share


def judged_of(tutor: Tutor, told: Sequence[Fact]) -> list[Judged]:
    """The facts that can be taught, with their questions."""
    return [one for one in distill.triage(tutor, told) if one.standing == DISTILLED]


def judged_under(tutor: Tutor, told: Sequence[Fact], beneath: Sequence[Path]) -> list[Judged]:
    with course.standing_on(tutor, beneath):
        return judged_of(tutor, told)


def carried(below: Sequence[Sequence[Judged]]) -> dict[str, list[retention.Asking]]:
    """What lower layers were taught to answer, by split, as a cube keeps it."""
    asked = [one for part in below for memory in part for one in memory.asked]
    return {split: [(one.bare, one.probe.answer) for one in asked if one.probe.split == split] for split in SPLITS}


def keep(tutor: Tutor, judged: Sequence[Judged], plan: Course, folder: Path) -> dict[str, float]:
    """Teaches an adapter and puts it into a folder; what it was examined to do."""
    taught = course.teach(tutor, judged, plan)
    adapter.save(taught.adapted, new_folder(folder), base="nano")
    taught.adapted.close()
    return taught.examined.figures | {"steps": taught.trained.steps}


def new_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def recall(tutor: Tutor, judged: Sequence[Judged]) -> float:
    """The share of test questions that are answered."""
    return round(mean(tutor.right([one.turn for memory in judged for one in memory.of(TEST)])), 4)


def chance(tutor: Tutor, judged: Sequence[Judged]) -> float:
    """The mean probability of the answers to test questions, whole."""
    turns = [one.turn for memory in judged for one in memory.of(TEST)]
    found = [
        float(rows[range(len(turn.answer)), list(turn.answer)].sum().exp())
        for turn, rows in zip(turns, tutor.rows(turns), strict=True)
    ]
    return round(sum(found) / len(found), 5)


def mean(values: Sequence[bool]) -> float:
    return sum(values) / max(1, len(values))


def recipe_of(given: argparse.Namespace, seed: int) -> Recipe:
    """The default recipe, with what the command line sets."""
    asked = {"rank": given.rank, "rate": given.rate, "steps": given.steps, "locality": given.locality}
    told = {name: value for name, value in asked.items() if value is not None}
    recipe = replace(Recipe(), **told, seed=seed)
    return replace(recipe, alpha=2 * recipe.rank)


PARTS: dict[str, Callable[[Tutor, argparse.Namespace], tuple[Any, list[Bar]]]] = {
    "single": single, "control": control, "chain": chain, "delete": delete,
}  # fmt: skip


def main() -> None:
    """Measures the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.distill", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of single")
    parser.add_argument("--control-steps", type=int, default=150)
    parser.add_argument("--chain-facts", type=int, default=40, help="of each of the four")
    parser.add_argument("--keep", type=Path, help="a folder for the adapters of single, for the bench of reading back")
    for name, kind in (("rank", int), ("rate", float), ("steps", int), ("locality", float)):
        parser.add_argument(f"--{name}", type=kind)
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"expected parts of {', '.join(PARTS)}, found {unknown[0]}")
    import torch

    torch.set_num_threads(1)
    local = LocalModel("nano")
    tutor = Tutor(local.load(), local.traits)
    result: dict[str, Any] = {"facts": given.facts}
    bars: list[Bar] = []
    for part in given.parts or PARTS:
        rows, found = PARTS[part](tutor, given)
        result[part], bars = rows, bars + found
        timing.say(part)
        timing.table(rows)
    timing.finish("distill", result, bars=bars)


if __name__ == "__main__":
    main()
