"""memos install: the cubes that a project needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Offline, Quiet, Require, RetryFor, Sources, travel

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.shipped import Installed

File = Annotated[str, typer.Option("--file", metavar="FILE", help="Where the project lists its cubes.")]


def run(
    file: File = "cubes.toml",
    locked: Annotated[bool, typer.Option("--locked", help="Fail when memos.lock would change.")] = False,
    frozen: Annotated[bool, typer.Option("--frozen", help="The same, and use no network.")] = False,
    sources: Sources = None,
    require: Require = None,
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring the cubes that cubes.toml lists, and those that they require, as memos.lock says.

    What is locked stays as it is; without a lock the newest versions that go together are chosen and locked. In CI:
    memos install --locked.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    done = api.install(
        file, locked=locked, frozen=frozen, require=require, dry_run=dry_run,
        travel=travel(sources, offline, retry_for), notify=out.say, progress=out.progress("installing"),
    )  # fmt: skip
    tell(out, done)


def tell(out: Output, done: list[Installed]) -> None:
    """A line for each cube."""
    columns = {
        "cube": lambda one: one.name,
        "version": lambda one: f"{one.version} (was {one.before})" if one.became == "upgraded" else one.version,
        "became": lambda one: one.became,
        "path": lambda one: one.path,
        "from": lambda one: one.reference,
        "signed by": lambda one: one.key or "nobody",
    }
    out.rows(done, columns, ids=lambda one: one.digest)
