"""memos distill --fuse, --import, --export and --remove: what is done with adapters as wholes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import insisted, refuse

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.parameters import Fused
    from memos_cli.interface.results import Changed

# What says how memories are taught, and goes with none of these.
TEACHING = (
    "select", "ids", "rank", "on_top_of", "standalone", "teacher", "locality", "rate", "steps", "seed", "replace",
    "rebuild", "writer", "writer_url", "publish_ungated",
)  # fmt: skip
# What goes with one of these only.
BESIDE = {"svd": "--fuse", "verify": "--fuse", "licence": "--import", "with_above": "--remove"}

Fuse = Annotated[
    list[str] | None,
    typer.Option("--fuse", metavar="NAME", help="Make one adapter of this and others; give it for each."),
]
Svd = Annotated[bool, typer.Option("--svd", help="With --fuse: the same sum at the least rank that has it.")]
Verify = Annotated[
    bool,
    typer.Option("--verify/--no-verify", help="With --fuse: keep it only if no adapter loses over 5 points in it."),
]
Import = Annotated[
    str | None,
    typer.Option(
        "--import", metavar="DIR", help="Take in a LoRA of peft (a skill, a style), as --name under --licence."
    ),
]
Licence = Annotated[str, typer.Option("--licence", metavar="SPDX", help="The licence of what --import takes in.")]
Export = Annotated[
    tuple[str, str] | None,
    typer.Option("--export", metavar="NAME DIR", help="Write an adapter as files of peft into a new folder."),
]
Remove = Annotated[str | None, typer.Option("--remove", metavar="NAME", help="Take an adapter out of the cube.")]
WithAbove = Annotated[bool, typer.Option("--with-above", help="With --remove: and those that stand on it.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for on the command line, as the options above say it."""

    ctx: typer.Context
    fuse: list[str] | None
    svd: bool
    verify: bool
    import_: str | None
    licence: str
    export: tuple[str, str] | None
    remove: str | None
    with_above: bool

    def check(self) -> bool:
        """Whether one of these things is asked for. Raises Usage for two, and for options that do not fit."""
        given = {
            "--fuse": self.fuse or None,
            "--import": self.import_,
            "--export": self.export,
            "--remove": self.remove,
        }
        found = [flag for flag, value in given.items() if value is not None]
        refuse(len(found) > 1, f"{' and '.join(found)} are two things to do")
        for name in TEACHING:
            refuse(bool(found) and insisted(self.ctx, name), f"--{name.replace('_', '-')} says how memories are taught")
        for name, flag in BESIDE.items():
            refuse(flag not in found and insisted(self.ctx, name), f"--{name.replace('_', '-')} goes with {flag}")
        return bool(found)


def act(
    out: Output, asked: Asked, cube: str, *, name: str, model: str, dry_run: bool, reason: str, lock_timeout: float
) -> bool:
    """Does what is asked for and prints what came of it; whether anything was."""
    from memos_cli.interface import api

    if not asked.check():
        return False
    named = insisted(asked.ctx, "name")
    if asked.fuse:
        fuse(
            out, cube, asked.fuse, name=name if named else "fused", model=model, svd=asked.svd, verify=asked.verify,
            dry_run=dry_run, reason=reason, lock_timeout=lock_timeout,
        )  # fmt: skip
        return True
    if asked.import_ is not None:
        refuse(not named, "--import DIR needs a name for the adapter: --name NAME")
        done = api.import_adapter(
            cube, asked.import_, name=name, licence=asked.licence, model=model, dry_run=dry_run, reason=reason,
            lock_timeout=lock_timeout, notify=out.say,
        )  # fmt: skip
    elif asked.export is not None:
        refuse(dry_run, "--export changes nothing in the cube, and has no dry run")
        done = api.export_adapter(cube, *asked.export, notify=out.say)
    else:
        done = api.remove_adapter(
            cube, asked.remove or "", with_above=asked.with_above, dry_run=dry_run, reason=reason,
            lock_timeout=lock_timeout, notify=out.say,
        )  # fmt: skip
    out.one(done, [_line(done)], ids=done.ids)
    return True


def _line(done: Changed) -> str:
    if done.dry_run:
        return f"{', '.join(done.ids)}: {done.message}"
    return done.message if done.verb == "export" else f"version {done.number}: {done.message}"


def fuse(
    out: Output, cube: str, members: list[str], *, name: str, model: str, svd: bool, verify: bool, dry_run: bool,
    reason: str, lock_timeout: float,
) -> None:  # fmt: skip
    """Makes one of several and prints what became of each. Raises CheckFailed when one lost too much."""
    from memos_cli.errors import CheckFailed
    from memos_cli.interface import api

    done = api.fuse(
        cube, members, name=name, model=model, svd=svd, verify=verify, dry_run=dry_run, reason=reason,
        lock_timeout=lock_timeout, notify=out.say, progress=out.progress("asking"),
    )  # fmt: skip
    out.one(done, _lines(done), ids=[done.name] if done.published else [])
    if done.failures:
        raise CheckFailed(
            f"{done.name} was not kept: {'; '.join(done.failures)}",
            hint="adapters that were trained apart spoil one another: train them --on-top-of each other, or all as one",
        )


def _lines(done: Fused) -> Iterator[str]:
    for one in done.members:
        yield f"{one.name}  {one.before:.3f} -> {one.after:.3f} of its test questions"
    yield f"{done.name}: {done.way}, rank {done.rank}, {done.bytes / 1e6:.2f} MB, error {done.error:.1e}"
    if done.max_lora_rank:
        yield f"vLLM takes rank 16 unless it is told --max-lora-rank {done.max_lora_rank}"
    if done.published:
        yield f"version {done.number}: {done.name}" + ("" if done.verified else ", marked as ungated")
