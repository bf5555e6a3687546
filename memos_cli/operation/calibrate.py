"""What memories really take under a model on this machine: a few of them made, read and read back, with the clock.

Goes the way that a query goes (`Activations.write`, to the first token) and the way that `convert` makes them, so what
a plan promises is what a query is given. A few seconds for a small model. Works in a folder that is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING

from memos_cli.errors import Usage
from memos_cli.operation.activate import ACTIVATION, PLAINTEXT, Activations, Given
from memos_cli.operation.convert import COMPOSED, Converter, Item, Kept, Way
from memos_cli.operation.gate import Limits
from memos_cli.operation.policies import Price
from memos_cli.operation.rates import MEASURED, Point, Rates
from memos_cli.runtime.spans import Prompt

if TYPE_CHECKING:
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.model import LocalModel

# Tokens of the memories that are measured, as far as the model's window allows.
SIZES = (16, 64, 192, 448)
RUNS = 7
QUESTION = "What is the code of locker 3?"
# A measurement asks what it takes, not how well it goes.
ANY = Limits(top1=0, exact=0, recovered=-1000)


@dataclass(frozen=True, slots=True)
class Sample:
    """A memory that is made up to be measured."""

    id: str
    text: str
    kind: str = "paragraph"
    speaker: str = ""
    role: str = ""
    section: str = ""
    time: datetime | None = None
    sensitivity: str = "public"
    expires_at: datetime | None = None


def measure(local: LocalModel, made_with: Fingerprint, *, machine: str, made_at: str) -> Rates:
    """The rates of a loaded model. Raises Usage for one that has no activation memory."""
    converter = Converter(local.load(), local.traits, made_with, Way(limits=ANY), made_at)
    items = [item for size in SIZES if (item := _item(converter, size))]
    if not items:
        raise Usage(f"{local.name} takes no memory of {SIZES[0]} tokens, so there is nothing to measure")
    with TemporaryDirectory() as folder:
        # the first passes of a process cost what no others do
        converter.make(Path(folder), items[0])
        _ask(converter, Path(folder), items[0], PLAINTEXT)
        points = {point.tokens: point for point in (_point(converter, Path(folder), item) for item in items)}
        start = perf_counter()
        converter.prove_together(items[:1] * COMPOSED)
        together = perf_counter() - start
    whole = tuple(points[size] for size in sorted(points))
    return Rates(MEASURED, local.name, made_with.hard["weights"], machine, made_at, whole, together)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one memory took: its price, and the share of answers that are the same with it as with its text."""

    price: Price
    exact: float


def measure_each(
    local: LocalModel,
    made_with: Fingerprint,
    memories: Sequence[Kept],
    *,
    runs: int = 3,
    progress: Callable[[int, int | None, str], None] | None = None,
) -> dict[str, Measured]:
    """What each of some memories takes by itself, with the clock; those that cannot be converted are left out."""
    converter = Converter(local.load(), local.traits, made_with, Way(limits=ANY), "")
    found: dict[str, Measured] = {}
    items = [item for one in memories if not isinstance(item := converter.item(one), str)]
    with TemporaryDirectory() as folder:
        if items:
            converter.make(Path(folder), items[0])
            _ask(converter, Path(folder), items[0], PLAINTEXT)
        for done, item in enumerate(items, 1):
            start = perf_counter()
            made = converter.make(Path(folder), item)
            writing = perf_counter() - start
            # in turns, so that what slows the machine down for a while slows both
            pairs = [
                (_ask(converter, Path(folder), item, PLAINTEXT), _ask(converter, Path(folder), item, ACTIVATION))
                for _ in range(runs)
            ]
            price = Price(made.bytes, writing, median(one for one, _ in pairs), median(one for _, one in pairs))
            found[item.memory.id] = Measured(price, made.fidelity["exact"])
            if progress:
                progress(done, len(items), "memories")
    return found


def _item(converter: Converter, size: int) -> Item | None:
    """A memory of about so many tokens; None where the model has no room for it."""
    words: list[str] = []
    item: Item | str = ""
    for number in range(1, size):
        words.append(f"The code of locker {number} is K{number * 37 % 97}-{number * 911 % 9973}.")
        item = converter.item(Sample(f"sample{size}", " ".join(words)))
        if isinstance(item, str):
            return None
        if item.span[1] - item.span[0] >= size:
            break
    return item if isinstance(item, Item) else None


def _point(converter: Converter, folder: Path, item: Item) -> Point:
    start = perf_counter()
    made = converter.make(folder, item)
    writing = [perf_counter() - start]
    start = perf_counter()
    converter.make(folder, item)
    writing.append(perf_counter() - start)
    plain, read = [], []
    for _ in range(RUNS):
        plain.append(_ask(converter, folder, item, PLAINTEXT))
        read.append(_ask(converter, folder, item, ACTIVATION))
    return Point(made.tokens, made.bytes, min(writing), median(plain), median(read))


def _ask(converter: Converter, folder: Path, item: Item, form: str) -> float:
    """Seconds to the first token of an answer with one memory, which is opened anew."""
    ids, spans = converter.prompt([item.memory], QUESTION)
    reader = Activations(converter.model, converter.fingerprint, ANY)
    given = [Given(item.memory.id, item.line, folder)]
    start = perf_counter()
    answer = reader.write(Prompt(tuple(ids), tuple(spans)), given, form=form, limit_tokens=1)
    spent = perf_counter() - start
    return min(spent, sum(answer.seconds.values())) if answer.seconds else spent
