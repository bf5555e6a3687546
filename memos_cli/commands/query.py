"""memos query: find memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, Embedder, Json, LockTimeout, Quiet, Where, Yes, insisted

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.found import Answered, Found, Hit
    from memos_cli.interface.sending import Destination, Server


# How many memories are shown, and how many are at hand to fill a budget with.
SHOWN, PACKED = 5, 50
RUNTIMES = ("local", "openai")


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
            "-k",
            "--limit",
            metavar="N",
            min=1,
            max=1000,
            help="At most so many. [default: 5, with --budget 50, with --answer what the model reads best]",
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
    answer: Annotated[
        bool, typer.Option("--answer", help="Have a model answer from what is found, citing it.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            envvar="MEMOS_MODEL",
            help="nano (comes with memos), a folder or a hub id: who answers, and whose tokens --budget counts. With "
            "--runtime openai a name that the server knows. [default: nano for --answer]",
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            metavar="NAME",
            envvar="MEMOS_RUNTIME",
            help="Who runs the model: local (this machine), or openai (an OpenAI-compatible server).",
        ),
    ] = "local",
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            envvar="MEMOS_BASE_URL",
            help="Where that server is; question and memories go there. The key is read from MEMOS_API_KEY.",
        ),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            "--floor",
            metavar="X",
            min=0,
            max=1,
            help="Answer only when a memory is so close, 0 to 1. [default: 0.3, by words alone 0.1]",
        ),
    ] = None,
    remember: Annotated[
        bool, typer.Option("--remember", help="Write question and answer back; they wait for memos edit --accept.")
    ] = False,
    embedder: Embedder = None,
    yes: Yes = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the memories that answer a question, or have a model answer from them.

    Each comes with its place: file and line, page, or turn. With no text, prompts come from stdin.
    """
    import sys

    from memos_cli.console import Output, stdin_lines
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    # a default is for new cubes; of cubes that are there it can only switch the vectors off
    chosen = embedder if insisted(ctx, "embedder") or embedder == "none" else None
    piped = text == "-" or (text is None and not sys.stdin.isatty())
    calls = api.prompts(stdin_lines()) if piped else [text or ""]
    if answer:
        _refuse(context > 0, "--context shows the neighbours of what is found; an answer has none")
        aloud = out.piece if out.terminal and not (json or quiet or piped) else None
        answers = api.answer_many(
            [cube, *(also or [])], calls, model=model or "nano",
            server=_server(ctx, out, runtime, base_url, model, yes=yes), floor=floor, k=k, budget=budget, mode=mode,
            where=where, as_of=as_of, rerank=rerank, embedder=chosen, on_text=aloud, notify=out.say,
        )  # fmt: skip
        done = _told(out, answers, explain=explain, many=piped, aloud=aloud is not None, wait=remember and json)
        if remember:
            _remember(out, cube, done, embedder=chosen, lock_timeout=lock_timeout)
        return
    _refuse(remember, "--remember writes an answer back, so it needs --answer")
    _refuse(floor is not None, "--floor is for an answer, so it needs --answer")
    _refuse(insisted(ctx, "runtime"), "--runtime says who answers, so it needs --answer")
    _refuse(insisted(ctx, "base_url"), "--base-url is where the answer comes from, so it needs --answer")
    most = k or (PACKED if budget else SHOWN)
    results = api.query_many(
        [cube, *(also or [])], calls, k=most, mode=mode, where=where, as_of=as_of, budget=budget, context=context,
        rerank=rerank, embedder=chosen, model=model, notify=out.say,
    )  # fmt: skip
    told: set[str] = set()
    for found in results:
        _say_missing(out, found, told)
        _print(out, found, explain=explain, many=piped)


def _refuse(wrong: bool, message: str) -> None:
    from memos_cli.errors import Usage

    if wrong:
        raise Usage(message)


def _server(
    ctx: typer.Context, out: Output, runtime: str, url: str | None, model: str | None, *, yes: bool
) -> Server | None:
    """The server that is to answer; None for this machine. Raises Usage for one that is not told, or not meant."""
    import os

    from memos_cli.errors import Usage
    from memos_cli.interface.sending import Server

    _refuse(runtime not in RUNTIMES, f"expected --runtime {' or '.join(RUNTIMES)}, found {runtime!r}")
    if runtime == "local":
        _refuse(insisted(ctx, "base_url"), "--base-url is for a server, so it needs --runtime openai")
        return None
    if not url:
        raise Usage("--runtime openai needs the address of a server", hint="--base-url http://localhost:8000/v1")
    if not model:
        raise Usage("--runtime openai needs the name of a model that the server knows", hint="--model NAME")
    key = os.environ.get("MEMOS_API_KEY") or os.environ.get("OPENAI_API_KEY")
    return Server(url, key or None, lambda there: _agree(out, there, yes=yes))


