"""memos migrate: a cube of an older format becomes one of this, or its memories move to another place."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Embedder, Json, LockTimeout, Quiet, Reason


def run(
    cube: Cube,
    embedder: Embedder = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--table", metavar="PLACE", help="Move the memories to s3://..., gs://... or az://..., or back: local."
        ),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring a cube of an older format to this one, or its memories to another place.

    Files of an older format are kept beside it, in before-migration/. With --table nothing is lost where the memories
    were: earlier versions of the cube still read it.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    if table is None:
        done = api.migrate(cube, embedder=embedder, dry_run=dry_run, notify=out.say)
    else:
        done = api.move_table(
            cube, table, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, notify=out.say,
        )  # fmt: skip
    out.one(done, [done.message], ids=[str(done.number)])
