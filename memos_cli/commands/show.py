"""memos show: what a cube says of itself, or one memory in full."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, Json, Quiet, Version


def run(
    cube: Cube,
    memory: Annotated[str | None, typer.Argument(metavar="[ID]", help="A memory's id, or its first digits.")] = None,
    version: Version = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a cube, or one memory of it, in full."""
    from memos_cli.console import Output, cell, plain
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    found = api.show_memory(cube, memory, version=version) if memory else api.show(cube, version=version)
    values = plain(found)
    lines = (
        f"{name.replace('_', ' ')}\t{cell(_flat(value))}"
        for name, value in values.items()
        if value not in (None, "", [], {})
    )
    out.one(found, lines, ids=[values["id"]])


def _flat(value: object) -> object:
    return ", ".join(f"{key} -> {item}" for key, item in value.items()) if isinstance(value, dict) else value
