"""memos edit: other words or other marks for one memory."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import (
    Cube,
    DryRun,
    Json,
    LockTimeout,
    Owner,
    Priority,
    Quiet,
    Reason,
    Sensitivity,
    Tags,
    Topic,
    TtlDays,
    Type,
)


def run(
    cube: Cube,
    memory: Annotated[list[str], typer.Argument(metavar="ID...", help="A memory's id, or its first digits.")],
    text: Annotated[str | None, typer.Option("--text", help="The new words, or - for stdin.")] = None,
    type: Type = None,
    topic: Topic = None,
    tag: Tags = None,
    sensitivity: Sensitivity = None,
    ttl: TtlDays = None,
    owner: Owner = None,
    priority: Priority = None,
    accept: Annotated[bool, typer.Option("--accept", help="Recall what a model wrote (the state generated).")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Change memories, or accept what a model wrote. New words supersede the old ones, which stay in the history."""
    from memos_cli.console import Output, stdin_text
    from memos_cli.interface import api
    from memos_cli.operation.marking import Marks

    out = Output(json=json, quiet=quiet)
    words = stdin_text() if text == "-" else text
    marks = Marks(type, topic, tuple(tag) if tag else None, sensitivity, ttl, owner, priority)
    done = api.edit(
        cube, memory, text=words, marks=marks, accept=accept, dry_run=dry_run, reason=reason,
        lock_timeout=lock_timeout, notify=out.say,
    )  # fmt: skip
    verb = ("would accept" if dry_run else "accepted") if accept else ("would change" if dry_run else "changed, now")
    out.one(done, [f"version {done.number}: {verb} {', '.join(done.ids)}"], ids=done.ids)
