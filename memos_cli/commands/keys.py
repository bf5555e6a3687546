"""memos keys: the keys that sign, and those that are believed."""

from __future__ import annotations

from typing import Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Quiet, refuse

ACTIONS = ("list", "new", "export", "trust")


def run(
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="list, new NAME, export [NAME] or trust KEY.")
    ] = "list",
    what: Annotated[
        str | None, typer.Argument(metavar="[NAME|KEY]", help="A name; to trust, a key's line or a file of one.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call a key that is trusted.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="PREFIX", help="Trust it for packages from here only; may be given again."),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List, make, give away and trust the keys of packages.

    A package is signed with a key of yours (memos pack --sign NAME) and believed when you trust its key.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    refuse(action not in ACTIONS, f"expected one of {', '.join(ACTIONS)}, found {action[:60]!r}")
    refuse(action != "trust" and bool(name or source), "--name and --source go with: memos keys trust KEY")
    refuse(
        action in ("new", "trust") and what is None,
        f"memos keys {action} needs a {'name' if action == 'new' else 'key'}",
    )
    refuse(action == "list" and what is not None, "memos keys list takes no name")
    if action == "list":
        columns = {
            "name": lambda key: key.name, "key": lambda key: key.fingerprint,
            "use": lambda key: "signs" if key.own else "trusted", "sources": lambda key: " ".join(key.sources),
        }  # fmt: skip
        out.rows(api.list_keys(), columns, ids=lambda key: str(key.fingerprint))
        return
    if action == "export":
        key = api.export_key(what or "identity")
    elif action == "new":
        refuse(dry_run, "memos keys new has no dry run: it changes nothing that is there")
        key = api.new_key(str(what))
    else:
        key = api.trust_key(str(what), name=name, sources=source or [], dry_run=dry_run)
    done = f"{key.name} {key.fingerprint} {'would be ' if dry_run else 'is '}trusted"
    out.one(key, [done if action == "trust" else key.line], ids=[key.fingerprint])
