"""memos init: a new cube."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memos_cli.commands.options import Cube, Embedder, Json, Quiet


def _scope(flag: str, may: str, default: str) -> Any:
    return typer.Option(flag, metavar="WHO", help=f"Who may {may}: owner, anyone, or a key. [default: {default}]")


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
    read_scope: Annotated[str | None, _scope("--read-scope", "read it", "anyone")] = None,
    write_scope: Annotated[str | None, _scope("--write-scope", "change it", "owner")] = None,
    share_scope: Annotated[str | None, _scope("--share-scope", "copy or send it", "owner")] = None,
    embedder: Embedder = None,
    table: Annotated[
        str, typer.Option("--table", metavar="URL", help="Keep the memories in this empty folder of a bucket: s3://...")
    ] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an empty cube, or a copy of another one."""
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    made = api.init(
        cube, name=name, description=description, licence=licence, sensitivity=sensitivity,
        read_scope=read_scope, write_scope=write_scope, share_scope=share_scope, embedder=embedder,
        source=source, table=table, notify=out.say,
    )  # fmt: skip
    out.one(made, [f"made {made.path} (version {made.number})"], ids=[made.id])
