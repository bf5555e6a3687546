"""What commands over many cubes share: which cubes, how many at a time, a line for each and a summary at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_cli.commands.options import refuse

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.many import Each, Summary

Cubes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CUBE...", help="A cube or several, each by itself: paths (with a / or ending in .cube) or names."
    ),
]
Vault = Annotated[bool, typer.Option("--vault", help="All your named cubes, each by itself, several at a time.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", min=1, max=256, help="So many cubes at a time. [default: one a core]"),
]


def named_by(cubes: list[str] | None, *, vault: bool) -> list[str]:
    """The cubes that are meant. Raises Usage for none, and for some beside --vault; NotFound for an empty vault."""
    from memos_cli.errors import Usage
    from memos_cli.interface import api

    refuse(vault and bool(cubes), "--vault means all your named cubes: without CUBE")
    if not vault and not cubes:
        raise Usage("expected a CUBE", hint="memos list shows yours; --vault means all of them")
    return api.in_vault() if vault else list(cubes or [])


def is_many(cubes: list[str], *, vault: bool, jobs: int | None) -> bool:
    """Whether each cube is a line of its own, rather than all there is to tell."""
    return vault or jobs is not None or len(cubes) > 1


def run_each(out: Output, verb: str, cubes: list[str], *, jobs: int | None, options: dict[str, Any]) -> None:
    """Does it to each cube and tells what became of it, also of those that a Ctrl-C left undone. Raises what the worst
    of them ends in."""
    from memos_cli.interface import api
    from memos_cli.interface.interruption import caught

    found: list[Each] = []
    begin = perf_counter()
    with caught() as interruption:
        done = api.over_many(
            verb, cubes, jobs=jobs, options=options, progress=out.progress(f"{verb}, cube by cube"),
            interruption=interruption,
        )  # fmt: skip
        out.rows(
            _kept(done, found, quiet=out.quiet and not out.json),
            {
                "cube": lambda one: one.cube, "outcome": lambda one: one.outcome, "seconds": lambda one: one.seconds,
                "what": lambda one: one.message,
            },
            ids=lambda one: one.cube,
        )  # fmt: skip
        summary = api.summed(verb, found, jobs=jobs, seconds=perf_counter() - begin)
        if out.json:
            out.rows([summary], {}, ids=lambda one: one.summary)
        _end(out, summary, found)


def _kept(done: Iterator[Each], found: list[Each], *, quiet: bool) -> Iterator[Each]:
    """Each cube as it comes, remembered; in few words only those that need a look."""
    for one in done:
        found.append(one)
        if not quiet or one.outcome != "done":
            yield one
            sys.stdout.flush()  # whoever reads a pipe sees each line when it is there, not at the end


def _end(out: Output, summary: Summary, found: list[Each]) -> None:
    from memos_cli import errors

    if not summary.exit_code:
        out.say(summary.told())
        return
    kinds: dict[int, type[errors.MemosError]] = {kind.exit_code: kind for kind in errors.MemosError.__subclasses__()}
    kinds[1] = errors.MemosError
    first = next((one for one in found if one.exit_code == summary.exit_code), None)
    hint = next((one.hint for one in [first, *found] if one is not None and one.hint), None)
    raise kinds[summary.exit_code](summary.told(), hint=hint)
