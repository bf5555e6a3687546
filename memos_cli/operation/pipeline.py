"""A pipeline: steps with names, each a command of memos, read from TOML and checked before anything runs.

    name = "nightly"
    environment = ["STORE"]                       variables that ${env.NAME} may read

    [inputs]
    cube = "team.cube"                            ${inputs.cube}; memos run --set cube=other.cube

    [[step]]
    name = "ingest"
    run = "ingest ${inputs.cube} notes/"          what follows `memos`; there is no shell

Which words a command takes is known to the program, not here. Knows nothing of files and processes.
"""

from __future__ import annotations

import heapq
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memos_cli.cube.toml import parse_toml
from memos_cli.errors import Damaged
from memos_cli.operation import references, when
from memos_cli.operation.references import ENV, INPUTS, NAME, STEPS, Parts, Reference
from memos_cli.operation.when import Condition

STEPS_LIMIT = 200
WORDS_LIMIT = 500
RETRIES_LIMIT = 20
SECONDS_LIMIT = 7 * 86_400
_KEYS = {"name", "about", "environment", "inputs", "step"}
_STEP_KEYS = {
    "name", "run", "needs", "when", "allow", "retries", "wait_seconds", "timeout_seconds", "always",
}  # fmt: skip
# What a step is given by the run itself, and what would never end or ask somebody.
_GIVEN = {"--json", "--quiet", "-q", "--help", "-h", "--watch"}
_CODES = range(1, 11)
_HEADING = re.compile(r"^\s*\[\[\s*step\s*\]\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """A command with its name: `words` begin with the verb, and `needs` are the steps that come before it."""

    name: str
    words: tuple[Parts, ...]
    needs: tuple[str, ...]
    when: tuple[Condition, ...]
    allow: frozenset[int]
    retries: int
    wait_seconds: float
    timeout_seconds: float | None
    always: bool

    @property
    def verb(self) -> str:
        """The command of memos that it is."""
        return str(self.words[0][0])

    @property
    def references(self) -> tuple[Reference, ...]:
        """What it is filled in with and what its conditions look at."""
        filled = [each for word in self.words for each in references.references(word)]
        return (*filled, *(each.reference for each in self.when if each.reference is not None))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps in the order in which they run. An input without a default is None and must be given."""

    name: str
    about: str
    environment: tuple[str, ...]
    inputs: Mapping[str, Parts | None]
    steps: tuple[Step, ...]

    def before(self, name: str) -> frozenset[str]:
        """The steps that a step builds on, and those they build on."""
        needs = {step.name: step.needs for step in self.steps}
        found: set[str] = set()
        waiting = list(needs[name])
        while waiting:
            if (one := waiting.pop()) not in found:
                found.add(one)
                waiting += needs[one]
        return frozenset(found)

    def looked_at(self, name: str) -> tuple[Reference, ...]:
        """What other steps look at of what this step told."""
        return tuple(
            dict.fromkeys(
                each for step in self.steps for each in step.references if each.kind == STEPS and each.name == name
            )
        )


def read(raw: bytes, *, where: str) -> Pipeline:
    """The pipeline that `raw` tells. Raises Damaged, naming the file, the line or step, and what was expected."""
    said = parse_toml(raw, where=where)
    _refuse_unknown(said, _KEYS, where)
    text = raw.decode()
    lines = [text.count("\n", 0, match.end()) + 1 for match in _HEADING.finditer(text)]
    tables = said.get("step")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise Damaged(f"{where}: expected steps, each below a line [[step]], found none")
    if len(tables) > STEPS_LIMIT:
        raise Damaged(f"{where}: expected at most {STEPS_LIMIT} steps, found {len(tables)}")
    spots = [f"{where}:{line}" for line in lines] if len(lines) == len(tables) else [where] * len(tables)
    steps: list[Step] = []
    for number, (table, spot) in enumerate(zip(tables, spots, strict=True)):
        steps.append(_step(table, number, steps[-1].name if steps else None, spot))
    spot_of = dict(zip((step.name for step in steps), spots, strict=True))
    made = Pipeline(
        _name(said.get("name", "pipeline"), where), _text(said.get("about", ""), "about", where),
        _environment(said.get("environment", []), where), dict(_inputs(said.get("inputs", {}), where)),
        _in_order(steps, spot_of, where),
    )  # fmt: skip
    _check_references(made, spot_of, where)
    return made


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    if odd := sorted(table.keys() - known):
        raise Damaged(f"{where}: expected {', '.join(sorted(known))}, found {odd[0]!r:.60}")


def _name(said: object, where: str) -> str:
    if isinstance(said, str) and NAME.fullmatch(said):
        return said
    raise Damaged(f"{where}: expected a name of small letters, digits, '_' and '-', found {said!r:.80}")


def _text(said: object, what: str, where: str) -> str:
    if isinstance(said, str) and len(said) <= references.TEXT_LIMIT_CHARACTERS:
        return said
    raise Damaged(f"{where}: expected {what} to be a text of at most {references.TEXT_LIMIT_CHARACTERS:,} characters")


def _environment(said: object, where: str) -> tuple[str, ...]:
    if isinstance(said, list) and all(isinstance(each, str) and references.is_variable(each) for each in said):
        return tuple(dict.fromkeys(said))
    raise Damaged(f"{where}: expected environment to be a list of names of variables, found {said!r:.80}")


def _inputs(said: object, where: str) -> Iterator[tuple[str, Parts | None]]:
    if not isinstance(said, dict):
        raise Damaged(f"{where}: expected [inputs] to be a table, found {said!r:.80}")
    for name, value in said.items():
        spot = f"{where}: inputs.{_name(name, where)}"
        default = value
        if isinstance(value, dict):
            _refuse_unknown(value, {"about", "default"}, spot)
            _text(value.get("about", ""), "about", spot)
            default = value.get("default")
        yield name, None if default is None else _default(default, spot)


def _default(value: object, spot: str) -> Parts:
    if not isinstance(value, str | int | float):
        raise Damaged(f"{spot}: expected a text, a number, true or false, found {value!r:.80}")
    parts = references.split(references.as_text(value, Reference(INPUTS, "")), where=spot)
    if odd := [each for each in references.references(parts) if each.kind != ENV]:
        raise Damaged(f"{spot}: expected only ${{env.NAME}} in an input, found ${{{odd[0]}}}")
    return parts


def _step(table: Mapping[str, Any], number: int, previous: str | None, spot: str) -> Step:
    name = _name(table.get("name"), f"{spot}: step {number + 1}")
    where = f"{spot}: step {name}"
    _refuse_unknown(table, _STEP_KEYS, where)
    needs = table.get("needs", [previous] if previous else [])
    if not isinstance(needs, list) or not all(isinstance(each, str) for each in needs):
        raise Damaged(f"{where}: expected needs to be a list of names of steps, found {needs!r:.80}")
    allow = table.get("allow", [])
    if not isinstance(allow, list) or not all(type(each) is int and each in _CODES for each in allow):
        raise Damaged(f"{where}: expected allow to be a list of exit codes from 1 to 10, found {allow!r:.80}")
    always = table.get("always", False)
    if not isinstance(always, bool):
        raise Damaged(f"{where}: expected always to be true or false, found {always!r:.80}")
    timeout = table.get("timeout_seconds")
    return Step(
        name=name,
        words=_words(table.get("run"), where),
        needs=tuple(dict.fromkeys(needs)),
        when=when.read(table["when"], where=where) if "when" in table else (),
        allow=frozenset(allow),
        retries=int(_number(table.get("retries", 0), "retries", where, most=RETRIES_LIMIT, whole=True)),
        wait_seconds=_number(table.get("wait_seconds", 5), "wait_seconds", where, most=86_400),
        timeout_seconds=None if timeout is None else _number(timeout, "timeout_seconds", where, most=SECONDS_LIMIT),
        always=always,
    )


def _number(value: object, what: str, where: str, *, most: int, whole: bool = False) -> float:
    right = type(value) is int or (type(value) is float and not whole)
    if right and isinstance(value, int | float) and 0 <= value <= most and (value > 0 or what != "timeout_seconds"):
        return value
    kind = "a whole number" if whole else "a number"
    raise Damaged(f"{where}: expected {what} to be {kind} up to {most:,}, found {value!r:.40}")


def _words(said: object, where: str) -> tuple[Parts, ...]:
    """The words of a command, written as one line or as a list. Raises Damaged."""
    try:
        words = shlex.split(said) if isinstance(said, str) else said
    except ValueError as error:
        raise Damaged(f"{where}: expected run to be a line of words, found {said!r:.80} ({error})") from error
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise Damaged(f"{where}: expected run to be a command without the word memos, found {said!r:.80}")
    if len(words) > WORDS_LIMIT or any("\0" in word or len(word) > references.TEXT_LIMIT_CHARACTERS for word in words):
        raise Damaged(f"{where}: expected at most {WORDS_LIMIT} words of plain text")
    if words[0] == "memos":
        raise Damaged(f"{where}: expected run to begin with a command, found the word memos before it")
    parts = tuple(references.split(word, where=where) for word in words)
    if not (len(parts[0]) == 1 and isinstance(parts[0][0], str)) or words[0].startswith("-"):
        raise Damaged(f"{where}: expected run to begin with a command, found {words[0]!r:.60}")
    for word in words[1:]:
        option = word.partition("=")[0]
        if option in _GIVEN:
            raise Damaged(f"{where}: {option} is not for a step")
        if word.startswith("-") and "${" in option:
            raise Damaged(f"{where}: expected options to be written out, found {word!r:.60}")
    return parts


def _in_order(steps: list[Step], spots: Mapping[str, str], where: str) -> tuple[Step, ...]:
    """The steps, each after those that it needs, and else as they are written. Raises Damaged for circles."""
    place = {step.name: number for number, step in enumerate(steps)}
    if len(place) != len(steps):
        twice = next(step.name for number, step in enumerate(steps) if place[step.name] != number)
        raise Damaged(f"{where}: expected each step to have a name of its own, found two called {twice!r}")
    after: dict[str, list[Step]] = {step.name: [] for step in steps}
    missing = {step.name: len(step.needs) for step in steps}
    for step in steps:
        for need in step.needs:
            if need not in place:
                raise Damaged(f"{spots[step.name]}: step {step.name}: needs {need!r:.60}, and there is no such step")
            after[need].append(step)
    ready = [place[step.name] for step in steps if not step.needs]
    found: list[Step] = []
    while ready:
        found.append(steps[heapq.heappop(ready)])
        for step in after[found[-1].name]:
            missing[step.name] -= 1
            if not missing[step.name]:
                heapq.heappush(ready, place[step.name])
    if len(found) < len(steps):
        names = ", ".join(step.name for step in steps if missing[step.name])
        raise Damaged(f"{where}: expected an order of steps, found some that wait for each other: {names}")
    return tuple(found)


def _check_references(made: Pipeline, spots: Mapping[str, str], where: str) -> None:
    """Raises Damaged for what is referred to and not there, or is not there yet."""
    for name, parts in made.inputs.items():
        for each in references.references(parts or ()):
            _check_reference(each, made, frozenset(), f"{where}: inputs.{name}")
    for step in made.steps:
        spot = f"{spots[step.name]}: step {step.name}"
        for each in step.references:
            _check_reference(each, made, made.before(step.name), spot)
        if not step.needs and any(each.reference is None for each in step.when):
            raise Damaged(f"{spot}: when = {when.CHANGED!r} looks at the steps it needs, and it needs none")


def _check_reference(reference: Reference, made: Pipeline, before: frozenset[str], spot: str) -> None:
    if reference.kind == INPUTS and reference.name not in made.inputs:
        raise Damaged(f"{spot}: there is no input {reference.name!r} in [inputs]")
    if reference.kind == ENV and reference.name not in made.environment:
        raise Damaged(f"{spot}: expected {reference.name} to be listed: environment = [{reference.name!r}]")
    if reference.kind == STEPS and all(reference.name != step.name for step in made.steps):
        raise Damaged(f"{spot}: looks at step {reference.name!r}, and there is no such step")
    if reference.kind == STEPS and reference.name not in before:
        raise Damaged(f"{spot}: looks at step {reference.name!r}, which it does not need: needs = [{reference.name!r}]")
