"""memos index: a folder of packages that can be searched over the web."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Quiet


def run(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The store: a folder with a folder per package.")],
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the index of a store in a folder: any web server that hands it out is then a store to search.

    Run it again after each push.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.index(folder, dry_run=dry_run, notify=out.say)
    verb = "would tell" if dry_run else "tells"
    out.one(done, [f"{done.path} {verb} of {done.packages} packages in {done.versions} versions"], ids=[done.path])
