"""memos forget: hide memories, or take them out of the cube for good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import Cube, DryRun, Json, LockTimeout, Quiet, Reason, Where, Yes, refuse

if TYPE_CHECKING:
    from memos_cli.interface.evidence import Purged
    from memos_cli.interface.rebuilding import Rebuilding
    from memos_cli.operation.proof import Proof


def run(
    cube: Cube,
    ids: Annotated[
        list[str] | None, typer.Option("--ids", metavar="ID", help="A memory; may be given again, or with commas.")
    ] = None,
    where: Where = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TEXT", help="All that name it: in text, heading, title, topic.")
    ] = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take them out of every file and version, and prove that they are gone.")
    ] = False,
    allow_again: Annotated[
        bool,
        typer.Option("--allow-again", help="Let in again what was purged, by its --ids or its words (--subject)."),
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Make the adapters anew that were taught them, and ask these for what is gone."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Where the adapters' model is, when it is no hub id."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    lock_timeout: LockTimeout = 10.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hide memories from every query, or forget them for good.

    Hidden ones stay in the cube's files; --purge takes them out, with all that was made of them and the versions that
    held them, and cannot be undone. Copies that were made before are not reached.
    """
    from memos_cli.commands.distill import tell_rebuilt
    from memos_cli.console import Output, confirm
    from memos_cli.errors import CheckFailed
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    chosen = [part for given in ids or [] for part in given.replace(",", " ").split()]
    refuse(purge and allow_again, "--purge and --allow-again are opposites")
    refuse(rebuild and (dry_run or allow_again), "--rebuild goes with what is forgotten now")
    if allow_again:
        refuse(bool(where), "--allow-again takes --ids, or the words themselves as --subject")
        back = api.allow_again(
            cube, ids=chosen, text=subject, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout, notify=out.say
        )
        out.one(back, [back.message], ids=back.ids)
        return
    if purge and not dry_run:
        confirm("forget --purge cannot be undone;", yes=yes)
    again = _to_rebuild(cube, chosen, where, subject, purge, model) if rebuild else None
    if purge:
        gone = api.purge(
            cube, ids=chosen, where=where, subject=subject, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout,
            notify=out.say,
        )  # fmt: skip
        out.one(gone, _lines(gone), ids=gone.ids)
        if gone.proof and not gone.proof.sound:
            raise CheckFailed(_shortfall(gone), hint=_remedy(gone, cube))
        if again:
            tell_rebuilt(out, cube, again, reason=reason, lock_timeout=lock_timeout)
        return
    done = api.forget(
        cube, ids=chosen, where=where, subject=subject, dry_run=dry_run, reason=reason, lock_timeout=lock_timeout,
        notify=out.say,
    )  # fmt: skip
    lines = (
        [f"would hide {identity}" for identity in done.ids] if dry_run else [f"version {done.number}: {done.message}"]
    )
    out.one(done, lines, ids=done.ids)
    if again:
        tell_rebuilt(out, cube, again, reason=reason, lock_timeout=lock_timeout)


def _to_rebuild(
    cube: str, ids: list[str], where: str | None, subject: str | None, purge: bool, model: str | None
) -> Rebuilding:
    """The adapters that were taught what is about to go, and the questions about it, while they are there."""
    from memos_cli.interface import api

    meant = (api.purge if purge else api.forget)(cube, ids=ids, where=where, subject=subject, dry_run=True)
    return api.to_rebuild(cube, without=meant.ids, model=model)


_MANY = {
    "text": "texts", "fragment": "parts of them", "word": "words", "token ids": "runs of token ids",
    "vector": "parts of vectors", "cache": "parts of caches",
}  # fmt: skip


def _lines(gone: Purged) -> Iterator[str]:
    if gone.dry_run:
        yield from (f"would forget {identity}\t{gone.along.get(identity, '')}".rstrip() for identity in gone.ids)
    yield f"version {gone.number}: {gone.message}" if not gone.dry_run else gone.message
    for identity, why in gone.along.items() if not gone.dry_run else ():
        yield f"with them: {identity}\t{why}"
    parts = {
        "would drop versions" if gone.dry_run else "versions dropped": gone.dropped,
        "activation memory": gone.activations, "adapters": gone.adapters, "also removed": gone.others,
        "still being read": gone.held,
    }  # fmt: skip
    yield from (f"{name}: {', '.join(map(str, values))}" for name, values in parts.items() if values)
    if gone.rewindowed:
        yield f"neighbours no longer found by their words: {gone.rewindowed}"
    if gone.proof:
        yield from _proof_lines(gone.proof)


def _proof_lines(proof: Proof) -> Iterator[str]:
    wanted = ", ".join(f"{count} {_MANY[kind]}" for kind, count in proof.looked_for.items() if count) or "keyed hashes"
    verdict = "nothing was found" if not proof.found else f"found in {len(proof.found)} places"
    yield (
        f"proof: {proof.files} files ({proof.bytes:,} bytes) and {proof.rows} rows looked through for {wanted}: "
        f"{verdict}; {proof.controls_seen} of {proof.controls} controls seen"
    )
    for trace in proof.found[:20]:
        yield f"found: {trace.kind} of {trace.memory} in {trace.place}"
    for identity in proof.elsewhere[:20]:
        yield f"said too by: {identity}"
    yield from (f"not looked into: {place}" for place in proof.unread[:20])


def _shortfall(gone: Purged) -> str:
    assert gone.proof
    if gone.held:
        return f"versions {', '.join(map(str, gone.held))} are still being read and hold what was forgotten"
    if gone.proof.found:
        return f"what was forgotten is still in {len(gone.proof.found)} places of the cube"
    if gone.proof.elsewhere:
        return f"{len(gone.proof.elsewhere)} other memories say the same words, and stay"
    if gone.proof.unread:
        return f"{len(gone.proof.unread)} files could not be looked into"
    return "the look through the files did not see what is there, so it proves nothing"


def _remedy(gone: Purged, cube: str) -> str:
    assert gone.proof
    if gone.held:
        return "let the readers end, then run the same command again"
    if gone.proof.elsewhere:
        return f"memos forget {cube} --purge --yes --ids {','.join(gone.proof.elsewhere[:10])}"
    return f"memos audit {cube} --deep"
