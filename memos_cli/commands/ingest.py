"""memos ingest: notes, chats, tables and code into a cube."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import (
    Cube,
    DecayDays,
    DryRun,
    Embedder,
    EngineName,
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
    TtlDays,
    Type,
    Workers,
    WriteScope,
    Yes,
    engine_of,
    insisted,
)

if TYPE_CHECKING:
    from memos_cli.cube.extracted import Estimate
    from memos_cli.interface.extracting import Extract
    from memos_cli.interface.results import Ingested


def run(
    ctx: typer.Context,
    cube: Cube,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, or - for stdin.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="Read all sources as this format. [default: told from the content]"
        ),
    ] = None,
    type: Type = None,
    topic: Topic = None,
    tag: Tags = None,
    sensitivity: Sensitivity = None,
    read_scope: ReadScope = None,
    write_scope: WriteScope = None,
    share_scope: ShareScope = None,
    ttl: TtlDays = None,
    decay: DecayDays = None,
    owner: Owner = None,
    priority: Priority = None,
    embedder: Embedder = None,
    extract: Annotated[
        str | None,
        typer.Option(
            "--extract",
            metavar="MODEL",
            envvar="MEMOS_EXTRACT",
            help="Let this model write memories too, to be accepted: a folder, a hub id, or a name that the server "
            "of --extract-url knows. [default: none]",
        ),
    ] = None,
    extract_url: Annotated[
        str | None,
        typer.Option(
            "--extract-url",
            metavar="URL",
            envvar="MEMOS_EXTRACT_URL",
            help="An OpenAI-compatible server; the text goes there. The key is read from MEMOS_API_KEY.",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="End memories whose source has vanished from a named folder.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what does not parse, say so, and exit with 10.")
    ] = False,
    engine: EngineName = "local",
    workers: Workers = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put files, folders and chats into a cube.

    The cube is made when there is none. Unchanged sources cost nothing, edited ones only their edited parts.
    Interrupted work is taken up by the same command.
    """
    import sys

    from memos_cli.console import Output, confirm
    from memos_cli.errors import Partial
    from memos_cli.interface import api
    from memos_cli.operation.marking import Marks

    out = Output(json=json, quiet=quiet)
    if prune and not dry_run:
        confirm("--prune ends memories whose sources have vanished;", yes=yes)
    marks = Marks(
        type, topic, tuple(tag) if tag else None, sensitivity, ttl, owner, priority, read_scope, write_scope,
        share_scope, decay,
    )  # fmt: skip

    def agree(cost: Estimate) -> None:
        if yes:
            out.say(_cost(cost))
        confirm(f"{_cost(cost)};", yes=yes)

    wish = _wish(ctx, extract, extract_url, agree)
    done = api.ingest(
        cube, sources, marks=marks, format=format, embedder=embedder if insisted(ctx, "embedder") else None,
        default_embedder=embedder, extract=wish, prune=prune, skip_bad=skip_bad, dry_run=dry_run,
        engine=engine_of(ctx, out, engine, workers, yes=yes), reason=reason,
        stdin=sys.stdin.buffer, lock_timeout=lock_timeout, notify=out.say,
        progress=out.progress("reading"),
    )  # fmt: skip
    if done.extraction and dry_run:
        out.say(_cost(done.extraction))
    if done.extracted:
        out.say(
            f"{done.extracted} memories were extracted and wait: memos list {cube} --all --where state=generated, "
            f"then memos edit {cube} ID... --accept"
        )
    if done.losses and not dry_run:
        out.say("not all of it has a place in a cube; what has none is listed")
    for skip in done.skipped:
        out.say(f"left out {skip}")
    if done.vanished:
        out.say(
            f"{len(done.vanished)} sources have vanished: {', '.join(done.vanished[:5])}; --prune ends their memories"
        )
    out.one(done, _lines(done), ids=[report.uri for report in done.sources if report.status != "unchanged"])
    if done.bad:
        left_out = "\n  ".join(done.bad[:20])
        raise Partial(f"{len(done.bad)} items were left out:\n  {left_out}")


def _wish(ctx: typer.Context, model: str | None, url: str | None, agree: Callable[[Estimate], None]) -> Extract | None:
    """The model that was asked for. Raises Usage for a typed address without one."""
    import os

    from memos_cli.errors import Usage
    from memos_cli.interface.extracting import Extract

    if model in (None, "", "none"):
        typed = ctx.get_parameter_source("extract_url")
        if url and typed is not None and typed.name == "COMMANDLINE":
            raise Usage("--extract-url needs the name of a model", hint="--extract MODEL")
        return None
    # A key is for a server; a model on this machine never sees one.
    key = (os.environ.get("MEMOS_API_KEY") or os.environ.get("OPENAI_API_KEY")) if url else None
    return Extract(str(model), url or None, key or None, agree)


def _cost(cost: Estimate) -> str:
    """What an extraction costs and where the text goes, in a line."""
    where = f"at {cost.host}" if cost.host else "on this machine"
    fate = f"the text leaves this machine for {cost.host}" if cost.leaves_machine else "no text leaves this machine"
    if not cost.host and "/" in cost.model:
        fate += "; the model is downloaded when it is not here yet"
    if not cost.encrypted:
        fate += ", not encrypted on its way"
    if not cost.calls:
        return f"--extract: {cost.model} {where} has read all of it already; nothing to pay"
    calls = "1 call" if cost.calls == 1 else f"{cost.calls} calls"
    return (
        f"--extract: {calls} to {cost.model} {where} with {cost.words:,} words: about {cost.tokens_in:,} "
        f"tokens in, at most {cost.tokens_out_limit:,} out; {fate}"
    )


def _lines(done: Ingested) -> Iterator[str]:
    from memos_cli.console import cell

    for report in done.sources:
        if report.status != "unchanged":
            moved = f"+{report.added} ={report.kept} -{report.superseded}"
            yield f"{report.status}\t{cell(report.uri)}\t{report.format}\t{moved}"
    for loss in done.losses:
        yield f"lost\t{loss.count}\t{cell(loss.kind)}\t{cell(loss.field)}\t{cell(loss.why)}"
    counts = f"{done.added} added, {done.kept} kept, {done.superseded} superseded, {done.chunks_embedded} embedded"
    if done.dry_run:
        yield f"would be: {counts}; {done.text_bytes:,} bytes of text, about {done.estimated_seconds} s of embedding"
    elif done.changed:
        yield f"version {done.number}: {counts} in {done.seconds} s"
    else:
        yield f"nothing changed: version {done.number}, {done.kept} memories"
