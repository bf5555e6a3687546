"""memos mcp: memory for agents and editors, over the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import insisted, refuse


def run(
    ctx: typer.Context,
    cubes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CUBE]...", help="What is served: paths or names. [default: all your named cubes]"),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Let the program at the other end remember and forget too.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="What is remembered counts at once, without memos edit --accept.")
    ] = False,
    client: Annotated[
        str | None,
        typer.Option("--client", metavar="NAME", help="Serve it as this client, within its bounds: see memos clients."),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve clients with keys over HTTP, in the place of stdin and stdout.")
    ] = False,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="With --http: where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="With --http: the port; 0 takes a free one.")
    ] = 8011,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="With --http: a name that clients call this machine by."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", metavar="MODEL", envvar="MEMOS_MODEL", help="Who answers: nano, a folder or hub id."),
    ] = "nano",
) -> None:
    """Serve memory to agents and editors (MCP).

    By the Model Context Protocol, over stdin and stdout, as programs that start their servers want it, or over HTTP.
    Reading only, unless told more; every access is in the log of its cube.
    """
    from memos_cli.console import Output, plain
    from memos_cli.interface.mcp import starting

    out = Output()
    if http:
        refuse(write or client is not None, "--write and --client are for stdin and stdout; over HTTP a key tells who")
        starting.serve_http(
            cubes or [], host=host, port=port, names=allow_host or (), accept=accept, model=model, encode=plain,
            notify=out.say,
        )  # fmt: skip
        return
    refuse(any(insisted(ctx, name) for name in ("host", "port", "allow_host")), "--host and the like go with --http")
    refuse(write and client is not None, "--client says what it may do; --write is for the one that is nobody's")
    refuse(accept and not write and client is None, "--accept goes with --write, --client or --http")
    starting.serve_stdio(
        cubes or [], write=write, accept=accept, client=client, model=model, encode=plain, notify=out.say
    )  # fmt: skip
