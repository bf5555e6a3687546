"""The program: commands by name, settings in their order, and the one place where errors end.

Commands are imported when the program starts (each imports only typer); what they do is imported when they run.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand

# In the order of `memos --help`: what a newcomer does first comes first.
COMMANDS = (
    "init", "ingest", "query", "list", "show", "log", "diff", "edit", "forget", "rollback", "tag", "gc", "reindex",
    "audit", "migrate",
)  # fmt: skip


def main() -> None:
    """Runs the program on sys.argv and exits with the code of errors.py."""
    build()(prog_name="memos")


class Command(TyperCommand):
    """A command whose errors end here."""

    def invoke(self, ctx: Any) -> Any:
        if ctx.obj["verbose"]:
            _tell_settings(ctx)
        with _ending():
            return super().invoke(ctx)


def build() -> typer.Typer:
    """The typer program with every command."""
    app = typer.Typer(
        name="memos",
        help="The package manager and loader for the memory of language models.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        add_completion=False,
    )

    @app.callback()
    def root(
        ctx: typer.Context,
        verbose: bool = typer.Option(False, "--verbose", "-v", help="Say where each setting came from."),
        version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", is_eager=True, callback=_version
        ),
    ) -> None:
        from memos_cli import config
        from memos_cli.infrastructure.identity import default_home

        with _ending():
            options = {name: {param.name for param in command.params} for name, command in ctx.command.commands.items()}  # type: ignore[attr-defined]
            ctx.default_map, origins = config.default_map(home=default_home(), commands=options)
        ctx.obj = {"verbose": verbose, "origins": origins}

    for name in COMMANDS:
        module = importlib.import_module(f"memos_cli.commands.{name}")
        app.command(name, cls=Command)(module.run)
    return app


def _version(value: bool) -> None:
    if value:
        from memos_cli import __version__

        sys.stdout.write(f"memos {__version__}\n")
        sys.exit(0)


def _tell_settings(ctx: Any) -> None:
    """Each option's value and where it came from, to stderr."""
    for name, value in sorted(ctx.params.items()):
        source = ctx.get_parameter_source(name).name.lower().replace("_", " ")
        origin = ctx.obj["origins"].get(f"{ctx.command.name}.{name}", "") if source == "default map" else ""
        _say(f"{name} = {value!r} ({origin or source})")


class _ending:  # noqa: N801  reads as a phrase: with _ending():
    """Turns what was raised into one line, a hint, and an exit code."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        from memos_cli.errors import MemosError

        if isinstance(error, MemosError):
            if os.environ.get("MEMOS_DEBUG"):
                return
            _say(error.message)
            if error.hint:
                sys.stderr.write(f"  try: {_safe(error.hint)}\n")
            sys.exit(error.exit_code)
        if isinstance(error, KeyboardInterrupt):
            _say("interrupted; finished work is kept")
            sys.exit(130)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


def _say(text: str) -> None:
    sys.stderr.write(f"memos: {_safe(text)}\n")


def _safe(text: str) -> str:
    from memos_cli.console import safe

    return safe(text)
