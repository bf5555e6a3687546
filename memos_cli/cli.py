"""The program: commands by name, settings in their order, and the one place where errors end.

Of the commands only the one that is asked for is imported and built; what it does is imported when it runs.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

# In the order of `memos --help`: what a newcomer does first comes first.
COMMANDS = (
    "init", "ingest", "query", "serve", "mcp", "convert", "distill", "list", "show", "log", "diff", "edit",
    "forget", "rollback", "tag", "gc", "reindex", "tidy", "fuse", "schedule", "export", "pack", "unpack", "push",
    "pull", "search", "info", "install", "outdated", "upgrade", "require", "yank", "index", "trust", "keys",
    "clients", "audit", "doctor", "migrate", "run",
)  # fmt: skip


def main() -> None:
    """Runs the program on sys.argv and exits with the code of errors.py."""
    asked = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    build(asked if asked in COMMANDS else None)(prog_name="memos")


class Command(TyperCommand):
    """A command whose errors end here."""

    def invoke(self, ctx: Any) -> Any:
        if ctx.obj["verbose"]:
            _tell_settings(ctx)
        with _ending():
            _refuse_odd_text(ctx.params)
            result = super().invoke(ctx)
            sys.stdout.flush()  # so that a reader who has gone is noticed here
            return result


def build(only: str | None = None) -> typer.Typer:
    """The typer program with every command, or with the one that will run: building all takes longer than most work."""
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
            home = default_home()
            options = _options() if config.is_set(home=home) else {}
            ctx.default_map, origins = config.default_map(home=home, commands=options)
        ctx.obj = {"verbose": verbose, "origins": origins}

    for name in [only] if only else COMMANDS:
        app.command(name, cls=Command)(_command(name))
    return app


def _command(name: str) -> Callable[..., None]:
    run: Callable[..., None] = importlib.import_module(f"memos_cli.commands.{name}").run
    return run


def _options() -> dict[str, dict[str, str]]:
    """Per command, the words that settings may use for an option, and the name of its parameter."""
    found: dict[str, dict[str, str]] = {}
    for name in COMMANDS:
        words: dict[str, str] = {}
        found[name] = words
        for parameter, declared in inspect.signature(_command(name), eval_str=True).parameters.items():
            words[parameter] = parameter
            for option in getattr(declared.annotation, "__metadata__", ()):
                # typer takes the first word of an annotated option for its default, and puts it right later
                for word in (getattr(option, "default", None), *(getattr(option, "param_decls", None) or ())):
                    if isinstance(word, str) and word.startswith("-"):
                        words[word.lstrip("-").replace("-", "_")] = parameter
    return found


def _version(value: bool) -> None:
    if value:
        from memos_cli import __version__

        sys.stdout.write(f"memos {__version__}\n")
        sys.exit(0)


# What may name a file, whose name is bytes; all other words are text.
_PLACES = frozenset(
    {
        "cube", "cubes", "sources", "source", "also", "model", "embedder", "extract", "file", "output", "identity",
        "folder", "pipeline",
    }
)  # fmt: skip


def _refuse_odd_text(params: dict[str, Any]) -> None:
    """Raises Usage for words that are not UTF-8: Python keeps their bytes in a form that no table takes."""
    from memos_cli.errors import Usage

    for name, value in params.items():
        for text in value if isinstance(value, list | tuple) else [value]:
            if name not in _PLACES and isinstance(text, str) and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    raise Usage(f"expected {name} in UTF-8, found {text[:120]!r}") from error


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
        if isinstance(error, OSError) and error.filename and not os.environ.get("MEMOS_DEBUG"):
            _say(f"{str(error.filename)[:300]}: {(error.strerror or type(error).__name__).lower()}")
            sys.exit(1)


def _say(text: str) -> None:
    sys.stderr.write(f"memos: {_safe(text)}\n")


def _safe(text: str) -> str:
    from memos_cli.console import safe

    return safe(text)
