"""memos doctor: what is wrong with a cube, and what of it can be put right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet

if TYPE_CHECKING:
    from memos_cli.interface.mending import Treated


def run(
    cube: Cube,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find what crashes and bad copies left of a cube, and repair it.

    Without --repair nothing is changed. Files come back from another version with the same digest, a lost pointer leads
    to the newest whole version, leavings go; what has no copy stays, and is told. Exits with 4 when damage is left and
    with 9 when there is something to repair.
    """
    from memos_cli.console import Output
    from memos_cli.errors import CheckFailed, Damaged
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.doctor(cube, repair=repair, dry_run=dry_run, lock_timeout=lock_timeout, notify=out.say)
    out.one(done, _lines(done), ids=[each.place for each in done.repairs])
    if done.repairs and not done.repaired:
        count = len(done.repairs)
        raise CheckFailed(
            f"{count} {'thing' if count == 1 else 'things'} in {cube} can be repaired",
            hint=f"memos doctor {cube} --repair",
        )
    if done.damaged:
        damage = next(finding for finding in done.findings if finding.severity == "damage")
        # a repair was tried; what else there is to do comes after it
        raise Damaged(f"{cube} is damaged: {damage.message}", hint=damage.remedy.rpartition("--repair; else ")[2])


def _lines(done: Treated) -> Iterator[str]:
    from memos_cli.console import cell

    for each in done.repairs:
        yield "\t".join(
            map(cell, ("repaired" if done.repaired else "would repair", each.kind, each.place, each.message))
        )
    for finding in done.findings:
        parts = (finding.severity, finding.code, finding.place, finding.message, f"try: {finding.remedy}")
        yield "\t".join(map(cell, parts))
    if not done.repairs and not done.findings:
        yield "healthy: every byte of every version is as published, and nothing is left over"
