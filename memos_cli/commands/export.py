"""memos export: memories as a file of another format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, Quiet, Where, Yes, refuse

if TYPE_CHECKING:
    from memos_cli.interface.shared import TakenOut


def run(
    cube: Cube,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMAT", help="jsonl, markdown, or memos: an official MemOS cube.")
    ] = "jsonl",
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="PLACE", help="A file, or a new folder for memos. [default: stdout, NAME-memos]"
        ),
    ] = None,
    where: Where = None,
    ids: Annotated[
        list[str] | None, typer.Option("--ids", metavar="ID", help="Only these memories; may be given several times.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also what has ended, and what waits to be accepted.")
    ] = False,
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape", metavar="SHAPE", help="Of a MemOS cube: naive, general, tree, preference. [default: as it came]"
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take memories out of a cube, for another program or to keep.

    JSONL is taken in again as it was by memos ingest: ids, sources, times, labels. What a format has no place for is
    listed and counted. The cube stays as it is.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    to_stdout = output in (None, "-") and to != "memos" and not dry_run
    refuse(to_stdout and (json or quiet), "--json and -q tell of the file that is written, so they need -o PLACE")
    done = api.export_memories(
        cube, output, to=to, where=where, ids=_split(ids), everything=everything, shape=shape, replace_file=yes,
        dry_run=dry_run, write=_write, notify=out.say,
    )  # fmt: skip
    if to_stdout:
        for told in _lines(done):
            out.say(told)
        return
    out.one(done, _lines(done), ids=done.ids)


def _write(text: str) -> None:
    typer.echo(text, nl=False)


def _split(ids: list[str] | None) -> list[str]:
    return [one.strip() for word in ids or [] for one in word.split(",") if one.strip()]


def _lines(done: TakenOut) -> Iterator[str]:
    from memos_cli.console import cell

    count = f"{len(done.ids)} {'memory' if len(done.ids) == 1 else 'memories'}"
    as_what = f"{done.to} ({done.shape})" if done.shape else done.to
    would = "would be: " if done.dry_run else ""
    yield f"{would}{done.path}: {count} as {as_what}, {done.bytes:,} bytes, {done.sensitivity}"
    for loss in done.losses:
        yield f"lost\t{loss.count}\t{cell(loss.kind)}\t{cell(loss.field)}\t{cell(loss.why)}"
