"""memos outdated: which cubes of a project have newer versions."""

from __future__ import annotations

from memos_cli.commands.install import File
from memos_cli.commands.options import Json, Offline, Quiet, RetryFor, Sources, travel


def run(
    file: File = "cubes.toml",
    sources: Sources = None,
    offline: Offline = False,
    retry_for: RetryFor = 60.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the locked cubes that have a newer version, or whose version was taken back.

    WANTED is the newest that cubes.toml allows, NEWEST the newest of all.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    found = api.outdated(file, travel=travel(sources, offline, retry_for), notify=out.say)
    columns = {
        "cube": lambda one: one.name,
        "version": lambda one: one.version,
        "wanted": lambda one: one.wanted,
        "newest": lambda one: one.newest,
        "taken back": lambda one: one.yanked or "",
    }
    out.rows(found, columns, ids=lambda one: one.name)
