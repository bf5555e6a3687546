"""memos pull: a cube from a store."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Offline, Quiet, Require, RetryFor, Sources, travel

PACKAGE = "file:///srv/store/team:1.4.0, oci://host/group/team@sha256:..., or a name that a --source has."


def run(
    source: Annotated[str, typer.Argument(metavar="PACKAGE", help=PACKAGE)],
    cube: Annotated[
        str | None, typer.Argument(metavar="[CUBE]", help="Where to: a path or a name. [default: ./NAME.cube]")
    ] = None,
    sources: Sources = None,
    require: Require = None,
    pre: Annotated[bool, typer.Option("--pre", help="Take a pre-release too, when it is the newest.")] = False,
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Get a cube from a store, or the newest version of one that was pulled before.

    Every byte is verified before anything is at its place; only what is not there yet travels, and a pull that was
    stopped goes on where it was. Without a version the newest is taken.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.pull(
        source, cube, require=require, pre=pre, dry_run=dry_run, travel=travel(sources, offline, retry_for),
        notify=out.say, progress=out.progress("pulling"),
    )  # fmt: skip
    if not done.changed:
        out.one(done, [f"{done.cube} is {done.name} {done.version} already"], ids=[done.digest])
        return
    verb = "would take" if dry_run else "took"
    was = f" (it was {done.before})" if done.before else ""
    licence = done.licence or "no licence is told"
    lines = [
        f"{verb} {done.reference} in as {done.cube}{was}: {done.memories} memories, {licence}",
        f"{done.travelled:,} bytes travelled of {done.bytes:,}; digest {done.digest}",
        f"signed by {done.key}" if done.key else "signed by nobody",
    ]
    out.one(done, lines, ids=[done.digest])
    if not done.trusted:
        out.say(f"what is in it is somebody else's word; memos trust {done.cube} makes it yours")
