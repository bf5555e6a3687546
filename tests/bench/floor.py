"""How often each floor refuses questions that the memories answer, and questions that they do not.

Answerable: LoCoMo's categories 1 to 4, each on its own conversation. Not answerable: category 5 (adversarial: the other
speaker's evidence, so the words are all there), the questions of another conversation, the same with the names put in
that this conversation has, and twenty questions about nothing of the kind. And the example cubes, handbook and chats,
with questions written for them; not answerable there are LoCoMo's. The last line is JSON.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

from memos_cli.interface import api
from tests.bench import timing
from tests.bench.recall import cube_of, talks
from tests.bench.turns import ROOT

FLOORS = (0.0, 0.1, 0.2, 0.25, 0.28, 0.3, 0.32, 0.35, 0.4, 0.5)
GIVEN = 4
SAMPLE = 120
APART = (
    "What is the capital of Australia?", "How do I reset my router?", "What is the boiling point of nitrogen?",
    "Who won the 1998 world cup?", "What is the warranty period of the dishwasher?", "Which licence has the library?",
    "When does the tax return have to be filed?", "What port does the database listen on?", "Who wrote War and Peace?",
    "How many moons has Jupiter?", "What is the salary of the office manager?", "Which train goes to Vienna at noon?",
    "What is the wifi password?", "How tall is the Eiffel tower?", "When was the parking garage built?",
    "What is the dosage of ibuprofen for adults?", "Who maintains the build server?", "What is the company's slogan?",
    "What is the square root of 1444?", "Where is the spare key of the cellar?",
)  # fmt: skip
HANDBOOK = (
    "Who may roll back a release?", "How long does a rollback take?", "How much may I spend on meals a day?",
    "How long are application logs kept?", "Where are the backups copied to?", "Who holds the key of the backups?",
    "When was the last restore drill?", "Within how many days is a deletion request done?", "May I buy books?",
    "What may a hotel cost?", "By which day must I claim expenses?", "How much is there for a home office?",
    "Who has a company card?", "What does canary mean here?", "How many berths has Skagen?",
    "Who writes to customers during an incident?", "How soon must an incident be reviewed?",
    "What caused the double bookings of Kinsale?", "When is the design review?", "Who runs the planning meeting?",
    "On which days do we release?", "What is standby paid?", "Who is on the rota?", "When is the handover?",
    "How fast do we answer a SEV-1?", "What do I do when a gateway is offline?", "When does my first day start?",
    "What is my first task?", "Who creates the accounts?", "Who owns the page about security?",
)  # fmt: skip
CHATS = (
    "What is Pepper allergic to?", "Where does Ines live?", "What does the dog eat now?", "When is the race?",
    "How old is Tomasz's great-aunt in June?", "Where was the dog found?", "What did the manager of the clinic do?",
    "Which language does Tomasz learn?", "What is wrong with Ines's knee?", "Who waters the beds?",
    "Where does the water key hang?", "How much money is in the box?", "What was planted first?",
    "Who has planks for the beds?", "How much do they pay for the plot?", "Why did Ines give notice?",
    "Does Ines eat meat?", "What does Tomasz give his mother?", "How much is the room in Portobello?",
    "What did Ines bring to the garden?",
)  # fmt: skip
Asked = Sequence[tuple[str, str]]


def conversations(folder: Path, *, embedder: str) -> dict[str, list[float]]:
    """Kind of question to the closeness of each, on LoCoMo."""
    told, random = defaultdict(list), Random(0)
    everything = list(talks())
    names = {talk.name: sorted({turn.speaker for turn in talk.turns}) for talk in everything}
    for talk in everything:
        others = [(a.text, o.name) for o in everything if o is not talk for a in o.asked if a.category != 5]
        drawn = random.sample(others, SAMPLE)
        asked = [(a.text, "adversarial" if a.category == 5 else "answerable") for a in talk.asked]
        asked += [(text, "another's") for text, _ in drawn]
        asked += [(_renamed(text, names[other], names[talk.name]), "another's, renamed") for text, other in drawn]
        asked += [(text, "apart") for text in APART]
        cube = cube_of(talk, folder, embedder=embedder)
        for kind, near in near_of(cube, asked, home=folder / "home"):
            told[kind].append(near)
        timing.say(f"{talk.name}: {len(asked)} questions")
    return dict(told)


def _renamed(text: str, names: Sequence[str], others: Sequence[str]) -> str:
    for name, other in zip(names, others, strict=False):
        text = re.sub(rf"\b{name}\b", other, text)
    return text


def examples(folder: Path) -> dict[str, list[float]]:
    """The same on the example cubes."""
    random, told = Random(0), defaultdict(list)
    elsewhere = [asked.text for talk in talks() for asked in talk.asked]
    for name, questions in (("handbook", HANDBOOK), ("chats", CHATS)):
        asked = [(text, f"{name}: answerable") for text in questions]
        asked += [(text, f"{name}: LoCoMo's") for text in random.sample(elsewhere, SAMPLE)]
        asked += [(text, f"{name}: apart") for text in APART]
        for kind, near in near_of(ROOT / "bundles" / f"{name}.cube", asked, home=folder / "home"):
            told[kind].append(near)
    return dict(told)


def near_of(cube: Path, asked: Asked, *, home: Path) -> list[tuple[str, float]]:
    """Kind and closeness of each question; a floor of 1 lets no model be asked."""
    answers = api.answer_many([cube], [text for text, _ in asked], model=_nobody(home), floor=1.0, k=GIVEN, home=home)
    return [(kind, answer.closeness) for (_, kind), answer in zip(asked, answers, strict=True)]


def _nobody(home: Path) -> str:
    """A folder that looks like a model, which is never loaded."""
    folder = home / "nobody"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    return str(folder)


def refused(near: Sequence[float], floor: float) -> float:
    """The share that a floor refuses."""
    return round(sum(each < floor for each in near) / len(near), 3)


def main() -> None:
    """Prints the share that is refused, by kind of question and floor."""
    folder = ROOT / ".bench" / "recall"
    folder.mkdir(parents=True, exist_ok=True)
    told = {**conversations(folder, embedder="minilm"), **examples(folder)}
    words = {f"words: {kind}": near for kind, near in conversations(folder, embedder="none").items()}
    table = {
        kind: {"questions": len(near), **{f"{floor:g}": refused(near, floor) for floor in FLOORS}}
        for kind, near in {**told, **words}.items()
    }
    for kind, row in table.items():
        timing.say(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    timing.finish("floor", table)


if __name__ == "__main__":
    main()
