"""memos query: find memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, Embedder, Json, Quiet, Where, insisted

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.found import Found, Hit


# How many memories are shown, and how many are at hand to fill a budget with.
SHOWN, PACKED = 5, 50


def run(
    ctx: typer.Context,
    cube: Cube,
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT|-]", help="What you want to know; with - or a pipe, a prompt a line, or JSONL."),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--with", metavar="CUBE", help="Another cube to ask too; may be given again.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", "--limit", metavar="N", min=1, max=1000, help="At most so many. [default: 5, with --budget 50]"
        ),
    ] = None,
    mode: Annotated[str, typer.Option("--mode", metavar="MODE", help="hybrid, vector or text.")] = "hybrid",
    where: Where = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", help="What was valid then, such as 2024-05-17.")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", metavar="TOKENS", min=1, help="Pack a context with citations into so many tokens."),
    ] = None,
    context: Annotated[
        int, typer.Option("--context", metavar="N", min=0, max=5, help="Show so many neighbours of each memory.")
    ] = 0,
    rerank: Annotated[bool, typer.Option("--rerank", help="Compare word by word too: slower, finds more.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each signal gave.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="FOLDER", envvar="MEMOS_MODEL", help="Count the tokens of --budget as this model does."
        ),
    ] = None,
    embedder: Embedder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the memories that answer a question.

    Each comes with its place: file and line, page, or turn. With no text, prompts come from stdin.
    """
    import sys

    from memos_cli.console import Output, stdin_lines
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    # a default is for new cubes; of cubes that are there it can only switch the vectors off
    chosen = embedder if insisted(ctx, "embedder") or embedder == "none" else None
    most = k or (PACKED if budget else SHOWN)
    piped = text == "-" or (text is None and not sys.stdin.isatty())
    calls = api.prompts(stdin_lines()) if piped else [text or ""]
    results = api.query_many(
        [cube, *(also or [])], calls, k=most, mode=mode, where=where, as_of=as_of, budget=budget, context=context,
        rerank=rerank, embedder=chosen, model=model, notify=out.say,
    )  # fmt: skip
    told: set[str] = set()
    for found in results:
        for signal in found.missing:
            if signal not in told:
                told.add(signal)
                out.say(f"without {signal}")
        _print(out, found, explain=explain, many=piped)


def _print(out: Output, found: Found, *, explain: bool, many: bool) -> None:
    if not found.hits:
        out.say(f"nothing found for {found.query[:80]!r}")
    if out.json or out.quiet or found.context is not None or explain or out.terminal:
        out.one(found, _lines(found, explain=explain, many=many), ids=[hit.id for hit in found.hits])
        return
    columns = {
        "rank": lambda h: h.rank, "score": lambda h: f"{h.score:.3f}", "id": lambda h: h.id, "place": lambda h: h.place,
        "speaker": lambda h: h.speaker, "time": lambda h: h.time.isoformat() if h.time else "",
        "text": lambda h: h.text,
    }  # fmt: skip
    if any(hit.before or hit.after for hit in found.hits):
        columns["before"] = lambda h: " / ".join(beside.text for beside in h.before)
        columns["after"] = lambda h: " / ".join(beside.text for beside in h.after)
    if len(found.cubes) > 1:
        columns = {"cube": lambda h: h.cube, **columns}
    if many:
        columns = {"query": lambda h: found.query, **columns}
    out.rows(found.hits, columns, ids=lambda h: h.id)


def _lines(found: Found, *, explain: bool, many: bool) -> Iterator[str]:
    if many:
        yield f"? {found.query}"
    if found.context is not None:
        yield found.context
        return
    for hit in found.hits:
        cube = f"{hit.cube}  " if len(found.cubes) > 1 else ""
        yield f"{hit.rank}. {cube}{_heading(hit)}"
        yield from (f"   . {beside.text}" for beside in hit.before)
        yield from (f"   {line}" for line in hit.text.splitlines())
        yield from (f"   . {beside.text}" for beside in hit.after)
        if explain:
            shares = ", ".join(f"{name} {value:+.2f}" for name, value in hit.signals.items())
            yield f"   = {hit.score:.2f}: {shares}"
    if explain:
        spent = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in found.seconds.items())
        yield f"profile {found.profile}, mode {found.mode}; {spent}"


def _heading(hit: Hit) -> str:
    said = f"  {hit.speaker}" if hit.speaker else ""
    when = f"  {hit.time.date().isoformat()}" if hit.time else ""
    return f"{hit.place}{said}{when}"
