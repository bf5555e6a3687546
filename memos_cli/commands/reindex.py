"""memos reindex: vectors and indexes made anew."""

from __future__ import annotations

import typer

from memos_cli.commands.options import (
    Cube,
    DryRun,
    Embedder,
    EngineName,
    Json,
    LockTimeout,
    Quiet,
    Reason,
    Workers,
    Yes,
    engine_of,
    insisted,
)


def run(
    ctx: typer.Context,
    cube: Cube,
    embedder: Embedder = None,
    engine: EngineName = "local",
    workers: Workers = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make all vectors and indexes anew.

    With another embedder if you like; needs no source files.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.reindex(
        cube, embedder=embedder if insisted(ctx, "embedder") else None, dry_run=dry_run,
        engine=engine_of(ctx, out, engine, workers, yes=yes), reason=reason, lock_timeout=lock_timeout, notify=out.say,
        progress=out.progress("embedding"),
    )  # fmt: skip
    out.one(done, [f"version {done.number}: {done.message}"], ids=[str(done.number)])
