"""memos query: find memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_cli.commands.options import (
    Embedder,
    GateExact,
    GateRecovered,
    GateTop1,
    Json,
    LockTimeout,
    OptionalCube,
    Quiet,
    Where,
    Yes,
    insisted,
    limits,
    refuse,
)  # fmt: skip

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.found import Answered, Days, Found, Hit, PromptRead, TimeNamed
    from memos_cli.interface.reader import Reads
    from memos_cli.interface.sending import Server


# How many memories are shown, and how many are at hand to fill a budget with.
SHOWN, PACKED = 5, 50
ONLY = {
    "told": "what is of then or tells of then", "known": "what was known at the end of then",
    "true": "what was so at the end of then", "added": "what was put into memory then",
}  # fmt: skip
# Of what is not shown, so many are told by --explain; --json tells more.
MISSED = 5
# Cubes of a vault that were not opened and are told of.
UNOPENED = 3
ABOUT = {
    "told": "what memories tell of", "known": "what was known then", "true": "what was true then",
    "added": "when they were kept",
}  # fmt: skip
RUNTIMES = ("local", "openai")


def run(
    ctx: typer.Context,
    cube: OptionalCube = None,
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT|-]", help="What you want to know; with - or a pipe, a prompt a line, or JSONL."),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--with", metavar="CUBE", help="Another cube to ask too; may be given again.")
    ] = None,
    vault: Annotated[
        bool,
        typer.Option("--vault", help="Ask all your named cubes, without CUBE: the few that promise most are opened."),
    ] = False,
    vault_cubes: Annotated[
        int, typer.Option("--vault-cubes", metavar="N", min=1, max=50, help="With --vault: open at most so many.")
    ] = 5,
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
        str | None, typer.Option("--as-of", metavar="TIME", help="What the cube knew then, such as 2024-05-17.")
    ] = None,
    true_at: Annotated[
        str | None,
        typer.Option("--true-at", metavar="TIME", help="What was true then, as far as is known; such as 2022."),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", metavar="TOKENS", min=1, help="Pack a context with citations into so many tokens."),
    ] = None,
    context: Annotated[
        int, typer.Option("--context", metavar="N", min=0, max=5, help="Show so many neighbours of each memory.")
    ] = 0,
    rerank: Annotated[bool, typer.Option("--rerank", help="Compare word by word too: slower, finds more.")] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show how the prompt was understood, what was weighed, and why it ranks so."),
    ] = False,
    time_scope: Annotated[
        str,
        typer.Option(
            "--time-scope",
            metavar="HOW",
            help="What a time in the prompt does: auto (memories of then rank higher), only (no others), off.",
        ),
    ] = "auto",
    reader: Annotated[
        str | None,
        typer.Option(
            "--reader",
            metavar="MODEL",
            envvar="MEMOS_READER",
            help="Have a model read the prompt: a folder or hub id, or a name that the server at --base-url knows.",
        ),
    ] = None,
    by_use: Annotated[
        bool, typer.Option("--by-use", help="Rank what helped answers before a little higher, by the access log.")
    ] = False,
    measure_use: Annotated[
        bool,
        typer.Option("--measure-use", help="With --answer: note how much each memory helped; slower."),
    ] = False,
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
    form: Annotated[
        str,
        typer.Option(
            "--form",
            metavar="FORM",
            help="How memories reach the model: auto, plaintext, activation (memos convert) or parameter (distill).",
        ),
    ] = "auto",
    gate_top1: GateTop1 = None,
    gate_exact: GateExact = None,
    gate_recovered: GateRecovered = None,
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
    cube, text = _asked(ctx, cube, text, vault=vault, also=also or [])
    # a default is for new cubes; of cubes that are there it can only switch the vectors off
    chosen = embedder if insisted(ctx, "embedder") or embedder == "none" else None
    piped = text == "-" or (text is None and not sys.stdin.isatty())
    calls = api.prompts(stdin_lines()) if piped else [text or ""]
    reads = _reads(out, reader, base_url, yes=yes)
    if answer:
        from memos_cli.commands.answers import remember_all, tell

        refuse(vault, "--vault finds; name the cubes it finds in to have a model answer from them")
        refuse(context > 0, "--context shows the neighbours of what is found; an answer has none")
        aloud = out.piece if out.terminal and not (json or quiet or piped) else None
        answers = api.answer_many(
            [cube, *(also or [])], calls, model=model or "nano",
            server=_server(ctx, out, runtime, base_url, model, yes=yes, reader=reader), form=form,
            limits=limits(gate_top1, gate_exact, gate_recovered), floor=floor, k=k, budget=budget, mode=mode,
            where=where, as_of=as_of, true_at=true_at, rerank=rerank, time_scope=time_scope, reads=reads,
            by_use=by_use, measure_use=measure_use, embedder=chosen, on_text=aloud, to=out.destination, notify=out.say,
        )  # fmt: skip
        done = tell(out, answers, explain=explain, many=piped, aloud=aloud is not None, wait=remember and json)
        if remember:
            remember_all(out, cube, done, embedder=chosen, lock_timeout=lock_timeout)
        return
    refuse(remember, "--remember writes an answer back, so it needs --answer")
    refuse(measure_use, "--measure-use is about an answer, so it needs --answer")
    refuse(floor is not None, "--floor is for an answer, so it needs --answer")
    refuse(insisted(ctx, "runtime"), "--runtime says who answers, so it needs --answer")
    refuse(
        insisted(ctx, "base_url") and not reader,
        "--base-url is where the answer comes from, so it needs --answer (or --reader, to read the prompt)",
    )
    most = k or (PACKED if budget else SHOWN)
    wishes: dict[str, Any] = {
        "k": most, "mode": mode, "where": where, "as_of": as_of, "true_at": true_at, "budget": budget,
        "context": context, "rerank": rerank, "time_scope": time_scope, "reads": reads, "explain": explain,
        "by_use": by_use, "embedder": chosen, "model": model, "to": out.destination, "notify": out.say,
    }  # fmt: skip
    if vault:
        results = api.query_vault(calls, most=vault_cubes, **wishes)
    else:
        results = api.query_many([cube, *(also or [])], calls, **wishes)
    told: set[str] = set()
    for found in results:
        say_missing(out, found, told)
        _print(out, found, explain=explain, many=piped)


def _asked(
    ctx: typer.Context, cube: str | None, text: str | None, *, vault: bool, also: list[str]
) -> tuple[str, str | None]:
    """The cube and the text that are meant. Raises Usage; with --vault the only word is the text."""
    from memos_cli.errors import Usage

    if vault:
        refuse(cube is not None and text is not None, "--vault asks all your named cubes: give the text, and no CUBE")
        refuse(bool(also), "--vault asks all your named cubes: without --with")
        return "", text if cube is None else cube
    refuse(insisted(ctx, "vault_cubes"), "--vault-cubes goes with --vault")
    if cube is None:
        raise Usage("expected a CUBE to ask", hint="memos query CUBE TEXT, or memos query --vault TEXT")
    return cube, text


def say_missing(out: Output, found: Found | Answered, told: set[str]) -> None:
    """Says once what could not be used, and which cubes nobody vouched for."""
    doubts = [f"{cube} came from elsewhere and is untrusted until: memos trust {cube}" for cube in found.untrusted]
    for line in [*(f"without {signal}" for signal in found.missing), *doubts]:
        if line not in told:
            told.add(line)
            out.say(line)
    say_time(out, found)


def say_time(out: Output, found: Found | Answered) -> None:
    """Says when the words of a prompt left memories out, which no option did."""
    time = found.prompt.time
    if time and time.effect == "filter":
        out.say(f"only {ONLY[time.about]}, as {time.words!r} says; --time-scope off asks all")


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
    if any(hit.contradicts for hit in found.hits):
        columns["contradicts"] = lambda h: " / ".join(f"{other.place}: {other.text}" for other in h.contradicts)
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
    if explain:
        yield from understood(found.prompt)
        yield from _picked(found)
    reasons = {one.id: one.why for one in found.candidates}
    for hit in found.hits:
        cube = f"{hit.cube}  " if len(found.cubes) > 1 else ""
        yield f"{hit.rank}. {cube}{heading(hit)}"
        yield from (f"   . {beside.text}" for beside in hit.before)
        yield from (f"   {line}" for line in hit.text.splitlines())
        yield from (f"   . {beside.text}" for beside in hit.after)
        yield from (f"   ! contradicts {other.place}: {' '.join(other.text.split())}" for other in hit.contradicts)
        if explain:
            shares = ", ".join(f"{name} {value:+.2f}" for name, value in hit.signals.items() if abs(value) >= 0.005)
            yield f"   why {reasons.get(hit.id, '')}"
            yield f"   = {hit.score:.2f}: {shares}"
    if explain:
        yield from _others(found)
        spent = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in found.seconds.items())
        yield f"profile {found.profile}, mode {found.mode}; {spent}"


def _picked(found: Found) -> Iterator[str]:
    """Which cubes of the vault were opened and why, and the next that were not."""
    if found.vault is None:
        return
    opened = sum(each.opened for each in found.vault.cubes)
    yield f"vault     {opened} of {found.vault.considered} cubes opened; picked in {1000 * found.vault.seconds:.0f} ms"
    for each in found.vault.cubes:
        if each.opened or each.left_out or each.rank <= opened + UNOPENED:
            near = "" if each.closeness is None else f", closeness {each.closeness:.2f}"
            said = f", says {', '.join(each.words[:6])}" if each.words else ""
            state = "opened" if each.opened else f"left out: {each.left_out}" if each.left_out else "not opened"
            yield f"  {each.rank}. {each.cube}  {state}; {each.score:.2f}{near}{said}"


def understood(read: PromptRead) -> Iterator[str]:
    """The structured call, a line for each part that there is."""
    yield f"asks for  {read.intent}, searched as: {read.words}"
    if read.entities:
        yield f"names     {', '.join(f'{one.text} ({one.kind})' for one in read.entities)}"
    if read.time:
        yield f"time      {_time(read.time)}"
    if read.topic:
        yield f"topic     {read.topic}"
    yield f"forms     {', '.join(read.forms)} can serve it; read by {read.read_by}"


def _time(time: TimeNamed) -> str:
    spans = "; ".join(_days(one) for one in time.days) or "that day of any year"
    about = ABOUT[time.about]
    effect = {"raised": "those rank higher", "filter": "no others are shown", "nothing": "passed over"}[time.effect]
    return f"{time.words!r} = {spans}: {about}; {effect}"


def _days(days: Days) -> str:
    if days.first == days.last:
        return days.first or "any day"
    return f"{days.first or '...'} to {days.last or '...'}"


def _others(found: Found) -> Iterator[str]:
    """The best of what was weighed and is not shown."""
    rest = [one for one in found.candidates if not one.shown]
    if rest:
        yield f"the next of {found.considered} that were weighed:"
    for one in rest[:MISSED]:
        cube = f"{one.cube}  " if len(found.cubes) > 1 else ""
        yield f"{one.rank}. {cube}{one.place}: {one.text[:60]}"
        yield f"   why {one.why}"


def heading(hit: Hit) -> str:
    said = f"  {hit.speaker}" if hit.speaker else ""
    when = f"  {hit.time.date().isoformat()}" if hit.time else ""
    return f"{hit.place}{said}{when}"


def _reads(out: Output, reader: str | None, url: str | None, *, yes: bool) -> Reads | None:
    """Who reads prompts, if a model was named for it."""
    if not reader:
        return None
    from memos_cli.commands.options import server_at
    from memos_cli.interface import api

    return api.Reads(reader, server_at(out, url, "prompts", yes=yes) if url else None)


def _server(
    ctx: typer.Context,
    out: Output,
    runtime: str,
    url: str | None,
    model: str | None,
    *,
    yes: bool,
    reader: str | None,
) -> Server | None:
    """The server that is to answer; None for this machine. Raises Usage for one that is not told, or not meant."""

    from memos_cli.commands.options import server_at
    from memos_cli.errors import Usage

    refuse(runtime not in RUNTIMES, f"expected --runtime {' or '.join(RUNTIMES)}, found {runtime!r}")
    if runtime == "local":
        wrong = insisted(ctx, "base_url") and not reader
        refuse(wrong, "--base-url is for a server, so it needs --runtime openai, or --reader")
        return None
    if not url:
        raise Usage("--runtime openai needs the address of a server", hint="--base-url http://localhost:8000/v1")
    if not model:
        raise Usage("--runtime openai needs the name of a model that the server knows", hint="--model NAME")
    return server_at(out, url, "question and memories", yes=yes)
