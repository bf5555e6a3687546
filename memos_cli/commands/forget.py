"""memos forget: hide memories."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet, Reason, Where


def run(
    cube: Cube,
    ids: Annotated[
        list[str] | None, typer.Option("--ids", metavar="ID", help="A memory; may be given again, or with commas.")
    ] = None,
    where: Where = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hide memories from every query.

    Their text stays in the cube's files until it is purged.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    chosen = [part for given in ids or [] for part in given.replace(",", " ").split()]
    done = api.forget(
        cube, ids=chosen, where=where, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, notify=out.say
    )
    lines = (
        [f"would hide {identity}" for identity in done.ids] if dry_run else [f"version {done.number}: {done.message}"]
    )
    out.one(done, lines, ids=done.ids)
