"""memos search: packages by their words."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Json, Offline, Quiet, RetryFor, Sources, travel


def run(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Words of a name or description. [default: all]")
    ] = None,
    sources: Sources = None,
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find packages in your sources, with licence and size."""
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    found = api.search(words or [], travel=travel(sources, offline, retry_for), notify=out.say)
    columns = {
        "package": lambda one: one.reference,
        "description": lambda one: one.description,
        "licence": lambda one: one.licence,
        "memories": lambda one: one.memories,
        "bytes": lambda one: one.bytes,
    }
    out.rows(found, columns, ids=lambda one: one.reference)
