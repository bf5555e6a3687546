"""memos require: which other cubes a cube needs."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet, Reason


def run(
    cube: Cube,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The package that it needs.")],
    needed: Annotated[
        str, typer.Argument(metavar="[RANGE]", help="Which versions, such as '^1.4' or '>=1.2, <2'.")
    ] = "*",
    remove: Annotated[bool, typer.Option("--remove", help="It does not need it any more.")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say in a cube that it needs another one, in some versions: whoever installs it gets that too."""
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.require_package(
        cube, name, needed, remove=remove, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, notify=out.say
    )
    told = ", ".join(f"{one} {text}" for one, text in done.requires.items()) or "nothing"
    out.one(done, [f"{done.cube} {'would require' if dry_run else 'requires'} {told}"], ids=list(done.requires))
