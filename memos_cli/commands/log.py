"""memos log: the history of a cube, or of one memory."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import Cube, Json, Quiet


def run(
    cube: Cube,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="ID", help="Follow one memory through the versions.")
    ] = None,
    declassified: Annotated[
        bool, typer.Option("--declassified", help="Who lowered which label and why, with the key that signed it.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show who changed a cube, when, how and why.

    Newest first.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    if memory:
        out.rows(
            api.memory_log(cube, memory, to=out.destination),
            {
                "version": lambda e: e.number, "time": lambda e: e.time, "operation": lambda e: e.operation,
                "memory": lambda e: e.id, "event": lambda e: e.event, "text": lambda e: e.text,
            },
            ids=lambda e: str(e.number),
        )  # fmt: skip
        return
    if declassified:
        out.rows(
            api.declassifications(cube),
            {
                "time": lambda d: d.time, "memories": lambda d: ",".join(d.memories) or "the cube",
                "was": lambda d: ",".join(d.was), "to": lambda d: d.to, "why": lambda d: d.reason,
                "signed by": lambda d: d.signed_by or "NOBODY: the signature is not good",
            },
            ids=lambda d: ",".join(d.memories),
        )  # fmt: skip
        return
    out.rows(
        api.log(cube, limit=limit),
        {
            "version": lambda e: e.number, "time": lambda e: e.time, "operation": lambda e: e.operation,
            "who": lambda e: e.actor.get("user", ""), "what": lambda e: _summary(e.summary), "why": lambda e: e.reason,
            "tags": lambda e: e.tags,
        },
        ids=lambda e: str(e.number),
    )  # fmt: skip


def _summary(summary: dict[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_count(value)}" for name, value in summary.items() if value)


def _count(value: object) -> object:
    """Of a list, such as the versions that a purge drops, how many there are."""
    return len(value) if isinstance(value, list) else value
