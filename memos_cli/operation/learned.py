"""Answers from what a model has learned: which adapter was taught the memory that was found, and what it says.

Retrieval chooses the adapter (routing by the plaintext, which no measure of the adapters themselves came near); the
question is then asked with nothing before it. An adapter is tried before it is used: it must change what the model
says, and know what it knew when it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from memos_cli.cube import parameter
from memos_cli.errors import CheckFailed, MemosError, WrongModel
from memos_cli.infrastructure import adapters
from memos_cli.operation.activate import PARAMETER, PLAINTEXT, Answer, Formed, Given, rounded
from memos_cli.operation.distill import TRIAL, TRIED
from memos_cli.operation.probes import TRAIN
from memos_cli.runtime.generate import chat_ids, check_window, generate

if TYPE_CHECKING:
    from memos_cli.cube.parameter import Adapter
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.model import Loaded, Traits

# So much fewer of its questions may be right than were when it was made.
SLACK = 0.1
NOT_TAUGHT = "the adapter was not taught it"


@dataclass(frozen=True, slots=True)
class Route:
    """An adapter and those beneath it, from the lowest, and which of the memories found it was taught."""

    chain: tuple[Adapter, ...]
    taught: frozenset[str]

    @property
    def top(self) -> Adapter:
        return self.chain[-1]


@dataclass(slots=True)
class Learned:
    """A model and what its adapters know."""

    model: Loaded
    traits: Traits
    fingerprint: Fingerprint
    now: datetime
    _checked: dict[Path, tuple[Adapter, ...]] = field(default_factory=dict)
    _tried: dict[Path, str] = field(default_factory=dict)

    def route(self, given: Sequence[Given]) -> Route | str | MemosError:
        """The adapter that was taught the best of the memories found, or why there is none."""
        if not given:
            return "nothing was found to choose an adapter by"
        best, folder = given[0], given[0].folder.parent / parameter.FOLDER
        why: str | MemosError = "it was not distilled"
        for name in parameter.names(folder):
            found = self._usable(folder, name, best)
            if isinstance(found, tuple):
                contents = {one.id: parameter.content_of(one.line) for one in given}
                return Route(found, frozenset(_taught(found, contents)))
            # of adapters for several models, what is wrong with this one's own says more
            if found is not None and isinstance(why, WrongModel | str):
                why = found
        return why

    def _usable(self, folder: Path, name: str, best: Given) -> tuple[Adapter, ...] | str | MemosError | None:
        """An adapter with all beneath it; why not; or None where it was not taught this memory."""
        try:
            top = parameter.read(folder, name)
            if best.id not in top.memory_ids:
                return None
            if top.path not in self._checked:
                # all of it is read: once for each file of a version, which never changes
                self._checked[top.path] = adapters.check(
                    folder, name, model=self.model.name, fingerprint=self.fingerprint, now=self.now
                )
        except MemosError as error:
            return error
        if best.adapters is not None and not best.adapters.issuperset(one.name for one in self._checked[top.path]):
            return None
        content = {source.memory_id: source.content for source in top.about.sources}[best.id]
        if content != parameter.content_of(best.line):
            return "its text has changed since it was distilled"
        if not top.about.gated:
            return f"{name} fell short of its gates when it was made"
        return self._checked[top.path]

    def write(
        self, question: str, given: Sequence[Given], route: Route, *, limit_tokens: int,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:  # fmt: skip
        """The answer without a memory before the question. Raises CheckFailed when the adapter's trial fails."""
        from memos_cli.runtime import adapter

        start = perf_counter()
        ids = chat_ids(self.model, question)
        check_window(self.model, len(ids), limit_tokens=limit_tokens)
        with adapter.attach(self.model.network, [one.path for one in route.chain]) as adapted:
            self._try(route, given[0].folder.parent / PLAINTEXT, adapter.differs(adapted))
            loaded = perf_counter() - start
            written = generate(self.model, ids, limit_tokens=limit_tokens, on_text=on_text)
        formed = tuple(
            Formed(one.id, PARAMETER if one.id in route.taught else "", route.top.name, 0, 0, _why(one, route))
            for one in given
        )
        seconds = {"load": loaded, "question": written.first_seconds, "first_token": 0.0}
        return Answer(written, formed, 0, 0, (), rounded(seconds), len(ids))

    def _try(self, route: Route, plaintext: Path, difference: float) -> None:
        """The trial of an adapter that is on the model; once for each."""
        top = route.top
        if top.path not in self._tried:
            share = trial(self.model, self.traits, plaintext, top.name)
            least = top.about.metrics.get(TRIAL, 0.0) - SLACK
            low = share is not None and share < least
            self._tried[top.path] = (
                f"{top.name} changes nothing of what {self.model.name} says" if difference == 0
                else f"{top.name} answers {share:.2f} of its own questions, {least:.2f} are expected" if low
                else ""
            )  # fmt: skip
        if why := self._tried[top.path]:
            raise CheckFailed(why, hint=f"memos distill CUBE --name {top.name} --replace")


def trial(
    model: Loaded, traits: Traits, plaintext: Path, name: str, *, split: str = TRAIN, most: int | None = TRIED
) -> float | None:
    """The share of an adapter's own questions that the model answers now; None where none are stored.

    Of the `split` the first `most`, or all.
    """
    from memos_cli.cube import probes
    from memos_cli.operation.tutor import Tutor
    from memos_cli.runtime.train import Turn

    asked = [one for one in probes.read(plaintext, adapter=name, split=split) if one.adapter == name][:most]
    tutor = Tutor(model, traits)
    right = tutor.right([Turn(tutor.bare(one.question), tutor.coded(one.answer)) for one in asked])
    return sum(right) / len(right) if right else None


def _taught(chain: Sequence[Adapter], contents: dict[str, str]) -> list[str]:
    """Which of these memories, by what they say now, one of the chain was taught."""
    sources = [source for one in chain for source in one.about.sources if source.standing == parameter.DISTILLED]
    return [source.memory_id for source in sources if contents.get(source.memory_id) == source.content]


def _why(one: Given, route: Route) -> str:
    return "" if one.id in route.taught else NOT_TAUGHT
