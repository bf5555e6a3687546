"""Memories to convert without a cube around them, and models of several families to convert them with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from memos_cli.operation import answer
from memos_cli.operation.activate import Activations, Given
from memos_cli.operation.convert import Converter, Item, Way
from memos_cli.runtime.fingerprint import fingerprint
from memos_cli.runtime.model import LocalModel
from memos_cli.runtime.spans import Prompt, prompt_of

TEXTS = ["Boiler code: 4711", "Ana moved to Lindau in May.", "Bob sold the red boat in May.", "Ann keeps bees in Oslo."]
QUESTION = "what is the code of the boiler?"


@dataclass(frozen=True)
class Told:
    """A memory."""

    id: str
    text: str
    section: str = ""
    kind: str = "paragraph"
    speaker: str = ""
    role: str = ""
    time: datetime | None = None
    sensitivity: str = "internal"
    expires_at: Any = None


def told(*texts: str) -> list[Told]:
    return [Told(f"m{number}", text) for number, text in enumerate(texts, 1)]


def converter(model: Path, way: Way | None = None) -> Converter:
    """A converter for the model in a folder."""
    local = LocalModel(str(model))
    loaded = local.load()
    made_with = fingerprint(loaded, model, cache=model.parent / "cache")
    return Converter(loaded, local.traits, made_with, way or Way(), "2026-01-01T00:00:00Z")


def items(use: Converter, memories: list[Told]) -> list[Item]:
    found = [use.item(memory) for memory in memories]
    assert not [one for one in found if isinstance(one, str)]
    return [one for one in found if isinstance(one, Item)]


def make(use: Converter, folder: Path, memories: list[Told]) -> list[Any]:
    """The files of these memories in `folder`, proved by themselves and together."""
    each = items(use, memories)
    use.prove_together(each)
    return [use.make(folder, item) for item in each]


def drafted(use: Converter, memories: list[Told], question: str = QUESTION) -> Prompt:
    """The prompt with these memories."""
    said = answer.prompt_for(question, memories, spans=use.traits.spans, unknown=use.traits.unknown)
    lines = [answer.line_of(memory) for memory in memories]
    return prompt_of(use.model, said.user, system=said.system, texts=lines)


def ask(
    use: Converter, folder: Path, memories: list[Told], *, form: str = "auto", question: str = QUESTION, **options: Any
) -> Any:
    """What the model writes with these memories, in a form."""
    given = [Given(memory.id, answer.line_of(memory), folder) for memory in memories]
    options = {"limit_tokens": 12, **options}
    using = options.pop("using", None) or Activations(use.model, use.fingerprint, use.way.limits)
    return using.write(drafted(use, memories, question), given, form=form, **options)
