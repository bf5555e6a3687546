"""memos push: a cube into a store."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import DryRun, Json, LockTimeout, Offline, Quiet, Reason, RetryFor, travel


def run(
    cube: Annotated[str, typer.Argument(metavar="CUBE|FILE", help="A cube, or a file that memos pack made.")],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="file:///srv/store, oci://host/group, s3://bucket, hf://owner; or a folder's path."
        ),
    ],
    version: Annotated[
        str | None, typer.Option("--version", metavar="X", help="Publish as this version. [default: the cube's]")
    ] = None,
    forms: Annotated[
        str | None, typer.Option("--forms", metavar="LIST", help="Such as plaintext,activation. [default: all]")
    ] = None,
    redact: Annotated[
        str | None, typer.Option("--redact", metavar="LEVEL", help="Leave out what is labelled above this level.")
    ] = None,
    sign: Annotated[str | None, typer.Option("--sign", metavar="KEY", help="Sign with this key of yours.")] = None,
    expires: Annotated[
        int, typer.Option("--expires", metavar="DAYS", min=1, help="How long the signature is good for.")
    ] = 365,
    reason: Reason = "",
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Publish a cube in a store, under its name and version.

    Only what the store has not is sent; a push that was stopped goes on where it was. A version never changes.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.push(
        cube, destination, version=version, forms=forms, redact=redact, sign=sign, expires_days=expires,
        dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, travel=travel(None, offline, retry_for),
        notify=out.say, progress=out.progress("pushing"),
    )  # fmt: skip
    verb = "would publish" if dry_run else "published"
    lines = [
        f"{verb} {done.reference}",
        f"{done.bytes:,} bytes in {done.blobs} blobs sent, {done.blobs_there} there already",
        f"digest {done.digest or '(known when it is made)'}" + (f", signed by {done.key}" if done.key else ""),
    ]
    out.one(done, lines, ids=[done.digest])
