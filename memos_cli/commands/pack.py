"""memos pack: a cube as one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet, Reason, Yes

if TYPE_CHECKING:
    from memos_cli.interface.shared import Packed


def run(
    cube: Cube,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to. [default: NAME-VERSION.memcube here]"),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="X.Y.Z", help="Give the cube this version first.")
    ] = None,
    forms: Annotated[
        str | None,
        typer.Option("--forms", metavar="FORMS", help="Only these of plaintext,activation,parameter. [default: all]"),
    ] = None,
    redact: Annotated[
        str | None,
        typer.Option("--redact", metavar="LEVEL", help="Leave out what is more sensitive: public, internal, ..."),
    ] = None,
    sign: Annotated[
        str | None, typer.Option("--sign", metavar="KEY", help="Sign with this key of yours, such as identity.")
    ] = None,
    expires_days: Annotated[
        int, typer.Option("--expires-days", metavar="N", min=1, max=3650, help="How long the signature holds.")
    ] = 365,
    encrypt_to: Annotated[
        list[str] | None,
        typer.Option(
            "--encrypt-to", metavar="R", help="For this reader alone: age1..., an ssh public key, or a file of them."
        ),
    ] = None,
    recipient: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="WHO", help="Stamp this copy as theirs: a name, a key's fingerprint, or an exported key."
        ),
    ] = None,
    canaries: Annotated[
        int, typer.Option("--canaries", metavar="N", min=0, help="With --for: made-up memories that trace a leak.")
    ] = 0,
    table: Annotated[
        str,
        typer.Option("--table", metavar="HOW", help="Memories in an object store: fetch them, or refuse to pack."),
    ] = "refuse",
    yes: Yes = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a cube to one file, to send or to keep.

    The same version gives the same bytes on every machine. Deleted and forgotten memories, the log and old versions
    stay behind.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.pack(
        cube, output, version=version, forms=forms, redact=redact, sign=sign, expires_days=expires_days,
        encrypt_to=encrypt_to or [], recipient=recipient, canaries=canaries, table=table, replace_file=yes,
        dry_run=dry_run, reason=reason, lock_timeout=lock_timeout,
        notify=out.say, progress=out.progress("packing"),
    )  # fmt: skip
    out.one(done, _lines(done), ids=[done.digest])
    if done.canaries and not done.dry_run:
        out.say(
            f"{done.canaries} memories of this copy are made up and nowhere marked; "
            f"tell {done.recipient} that there are some, for a model takes them for true"
        )


def _lines(done: Packed) -> Iterator[str]:
    size = f"{done.bytes / 1e6:.1f} MB" if done.bytes >= 100_000 else f"{done.bytes:,} bytes"
    if done.dry_run:
        first = ", after a version without what was deleted is made" if done.rewritten else ""
        yield f"would write {done.path}: {done.name} {done.version}, at most {size}{first}"
    else:
        sealed = ", encrypted" if done.encrypted else ""
        yield f"{done.path}: {done.name} {done.version}, {size}{sealed}"
        yield done.digest
    if done.rows_left_out or done.files_left_out:
        yield f"left out {done.rows_left_out} memories and {done.files_left_out} files made of them"
    if done.recipient:
        traced = f", with {done.canaries} canaries" if done.canaries else ""
        yield f"made for {done.recipient}{traced}"
    if done.key:
        yield f"signed by {done.key}"
