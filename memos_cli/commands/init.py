"""memos init: a new cube."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, Embedder, Json, Quiet


def run(
    cube: Cube,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="CUBE", help="Start as a copy of this cube, owned by you."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Its name. [default: the folder's]")] = None,
    description: Annotated[str, typer.Option("--description", help="What it holds, in a sentence.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="An SPDX id such as CC-BY-4.0.")] = "",
    sensitivity: Annotated[
        str | None,
        typer.Option(
            "--sensitivity",
            metavar="LEVEL",
            help="public, internal, confidential or restricted. [default: internal, or that of the copied cube]",
        ),
    ] = None,
    embedder: Embedder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an empty cube, or a copy of another one."""
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    made = api.init(
        cube, name=name, description=description, licence=licence, sensitivity=sensitivity, embedder=embedder,
        source=source, notify=out.say,
    )  # fmt: skip
    out.one(made, [f"made {made.path} (version {made.number})"], ids=[made.id])
