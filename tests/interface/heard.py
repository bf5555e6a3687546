"""How likely the shipped model finds an answer: with what a cube recalls, with activation memory, and with nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memos_cli.interface import api
from memos_cli.operation.activate import Activations, Given
from memos_cli.operation.answer import line_of
from memos_cli.runtime import generate
from memos_cli.runtime.fingerprint import fingerprint
from memos_cli.runtime.model import LocalModel
from memos_cli.runtime.spans import prompt_of

# A fact, what is asked, and the answer.
FACTS = (
    ("The code of the boiler is 4711.", "what is the code of the boiler?", "4711"),
    ("The home town of Ana is Lindau.", "what is the home town of Ana?", "Lindau"),
    ("The spare key of Ben is in the blue shed.", "where is the spare key of Ben?", "the blue shed"),
)
OTHERS = ("The meeting of the choir is on Thursday.", "The colour of the garden gate is green.")


class Listener:
    """The shipped default model, asked for the log-probability of answers in nats."""

    def __init__(self, cache: Path) -> None:
        local = LocalModel("nano")
        self.model = local.load()
        self._made_with = fingerprint(self.model, local.folder, cache=cache)

    def alone(self, question: str, answer: str) -> float:
        """Without any cube."""
        return self._total(question, [], answer)

    def reading(self, cube: Path, question: str, answer: str) -> float:
        """With the best of what the cube recalls, as text: nothing when it recalls nothing."""
        return self._total(question, [line_of(hit) for hit in self._hits(cube, question)], answer)

    def loading(self, cube: Path, question: str, answer: str) -> float:
        """With the cache of the best of what the cube recalls, in the place of its text; AssertionError without one."""
        hits = self._hits(cube, question)[:1]
        if not hits:
            return self.alone(question, answer)
        line = line_of(hits[0])
        prompt = prompt_of(self.model, question, system=line, texts=[line])
        given = Given(hits[0].id, line, cube / "current" / "activation")
        following = generate.tokenize(self.model, answer)
        rows = Activations(self.model, self._made_with).rows(prompt, given, following)
        assert not isinstance(rows, str), rows
        return float(sum(row[token] for row, token in zip(rows, following, strict=True)))

    def _hits(self, cube: Path, question: str) -> Sequence[Any]:
        return api.query(cube, question, k=2).hits

    def _total(self, question: str, lines: list[str], answer: str) -> float:
        prompt = prompt_of(self.model, question, system="\n".join(lines), texts=lines)
        return generate.logprobs(self.model, prompt.ids, answer).total


def make(place: Path, texts: Sequence[str]) -> Path:
    """A cube of these memories, each with its cache under the shipped model."""
    source = place.with_suffix(".md")
    source.write_text("".join(f"- {text}\n" for text in texts))
    api.ingest(place, [str(source)], embedder="none")
    api.convert(place, model="nano")
    return place


def purge(cube: Path) -> None:
    """Forgets the facts for good."""
    facts = {text for text, _, _ in FACTS}
    told = api.purge(cube, ids=[one.id for one in api.memories(cube) if one.text in facts]).proof
    assert told
    assert told.sound
