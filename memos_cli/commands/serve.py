"""memos serve: the Memory API over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Json, Quiet

if TYPE_CHECKING:
    from memos_cli.interface.shared import ServerInfo


def run(
    cubes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CUBE]...", help="What is served: paths or names. [default: all your named cubes]"),
    ] = None,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8008,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Listen at an address that other machines can reach.")
    ] = False,
    model: Annotated[
        str,
        typer.Option("--model", metavar="MODEL", envvar="MEMOS_MODEL", help="Who answers: nano, a folder or hub id."),
    ] = "nano",
    lazy: Annotated[bool, typer.Option("--lazy", help="Load the model when it is first asked.")] = False,
    rate: Annotated[
        str, typer.Option("--rate", metavar="RATE", help="What one client may ask, such as 20/second.")
    ] = "1200/minute",
    max_body: Annotated[
        int, typer.Option("--max-body", metavar="BYTES", min=1024, max=1 << 30, help="The largest request.")
    ] = 4 << 20,
    at_once: Annotated[
        int, typer.Option("--at-once", metavar="N", min=1, max=1024, help="Requests that are worked on at a time.")
    ] = 16,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long one request may take.")
    ] = 60.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Serve memory over HTTP, to clients with keys.

    The Memory API as JSON, and chat completions that are answered from memory. Who may ask what: see memos clients.
    Every access is in the log of its cube. A signal ends it, when what was begun is done.
    """
    from memos_cli.console import Output, to_json
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)

    def ready(told: ServerInfo) -> None:
        import sys

        out.one(told, [told.url], ids=[told.url])
        sys.stdout.flush()
        out.say(f"serving {', '.join(told.cubes[:20]) or 'no cube yet'}; Ctrl-C ends it")

    api.serve(
        cubes or [], host=host, port=port, allow_remote=allow_remote, model=model, lazy=lazy, rate=rate,
        body_bytes=max_body, at_once=at_once, timeout_seconds=timeout, encode=to_json, ready=ready, notify=out.say,
    )  # fmt: skip
