"""memos rollback: an earlier version becomes the newest."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet, Reason


def run(
    cube: Cube,
    number: Annotated[int, typer.Argument(metavar="VERSION", help="The number that memos log shows.")],
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an earlier version the newest one.

    The history keeps all that came between.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.rollback(cube, number, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, notify=out.say)
    out.one(done, [done.message], ids=[str(done.number)])
