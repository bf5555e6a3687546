"""memos trust: believe a cube that came from elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, Quiet


def run(
    cube: Cube,
    table: Annotated[
        bool, typer.Option("--table", help="Let its memories be opened where it says that they lie: s3://...")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Believe the memories of a cube that came from elsewhere.

    Until then every query says that they are untrusted: who wrote them may want something of you or your model. With
    --table it is the address of its memories that is believed: memos calls it with the credentials of the environment.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    if table:
        told = api.trust_table(cube, dry_run=dry_run, notify=out.say)
        return out.one(told, [told.message], ids=[str(told.number)])
    done = api.trust_cube(cube, dry_run=dry_run, notify=out.say)
    said = "was trusted already" if done.was_trusted else "would be trusted" if dry_run else "is trusted from now on"
    signed = f"signed by {done.key}" if done.key else "signed by nobody"
    return out.one(done, [f"{done.cube} {said}: from {done.source}, {signed}"], ids=[done.digest])
