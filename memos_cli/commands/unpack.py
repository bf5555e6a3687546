"""memos unpack: a cube of one file."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Quiet


def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A package, as memos pack writes it.")],
    cube: Annotated[str | None, typer.Argument(metavar="[DIR]", help="Where to. [default: NAME.cube here]")] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", "-i", metavar="FILE", help="The key of an encrypted package.")
    ] = None,
    require: Annotated[
        str | None,
        typer.Option("--require", metavar="WHAT", help="signed, digest or none, whatever trust.toml says."),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a cube of a package.

    Every byte is verified before anything is in its place. Its memories are untrusted until you say otherwise, or a key
    that you trust signed them.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.unpack(
        file, cube, identity=identity, require=require, dry_run=dry_run, notify=out.say,
        progress=out.progress("unpacking"),
    )  # fmt: skip
    would = "would make " if dry_run else ""
    signed = f"signed by {done.key}" if done.key else "signed by nobody"
    lines = [f"{would}{done.cube}: {done.name} {done.version}, {done.memories} memories, {signed}", done.digest]
    if not done.trusted and not dry_run:
        out.say(f"its memories are untrusted until: memos trust {done.cube}")
    out.one(done, lines, ids=[done.digest])
