"""memos audit: is the cube what it says it is?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, Json, Quiet

if TYPE_CHECKING:
    from memos_cli.operation.findings import Audit


def run(
    cube: Cube,
    deep: Annotated[bool, typer.Option("--deep", help="Hash every file and read every row.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a cube is what it says it is.

    Every file against its manifest, the versions, the schema and the access log. Exits with 4 for damage and 9 for
    other findings.
    """
    from memos_cli.console import Output
    from memos_cli.errors import CheckFailed, Damaged
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    found = api.audit(cube, deep=deep)
    out.one(found, _lines(found, deep), ids=[finding.code for finding in found.findings])
    damage = [finding for finding in found.findings if finding.severity == "damage"]
    if damage:
        raise Damaged(
            f"{cube} is damaged in {len(damage)} {'place' if len(damage) == 1 else 'places'}", hint=damage[0].remedy
        )
    warnings = [finding for finding in found.findings if finding.severity == "warning"]
    if warnings:
        raise CheckFailed(f"{len(warnings)} warnings for {cube}", hint=warnings[0].remedy)


def _lines(found: Audit, deep: bool) -> Iterator[str]:
    from memos_cli.console import cell

    for finding in found.findings:
        yield "\t".join(map(cell, (*dataclasses.astuple(finding)[:4], f"try: {finding.remedy}")))
    if not found.findings:
        how = "every byte and row read" if deep else "names and sizes compared (--deep reads all)"
        yield f"sound: {_checked(found)}; {how}"


def _checked(found: Audit) -> str:
    return (
        f"{found.versions} versions, {found.files} files, {found.rows} rows, {found.log_lines} lines of the access log"
    )