def _agree(out: Output, there: Destination, *, yes: bool) -> None:
    from memos_cli.console import confirm

    if there.leaves_machine:
        plainly = "" if there.encrypted else ", not encrypted on its way"
        told = f"question and memories leave this machine for {there.host}{plainly}, to be read by {there.model};"
        if yes:
            out.say(told.removesuffix(";"))
        confirm(told, yes=yes)


def _say_missing(out: Output, found: Found | Answered, told: set[str]) -> None:
    """Says once what could not be used."""
    for signal in found.missing:
        if signal not in told:
            told.add(signal)
            out.say(f"without {signal}")


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


def _told(
    out: Output, answers: Iterator[Answered], *, explain: bool, many: bool, aloud: bool, wait: bool
) -> list[Answered]:
    """Prints each answer as it comes, unless it is to `wait` for what becomes of it; all of them."""
    told: set[str] = set()
    done = []
    try:
        for answered in answers:
            out.end_line()
            _say_missing(out, answered, told)
            if not wait:
                lines = _answer_lines(answered, explain=explain, many=many, aloud=aloud)
                out.one(answered, lines, ids=[citation.id for citation in answered.citations])
            _say_why(out, answered)
            done.append(answered)
    finally:
        out.end_line()
    return done


def _answer_lines(answered: Answered, *, explain: bool, many: bool, aloud: bool) -> Iterator[str]:
    if many:
        yield f"? {answered.query}"
    if answered.answer is None:
        yield "not in memory"
    elif not aloud:  # else it stands there already
        yield answered.answer
    hits = {hit.rank: hit for hit in answered.hits}
    for citation in answered.citations:
        cube = f"{citation.cube}  " if len(answered.cubes) > 1 else ""
        yield f"[{citation.number}] {cube}{_heading(hits[citation.number])}"
    if explain:
        yield from (f"given [{hit.rank}] {hit.place}: {' '.join(hit.text.split())}" for hit in answered.hits)
        spent = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in answered.seconds.items())
        about = "about " if answered.tokens_by.startswith("estimate") else ""
        tokens = f"{about}{answered.prompt_tokens} tokens read, {answered.answer_tokens} written"
        who = f"{answered.model} at {answered.host}" if answered.host else answered.model
        yield f"closeness {answered.closeness:.2f}, floor {answered.floor:.2f}; {who}, {tokens}; {spent}"


def _say_why(out: Output, answered: Answered) -> None:
    if answered.reason == "floor":
        near = f"the closest memory is {answered.closeness:.2f} close, the floor is {answered.floor:.2f}"
        out.say(near if answered.hits else "nothing found to answer from")
    elif answered.reason == "model":
        out.say(f"{answered.model} does not find it in the {len(answered.hits)} closest memories")
    elif answered.reason == "unfounded":
        out.say(f"{answered.model} wrote what is in none of the {len(answered.hits)} closest memories")
    elif answered.cited_by == "given":
        out.say(f"{answered.model} names none of the memories: these are all that it was given")
    if answered.cut:
        out.say("the answer is cut: it is longer than the limit")


def _remember(out: Output, cube: str, done: list[Answered], *, embedder: str | None, lock_timeout: float) -> None:
    """Writes the answers back, and prints those that waited for it, however it ends."""
    from memos_cli.interface import api

    try:
        if any(answered.answer is not None for answered in done):
            done = api.remember(cube, done, embedder=embedder, lock_timeout=lock_timeout, notify=out.say)
        else:
            out.say("nothing to remember: there is no answer")
    finally:
        for answered in done if out.json else ():
            out.one(answered, [])
    kept = [answered.remembered for answered in done if answered.remembered]
    fresh = [identity for each in kept if each.fresh for identity in each.ids]
    if fresh:
        shown = " ".join(fresh[:5]) + (" ..." if len(fresh) > 5 else "")
        out.say(
            f"version {kept[0].number}: remembered, not recalled until accepted: memos edit {cube} {shown} --accept"
        )
    elif kept:
        out.say("remembered already; no new version")
