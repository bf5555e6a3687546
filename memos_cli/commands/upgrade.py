"""memos upgrade: newer versions of the cubes of a project."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.install import File, tell
from memos_cli.commands.options import DryRun, Json, Offline, Quiet, Require, RetryFor, Sources, travel


def run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these, and what they require. [default: all]")
    ] = None,
    file: File = "cubes.toml",
    sources: Sources = None,
    require: Require = None,
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take the newest versions that cubes.toml allows, and write them to memos.lock.

    memos outdated says what there is; a dry run what would be done.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.install(
        file, upgrade=names or [], require=require, dry_run=dry_run, travel=travel(sources, offline, retry_for),
        notify=out.say, progress=out.progress("upgrading"),
    )  # fmt: skip
    tell(out, done)
