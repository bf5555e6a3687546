"""memos list: cubes, or the memories of one."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Json, Quiet, Version, Where


def run(
    cube: Annotated[str | None, typer.Argument(metavar="[CUBE]", help="A cube, to list its memories.")] = None,
    where: Where = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Superseded, archived and hidden memories too.")] = False,
    version: Version = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List your named cubes, or the memories of a cube."""
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    if cube is None:
        out.rows(
            api.cubes(notify=out.say),
            {
                "name": lambda c: c.name, "version": lambda c: c.number, "memories": lambda c: c.live,
                "sources": lambda c: c.sources, "bytes": lambda c: c.size_bytes,
                "updated": lambda c: c.updated.isoformat(),
            },
            ids=lambda c: c.name,
        )  # fmt: skip
        return
    found = api.memories(
        cube, where=where or "", limit=limit, everything=everything, version=version, to=out.destination, notify=out.say
    )
    out.rows(
        found,
        {"id": lambda m: m.id, "state": lambda m: m.state, "place": lambda m: m.place, "text": lambda m: m.text},
        ids=lambda m: m.id,
    )
