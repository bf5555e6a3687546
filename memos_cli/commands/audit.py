"""memos audit: is the cube what it says it is?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.access_log import show_checkpoint, show_log
from memos_cli.commands.many import Cubes, Jobs, Vault, is_many, named_by, run_each
from memos_cli.commands.options import EngineName, Json, Quiet, Workers, Yes, engine_of, insisted, refuse, refuse_engine

if TYPE_CHECKING:
    from memos_cli.operation.findings import Audit


def run(
    ctx: typer.Context,
    cubes: Cubes = None,
    vault: Vault = False,
    jobs: Jobs = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Hash every file, read every row, compute vectors again.")
    ] = False,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="FILE", help="Hold the cube against rules in a TOML file.")
    ] = None,
    tests: Annotated[
        str | None, typer.Option("--tests", metavar="FILE", help="Ask the questions of a TOML file, and compare.")
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Keep what the tests reach now as what they must reach.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Who answers the tests. [default: the file's, or nano]"),
    ] = None,
    secrets: Annotated[bool, typer.Option("--secrets", help="Look for keys and passwords in memories.")] = False,
    pii: Annotated[bool, typer.Option("--pii", help="Look for personal data in memories.")] = False,
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE", help="Write it all as a page of HTML too.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="FILE", help="Compare with a checkpoint: is the end cut off, or put back?"),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="FILE", help="Write a signed checkpoint, to keep elsewhere; - prints it."),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Print the access log: who read, changed, was refused.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="With --log: from a date on, or an age such as 7d.")
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option("--actor", metavar="WHO", help="With --log: of a user, a client, or a key's fingerprint."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="With --log: read, injection, change, export or denial."),
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="Whom was this cube, package or leaked text made for? See memos pack --for.")
    ] = False,
    engine: EngineName = "local",
    workers: Workers = None,
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a cube is what it says it is, and what it should be.

    Every file against its manifest, the versions, the schema and the access log; with options also its rules, its
    privacy, and whether it still answers. Exits with 4 for damage and 9 for other findings.
    """
    from memos_cli.console import Output
    from memos_cli.errors import CheckFailed, Damaged
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    refuse(
        not log and bool(since or actor or kind), "--since, --actor and --kind choose lines of the access log: --log"
    )
    wishes = bool(deep or against or policy or tests or update_baseline or secrets or pii or report)
    refuse(log and (wishes or bool(checkpoint)), "--log prints the access log and checks nothing else")
    refuse(
        trace and (wishes or log or bool(checkpoint)), "--trace tells whom a copy was made for and checks nothing else"
    )
    named = named_by(cubes, vault=vault)
    if is_many(named, vault=vault, jobs=jobs):
        alone = {
            "--log": log, "--trace": trace, "--checkpoint": checkpoint, "--against": against, "--tests": tests,
            "--update-baseline": update_baseline, "--report": report,
        }  # fmt: skip
        for flag, given in alone.items():
            refuse(bool(given), f"{flag} is for one cube at a time")
        if deep or insisted(ctx, "engine"):  # nothing else of an audit is done by an engine
            refuse_engine(ctx, engine)
        run_each(
            out, "audit", named, jobs=jobs, options={"deep": deep, "policy": policy, "secrets": secrets, "pii": pii}
        )
        return
    cube = named[0]
    if trace:
        from memos_cli.commands.traces import show_trace

        show_trace(out, api.trace(cube, notify=out.say))
        return
    if log:
        show_log(out, api.access_log(cube, since=since, actor=actor, kinds=kind or ()))
        return
    if checkpoint:
        refuse(wishes, "--checkpoint writes what the cube is now; check it first, without")
        made, text = api.checkpoint(cube, checkpoint)
        show_checkpoint(out, made, text)
        return
    refuse(not deep and insisted(ctx, "engine"), "--engine hashes files, which --deep asks for")
    found = api.audit(
        cube, deep=deep, against=against, policy=policy, tests=tests, update_baseline=update_baseline,
        secrets=secrets, pii=pii, model=model, report=report,
        engine=engine_of(ctx, out, engine if deep else "local", workers if deep else None, yes=yes), notify=out.say,
    )  # fmt: skip
    out.one(found, _lines(found, deep), ids=[finding.code for finding in found.findings])
    for place in filter(None, (found.report, found.baseline)):
        out.say(f"written: {place}")
    damage = [finding for finding in found.findings if finding.severity == "damage"]
    if damage:
        raise Damaged(
            f"{cube} is damaged in {len(damage)} {'place' if len(damage) == 1 else 'places'}", hint=damage[0].remedy
        )
    warnings = [finding for finding in found.findings if finding.severity == "warning"]
    if warnings:
        raise CheckFailed(
            f"{len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'} for {cube}", hint=warnings[0].remedy
        )


def _lines(found: Audit, deep: bool) -> Iterator[str]:
    from memos_cli.console import cell

    for score in found.tests:
        end = "passed" if score.passed else "below its baseline"
        counts = f"{score.share:.4g} of {score.questions} questions, baseline {score.baseline:.4g}"
        yield "\t".join(("tests", score.form, counts, end))
    for finding in found.findings:
        yield "\t".join(map(cell, (*dataclasses.astuple(finding)[:4], f"try: {finding.remedy}")))
    if not found.findings:
        how = "every byte and row read" if deep else "names and sizes compared (--deep reads all)"
        yield f"sound: {_checked(found)}; {how}"


def _checked(found: Audit) -> str:
    return (
        f"{found.versions} versions, {found.files} files, {found.rows} rows, {found.log_lines} lines of the access log"
    )
