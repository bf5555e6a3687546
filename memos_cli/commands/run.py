"""memos run: the steps of a pipeline, unattended."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shlex
import signal
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from memos_cli.commands.options import DryRun, Json, Quiet, Yes, refuse

if TYPE_CHECKING:
    from memos_cli.interface.ran import Ran

# What a person decides (a pipeline that runs pipelines, whom to trust, who is let in), and what does not end.
_NOT_UNATTENDED = frozenset({"run", "keys", "trust", "clients", "serve", "mcp"})
_VERB = re.compile(r"[a-z]{2,20}")


def run(
    pipeline: Annotated[str, typer.Argument(metavar="FILE", help="A pipeline: steps in TOML.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="The value of an input; may be given again."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Run every step, also those that are done and unchanged.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the steps of a pipeline, each a memos command, and go on where the last run stopped.

    A step that is done is not run again unless what it is given has changed. The first that fails ends the run, with
    its exit code. Steps are run in the folder of the pipeline.
    """
    from memos_cli.console import Output, confirm
    from memos_cli.errors import Interrupted
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    given = dict(_pair(each) for each in inputs or ())
    refuse(len(given) < len(inputs or ()), "expected each input once")
    usual = signal.signal(signal.SIGTERM, _leave)
    on = shlex.join(["memos", "run", pipeline, *(word for each in inputs or () for word in ("--set", each))])
    try:
        ran = api.run(
            pipeline, inputs=given, again=again, dry_run=dry_run, to=out.destination, check=concerns,
            agree=lambda question: confirm(question, yes=yes), notify=out.say,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; the steps that ended are kept", hint=f"{on}, which goes on from there"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, usual)
    if json:
        out.one(ran, ())
    else:
        columns = {
            "step": lambda step: step.name, "status": lambda step: step.status, "exit": lambda step: step.exit_code,
            "seconds": lambda step: f"{step.seconds:.1f}", "command": lambda step: step.command,
            "why": lambda step: step.why,
        }  # fmt: skip
        out.rows(ran.steps, columns, ids=lambda step: step.name)
    if ran.failed:
        _fail(ran, on)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    refuse(not sign or not name, f"expected --set NAME=VALUE, found {text[:80]!r}")
    return name, value


def _leave(number: int, frame: object) -> NoReturn:
    """A SIGTERM ends it as ^C does: the step is interrupted, and what is finished is kept."""
    raise KeyboardInterrupt


def _fail(ran: Ran, on: str) -> NoReturn:
    from memos_cli.errors import MemosError

    (step,) = (step for step in ran.steps if step.name == ran.failed)
    error = MemosError(
        f"step {step.name} failed with exit code {ran.exit_code}: {step.why}",
        hint=f"{on}, which goes on from there",
    )
    error.exit_code = ran.exit_code
    raise error


def concerns(words: Sequence[str]) -> Collection[str]:
    """The options of a step that a person should know of. Raises Usage for words that no command takes."""
    from memos_cli.config import PERSONAL
    from memos_cli.errors import Usage

    verb, *rest = words
    command = _command(verb)
    # what is refused on the command line; the class has no name of its own among what typer offers
    refused: Any = typer.BadParameter.__mro__[1]
    try:
        context = command.make_context(verb, list(rest), obj={})
    except refused as error:
        raise Usage(f"memos {verb}: {error.format_message()}", hint=f"memos {verb} --help") from error
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"} & PERSONAL


def _command(verb: str) -> Any:
    """The command as typer reads its words. Raises Usage when there is none that runs by itself."""
    from memos_cli.errors import Usage

    module = f"memos_cli.commands.{verb}"
    known = _VERB.fullmatch(verb) and importlib.util.find_spec(module)
    work = getattr(importlib.import_module(module), "run", None) if known else None
    # every command that ends by itself tells its result as JSON
    alone = work is not None and "json" in inspect.signature(work).parameters and verb not in _NOT_UNATTENDED
    if not alone:
        raise Usage(
            f"expected a command that runs unattended, such as ingest, audit or push, found {verb[:60]!r}",
            hint="memos --help names the commands; what a person decides is typed by a person",
        )
    app = typer.Typer(add_completion=False)
    app.command(verb)(work)  # type: ignore[type-var]
    return typer.main.get_command(app)
