"""memos yank: a version that nothing should choose any more."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Offline, Quiet, Reason, RetryFor, Sources, travel


def run(
    source: Annotated[str, typer.Argument(metavar="PACKAGE:VERSION", help="Such as file:///srv/store/team:1.4.0.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let it be chosen again.")] = False,
    reason: Reason = "",
    sources: Sources = None,
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take a published version back: nothing chooses it any more.

    It stays where it is, so that what asks for this very version, by a lock or by name, still gets it, with a warning.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.yank(
        source, undo=undo, reason=reason, dry_run=dry_run, travel=travel(sources, offline, retry_for), notify=out.say
    )
    what = "is taken back" if done.yanked else "may be chosen again"
    out.one(done, [f"{done.reference} {'would be so: it ' if dry_run else ''}{what}"], ids=[done.reference])
