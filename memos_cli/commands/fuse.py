"""memos fuse: two cubes into a new one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Quiet, Reason

if TYPE_CHECKING:
    from memos_cli.interface.united import FusedCubes


def run(
    first: Annotated[str, typer.Argument(metavar="A", help="A cube: a path (with a / or ending in .cube) or a name.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="C", help="The new cube.")],
    resolve: Annotated[
        str,
        typer.Option(
            "--resolve",
            metavar="POLICY",
            help="Decide conflicts: newest (what was said later), trust (priority, then who said it), or ask.",
        ),
    ] = "",
    name: Annotated[str | None, typer.Option("--name", help="Its name. [default: the folder's]")] = None,
    description: Annotated[str, typer.Option("--description", help="What it holds, in a sentence.")] = "",
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder", metavar="NAME", help="Make vectors with this one, where a cube has others. [default: A's]"
        ),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a new cube of two, three-way where they hold a version in common.

    Conflicts are shown with both sides, and decided only where --resolve says how. Labels, scopes, ends and holds are
    the stricter of the two.
    """
    from memos_cli.commands.tidy import ask_person, of_conflicts
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    made = api.fuse_cubes(
        first, second, output, resolve=resolve, ask=ask_person if resolve == "ask" else None, name=name,
        description=description, embedder=embedder, dry_run=dry_run, reason=reason, notify=out.say,
    )  # fmt: skip
    out.one(made, _lines(made, of_conflicts(made.conflicts, applied=not dry_run)), ids=[made.id])
    if not json:
        for line in _talk(made):
            out.say(line)


def _lines(made: FusedCubes, conflicts: Iterator[str]) -> Iterator[str]:
    what = "would be made" if made.dry_run else f"made (version {made.number})"
    yield f"{made.cube} {what}: {made.memories} memories"
    yield f"    {made.first} of {made.sources[0]} alone, {made.second} of {made.sources[1]} alone, {made.both} of both"
    yield f"    label {made.sensitivity}, share scope {made.share_scope}"
    if made.caches or made.adapters or made.probes:
        named = f" ({', '.join(made.adapters)})" if made.adapters else ""
        yield f"    {made.caches} caches, {len(made.adapters)} adapters{named} and {made.probes} questions went along"
    yield from conflicts
    for mark in made.marks:
        yield f"{mark.id[:8]} {mark.mark}: {mark.taken!r} taken, not {mark.other!r} ({mark.why})"


def _talk(made: FusedCubes) -> Iterator[str]:
    yield f"they share a version: {made.base}" if made.base else "they share no version that is kept, so none is a base"
    if made.gone:
        yield f"{len(made.gone)} that one of them took out stay out"
    if made.refused:
        yield f"{made.refused} left out: forgotten for good from one of them"
    waiting = sum(not one.stays for one in made.conflicts)
    if waiting:
        way = "" if made.resolve else "; --resolve newest, trust or ask decides such"
        yield f"{waiting} {'conflict' if waiting == 1 else 'conflicts'} undecided, so both sides are kept{way}"
    yield from made.notes
    if not made.dry_run:
        yield f"what says the same twice is put together by: memos tidy {made.cube}"
