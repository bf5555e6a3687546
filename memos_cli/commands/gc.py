"""memos gc: old versions out."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet, Yes


def run(
    cube: Cube,
    keep: Annotated[int | None, typer.Option("--keep", metavar="N", min=1, help="[default: the cube's policy]")] = None,
    prune: Annotated[
        float | None,
        typer.Option("--prune", metavar="DAYS", min=0, help="Take out memories too that ended so many days ago."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Mark memories that have outlived their time as expired, and remove old versions.

    The newest, the tagged and those being read are kept. --prune takes memories out that are expired, superseded or
    archived for so many days, 0 for all of them: --as-of does not find them then.
    """
    from memos_cli.console import Output, confirm
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    if not dry_run:
        confirm("gc removes old versions for good;", yes=yes)
    done = api.gc(cube, keep=keep, prune_days=prune, dry_run=dry_run, lock_timeout=lock_timeout, notify=out.say)
    verb = "would remove" if dry_run else "removed"
    numbers = ", ".join(map(str, done.removed)) or "none"
    lines = [f"{verb} versions {numbers}; {done.freed_bytes:,} bytes; {len(done.kept)} kept"]
    if done.expired:
        would = "would be " if dry_run else ""
        lines.append(
            f"{len(done.expired)} memories {would}expired; memos forget {cube} --where state=expired hides them"
        )
    if done.pruned:
        lines.append(f"{len(done.pruned)} memories that had ended {'would be ' if dry_run else ''}taken out")
    if done.held:
        lines.append(f"spared, being read: {', '.join(map(str, done.held))}")
    out.one(done, lines, ids=[str(number) for number in done.removed])
