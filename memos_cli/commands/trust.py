"""memos trust: believe a cube that came from elsewhere."""

from __future__ import annotations

from memos_cli.commands.options import Cube, DryRun, Json, Quiet


def run(cube: Cube, dry_run: DryRun = False, json: Json = False, quiet: Quiet = False) -> None:
    """Believe the memories of a cube that came from elsewhere.

    Until then every query says that they are untrusted: who wrote them may want something of you or your model.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.trust_cube(cube, dry_run=dry_run, notify=out.say)
    said = "was trusted already" if done.was_trusted else "would be trusted" if dry_run else "is trusted from now on"
    signed = f"signed by {done.key}" if done.key else "signed by nobody"
    out.one(done, [f"{done.cube} {said}: from {done.source}, {signed}"], ids=[done.digest])
