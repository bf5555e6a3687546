"""Words of a pipeline with values to be filled in: `${inputs.cube}`, `${env.STORE}`, `${steps.ingest.result.added}`.

A value fills in one word, or part of one, and never becomes an option or several words. `$${` stands for `${`. What
came from the environment is filled into what is run and stays a reference in what is shown. Knows nothing of steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from memos_cli.errors import Damaged

INPUTS, ENV, STEPS = "inputs", "env", "steps"
TEXT_LIMIT_CHARACTERS = 4_096
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MARK = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
# What can be asked of a step besides its result: its exit code, whether it changed a cube, and how many lines it told.
FACTS = ("code", "changed", "lines")

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Reference:
    """A value by its name: of an input, a variable, or a step, with the path to it in what the step told."""

    kind: str
    name: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.kind, self.name, *self.path))


@dataclass(frozen=True, slots=True)
class Filled:
    """A word as it is run, and as it may be shown."""

    text: str
    shown: str


Parts = tuple[str | Reference, ...]


def parse(text: str, *, where: str) -> Reference:
    """The reference that `inputs.cube` or the like is. Raises Damaged, naming `where`."""
    kind, _, rest = text.partition(".")
    name, *path = rest.split(".")
    if kind == INPUTS and NAME.fullmatch(name) and not path:
        return Reference(kind, name)
    if kind == ENV and _VARIABLE.fullmatch(name) and not path:
        return Reference(kind, name)
    if kind == STEPS and NAME.fullmatch(name) and _leads_somewhere(path):
        return Reference(kind, name, tuple(path))
    wanted = f"inputs.NAME, env.NAME, or steps.NAME. with {', '.join(FACTS)} or result.KEY"
    raise Damaged(f"{where}: expected {wanted}, found {text!r:.80}")


def is_variable(name: str) -> bool:
    """Whether a variable of the environment may have this name."""
    return _VARIABLE.fullmatch(name) is not None


def _leads_somewhere(path: Sequence[str]) -> bool:
    if len(path) == 1 and path[0] in FACTS:
        return True
    return 1 < len(path) <= 16 and path[0] == "result" and all(path)


def split(word: str, *, where: str) -> Parts:
    """The word as texts and references in turn. Raises Damaged, naming `where`."""
    parts: list[str | Reference] = []
    end = 0
    for match in _MARK.finditer(word):
        parts.append(word[end : match.start()])
        end = match.end()
        if match.group() == "$${":
            parts.append("${")
        elif not match.group(2):
            raise Damaged(f"{where}: expected a }} after {match.group()!r:.60}")
        else:
            parts.append(parse(match.group(1).strip(), where=where))
    return tuple(part for part in (*parts, word[end:]) if part)


def references(parts: Parts) -> Iterator[Reference]:
    """The references of a word, in their order."""
    return (part for part in parts if isinstance(part, Reference))


def unfilled(parts: Parts) -> str:
    """The word as it was written."""
    return "".join(f"${{{part}}}" if isinstance(part, Reference) else part.replace("${", "$${") for part in parts)


def fill(parts: Parts, look: Callable[[Reference], Filled]) -> Filled:
    """The word with its values. Raises Damaged when one makes an option of a word that is written as none.

    `look` gives the value of a reference.
    """
    texts, shown = [], []
    for part in parts:
        value = look(part) if isinstance(part, Reference) else Filled(part, part)
        texts.append(value.text)
        shown.append(value.shown)
    word = Filled("".join(texts), "".join(shown))
    if word.text.startswith("-") and parts and isinstance(parts[0], Reference):
        raise Damaged(f"expected no option to come from ${{{parts[0]}}}, found {word.shown[:60]!r}")
    if "\0" in word.text:
        raise Damaged(f"expected no NUL in {unfilled(parts)}")
    return word


def as_text(value: Scalar, reference: Reference) -> str:
    """A value as it stands in a word. Raises Damaged for what is no text, number or truth value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        text = str(value)
        if len(text) <= TEXT_LIMIT_CHARACTERS:
            return text
        raise Damaged(f"{reference}: expected at most {TEXT_LIMIT_CHARACTERS:,} characters, found {len(text):,}")
    raise Damaged(f"{reference}: expected a text or a number, found {'nothing' if value is None else 'more than one'}")
