"""memos edit: other words or other marks for memories, or for the cube itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import (
    Cube,
    DecayDays,
    DryRun,
    Json,
    LockTimeout,
    Owner,
    Priority,
    Quiet,
    ReadScope,
    Reason,
    Sensitivity,
    ShareScope,
    Tags,
    Topic,
    TrueFrom,
    TrueTo,
    TtlDays,
    Type,
    Where,
    WriteScope,
    refuse,
)

if TYPE_CHECKING:
    from memos_cli.interface.results import Changed


def run(
    cube: Cube,
    memory: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="Memories, or first digits of ids. [default: the cube itself]"),
    ] = None,
    where: Where = None,
    text: Annotated[str | None, typer.Option("--text", help="The new words, or - for stdin.")] = None,
    type: Type = None,
    topic: Topic = None,
    tag: Tags = None,
    sensitivity: Sensitivity = None,
    declassify: Annotated[
        bool, typer.Option("--declassify", help="Lower the label: signed with your key, and needs --reason.")
    ] = False,
    read_scope: ReadScope = None,
    write_scope: WriteScope = None,
    share_scope: ShareScope = None,
    rules: Annotated[
        str | None, typer.Option("--rules", metavar="FILE", help="Take the cube's [access] rules from this TOML file.")
    ] = None,
    ttl: TtlDays = None,
    decay: DecayDays = None,
    hold: Annotated[
        bool | None, typer.Option("--hold/--release", help="Put under legal hold: nothing of it may be lost.")
    ] = None,
    freeze: Annotated[
        bool | None, typer.Option("--freeze/--thaw", help="Keep as it is: recalled, never changed, never expiring.")
    ] = None,
    archive: Annotated[
        bool | None,
        typer.Option("--archive/--restore", help="Set aside: recalled as of a past time only. Or take it back."),
    ] = None,
    owner: Owner = None,
    priority: Priority = None,
    true_from: TrueFrom = None,
    true_to: TrueTo = None,
    accept: Annotated[bool, typer.Option("--accept", help="Recall what a model wrote (the state generated).")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Change memories, who may see them and how long they live; with no ID or filter, those rules of the cube.

    New words supersede the old ones, which stay in the history. --accept lets recall what a model wrote.
    """
    from memos_cli.console import Output, stdin_text
    from memos_cli.interface import api
    from memos_cli.operation.marking import Marks

    out = Output(json=json, quiet=quiet)
    if not memory and not where:
        of_memories = [text, type, topic, tag, owner, priority]
        refuse(
            accept or any(one is not None for one in [*of_memories, archive, true_from, true_to]),
            "those options are for memories: name their ids",
        )
        done = api.govern(
            cube, sensitivity=sensitivity, scopes={"read": read_scope, "write": write_scope, "share": share_scope},
            ttl_days=ttl, decay_days=decay, hold=hold, freeze=freeze, rules=rules, declassify=declassify,
            dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, notify=out.say,
        )  # fmt: skip
        out.one(done, [f"version {done.number}: {done.message}"], ids=[])
        return
    refuse(rules is not None, "--rules are those of the cube itself: leave out ids and --where")
    marks = Marks(
        type, topic, tuple(tag) if tag else None, sensitivity, ttl, owner, priority, read_scope, write_scope,
        share_scope, decay, hold, true_from, true_to,
    )  # fmt: skip
    done = api.edit(
        cube, memory or (), where=where, text=stdin_text() if text == "-" else text, marks=marks, accept=accept,
        freeze=freeze, archive=archive, declassify=declassify, dry_run=dry_run, reason=reason,
        lock_timeout=lock_timeout, notify=out.say,
    )  # fmt: skip
    what = _what(done, accept=accept, archive=archive)
    out.one(done, [f"version {done.number}: {what} {', '.join(done.ids)}"], ids=done.ids)


def _what(done: Changed, *, accept: bool, archive: bool | None) -> str:
    if archive is not None:
        told = "archive" if archive else "restore"
        return f"would {told}" if done.dry_run else f"{told}d"
    if accept:
        return "would accept" if done.dry_run else "accepted"
    if done.verb == "declassify":
        return "would declassify" if done.dry_run else "declassified"
    return "would change" if done.dry_run else "changed, now"
