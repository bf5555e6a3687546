"""memos diff: what changed between two versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, Json, Quiet

if TYPE_CHECKING:
    from memos_cli.interface.results import Differed


def run(
    cube: Cube,
    old: Annotated[int, typer.Argument(metavar="OLD", help="A version's number.")],
    new: Annotated[int | None, typer.Argument(metavar="[NEW]", help="Another. [default: the current one]")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what differs between two versions."""
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    found = api.diff(cube, old, new, to=out.destination, notify=out.say)
    out.one(found, _lines(found), ids=[row.id for row in found.rows])


def _lines(found: Differed) -> Iterator[str]:
    signs = {"added": "+", "removed": "-", "changed": "~"}
    for row in found.rows:
        what = f" ({', '.join(row.columns)})" if row.columns else ""
        text = (row.after or row.before).replace("\n", "\\n").replace("\t", "\\t")
        yield f"{signs[row.change]} {row.id}\t{row.place}\t{text}{what}"
    yield from (f"~ {line}" for line in found.metadata)
    yield from (f"{signs[one.change]} {one.form} {one.name}\t{one.bytes:,} bytes" for one in found.forms)
    if found.links_added or found.links_removed:
        yield f"links +{found.links_added} -{found.links_removed}"
    yield (
        f"versions {found.old} to {found.new}: {len(found.rows)} memories differ; files +{found.files_added} "
        f"({found.bytes_added:,} bytes) -{found.files_removed} ({found.bytes_removed:,} bytes)"
    )
