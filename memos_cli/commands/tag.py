"""memos tag: a name for a version."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet


def run(
    cube: Cube,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, '.', '_' and '-'.")],
    number: Annotated[int | None, typer.Argument(metavar="[VERSION]", help="[default: the current one]")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take the name away.")] = False,
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Name a version, which keeps it from being swept."""
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.tag(cube, name, number=number, delete=delete, dry_run=dry_run, lock_timeout=lock_timeout, notify=out.say)
    out.one(done, [done.message], ids=[str(done.number)])
