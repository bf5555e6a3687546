"""`memos run`: the steps of a pipeline one after the other, each a process, going on where the last run stopped.

Each step is a process: it ends with its own exit code whatever happens in it, gives back all memory it took, passes the
same frame as at a terminal, and can be ended when it takes too long. It is begun from the folder of the pipeline, which
it imports nothing from. The first step that fails ends the run.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from memos_cli.cube.toml import MAX_BYTES
from memos_cli.errors import Damaged, NotFound, Usage
from memos_cli.infrastructure import child, runs
from memos_cli.infrastructure.child import Ended
from memos_cli.interface.desks import Notify, desk
from memos_cli.interface.frame import HERE
from memos_cli.interface.ran import Ran
from memos_cli.interface.stepping import Course, Values
from memos_cli.operation import pipeline as pipelines
from memos_cli.operation import references
from memos_cli.operation.pipeline import Pipeline
from memos_cli.operation.references import Filled, Reference

Start = Callable[..., Ended]
# What a step's words are checked with: raises Usage, and gives the options that somebody should agree to.
Check = Callable[[Sequence[str]], Collection[str]]


def run(
    pipeline: str | Path,
    *,
    inputs: Mapping[str, str] | None = None,
    again: bool = False,
    dry_run: bool = False,
    to: str = HERE,
    check: Check | None = None,
    agree: Callable[[str], None] | None = None,
    start: Start = child.call,
    home: Path | None = None,
    notify: Notify | None = None,
) -> Ran:
    """Runs a pipeline and tells what became of each step; that one failed is told, not raised.

    `check` sees the words of every step before anything runs, and `agree` is asked once about options and variables
    that a person should know of. `start` runs one command, `to` is where its output goes. Raises NotFound and Damaged
    for the file, Usage for inputs, Locked when it runs already.
    """
    at = desk(home, notify)
    place = Path(pipeline)
    raw = _read(place)
    made = _made(raw, str(place))
    values = _values(made, inputs or {}, str(place))
    concerns = _check(made, values, check, str(place))
    folder, key = place.absolute().parent, _key(at.home, place, values)
    began = time.monotonic()
    if dry_run:
        for concern in concerns:
            at.notify(f"wants a yes: {concern}")
        known = runs.peek(at.home, key)
        resumed = known.going and not again
        known.begin(again=again)
        told = Course(made, folder, at.home, known, values, start, at.notify, to).plan()
    else:
        if concerns and agree is not None:
            agree(f"{place}: {'; '.join(concerns)};")
        with runs.hold(at.home, key) as known:
            resumed = known.going and not again
            known.begin(again=again)
            told = Course(made, folder, at.home, known, values, start, at.notify, to).follow()
    failed = next((step for step in told if step.status == "failed"), None)
    return Ran(
        made.name, str(place), f"sha256:{hashlib.sha256(raw).hexdigest()}",
        {name: value.shown for name, value in values.inputs.items()}, known.run, resumed, dry_run, told,
        failed.name if failed else "", (failed.exit_code or 1) if failed else 0, round(time.monotonic() - began, 3),
    )  # fmt: skip


def _read(place: Path) -> bytes:
    try:
        with place.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no pipeline {place}", hint="docs/how-to/pipelines.md shows how one is written") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Damaged(
            f"{str(place)[:300]!r} cannot be read: {why}", hint="memos run FILE, a pipeline in TOML"
        ) from error


def _made(raw: bytes, where: str) -> Pipeline:
    """The pipeline. Raises Damaged, with what to type once it is mended."""
    try:
        return pipelines.read(raw, where=where)
    except Damaged as error:
        error.hint = (
            error.hint or f"memos run {shlex.quote(where)} --dry-run, once it is mended: it checks and runs nothing"
        )
        raise


def _values(made: Pipeline, given: Mapping[str, str], where: str) -> Values:
    """The inputs and variables of a run. Raises Usage, naming what there is."""
    if odd := sorted(given.keys() - made.inputs.keys()):
        raise Usage(
            f"{where}: expected inputs {', '.join(sorted(made.inputs)) or '(it has none)'}, found {odd[0][:80]!r}",
            hint=f"memos run {where} --dry-run, with --set for those alone",
        )
    if unset := [name for name in made.environment if name not in os.environ]:
        raise Usage(f"{where}: expected {unset[0]} in the environment", hint=f"export {unset[0]}=...")
    variables = {name: os.environ[name] for name in made.environment}

    def look(reference: Reference) -> Filled:
        return Filled(variables[reference.name], f"${{{reference}}}")

    found: dict[str, Filled] = {}
    for name, default in made.inputs.items():
        if name not in given and default is None:
            raise Usage(f"{where}: expected a value of the input {name}", hint=f"memos run {where} --set {name}=...")
        found[name] = Filled(given[name], given[name]) if name in given else references.fill(default or (), look)
    return Values(found, variables)


def _check(made: Pipeline, values: Values, check: Check | None, where: str) -> list[str]:
    """What somebody should agree to. Raises Usage and Damaged for words that no command takes, naming the step."""
    concerns = [f"it reads {name} of the environment" for name in made.environment]
    for step in made.steps:
        try:
            words = [references.fill(word, values.example).text for word in step.words]
            asked = sorted(check(words)) if check is not None else []
        except (Damaged, Usage) as error:
            raise type(error)(f"{where}: step {step.name}: {error.message}", hint=error.hint) from error
        concerns += [f"step {step.name} says --{option.replace('_', '-')}" for option in asked]
    return concerns


def _key(home: Path, place: Path, values: Values) -> str:
    """Where the course of this pipeline with these inputs is kept; an edited pipeline keeps its course."""
    told = [f"{name}={value.shown}" for name, value in sorted(values.inputs.items())]
    return runs.keyed(home, str(place.resolve()), *told)
