"""memos migrate: a cube of an older format becomes one of this."""

from __future__ import annotations

from memos_cli.commands.options import Cube, DryRun, Embedder, Json, Quiet


def run(
    cube: Cube, embedder: Embedder = None, dry_run: DryRun = False, json: Json = False, quiet: Quiet = False
) -> None:
    """Bring a cube of an older format to this one.

    The old files are kept beside it, in before-migration/.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.migrate(cube, embedder=embedder, dry_run=dry_run, notify=out.say)
    out.one(done, [done.message], ids=[str(done.number)])
