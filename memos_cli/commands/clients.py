"""memos clients: who may reach this home's memory through memos serve and memos mcp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memos_cli.commands.options import DryRun, Json, Quiet, refuse

if TYPE_CHECKING:
    from memos_cli.console import Output
    from memos_cli.interface.shared import ClientInfo

ACTIONS = ("list", "new", "revoke", "log")


def run(
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="list, new NAME, revoke NAME or log [NAME].")
    ] = "list",
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="What the client is called.")] = None,
    may: Annotated[
        list[str] | None,
        typer.Option(
            "--may",
            metavar="WHAT",
            help="new: read, write, share, or verbs such as query; with commas or given again. [default: read]",
        ),
    ] = None,
    cube: Annotated[
        list[str] | None,
        typer.Option("--cube", metavar="NAME", help="new: a cube that it reaches; may be given again. [default: none]"),
    ] = None,
    all_cubes: Annotated[bool, typer.Option("--all-cubes", help="new: it reaches every cube of this home.")] = False,
    at_most: Annotated[
        str,
        typer.Option(
            "--at-most",
            metavar="LEVEL",
            help="new: the highest label that it sees: public, internal, confidential or restricted. "
            "[default: what may go to a model elsewhere]",
        ),
    ] = "",
    ttl: Annotated[
        int | None, typer.Option("--ttl", metavar="DAYS", min=1, help="new: its key ends after so many days.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="log: from then on; a date, a time, or an age as 7d.")
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List, make and revoke the clients of memos serve and memos mcp.

    A client shows its key, which is printed once, and does for you what you let it: by default it reads, of the cubes
    you name. What it did is in the log of each cube; log tells who was turned away at the door.
    """
    from memos_cli.console import Output
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    refuse(action not in ACTIONS, f"expected one of {', '.join(ACTIONS)}, found {action[:60]!r}")
    refuse(action in ("new", "revoke") and not name, f"memos clients {action} needs a name")
    refuse(action == "list" and name is not None, "memos clients list takes no name")
    refuse(
        action != "new" and bool(may or cube or all_cubes or at_most or ttl),
        "--may, --cube, --all-cubes, --at-most and --ttl go with: memos clients new NAME",
    )
    refuse(action != "log" and since is not None, "--since goes with: memos clients log")
    refuse(all_cubes and bool(cube), "--all-cubes and --cube do not go together")
    if action == "list":
        columns = {
            "name": lambda one: one.name, "may": lambda one: " ".join(one.may),
            "cubes": lambda one: " ".join(one.cubes), "at most": lambda one: one.at_most or "as for an endpoint",
            "ends": lambda one: _end(one),
        }  # fmt: skip
        out.rows(api.list_clients(), columns, ids=lambda one: str(one.name))
    elif action == "log":
        lines = {
            "time": lambda line: line.time, "client": lambda line: line.actor.get("client", ""),
            "what": lambda line: line.verb,
            "facts": lambda line: " ".join(f"{key}={line.facts[key]}" for key in sorted(line.facts)),
        }  # fmt: skip
        out.rows(api.door_log(since=since, client=name), lines, ids=lambda line: str(line.seq))
    elif action == "revoke":
        gone = api.revoke_client(str(name), dry_run=dry_run)
        out.one(gone, [f"{gone.name} {'would be ' if dry_run else ''}revoked"], ids=[gone.name])
    else:
        words = [word for one in may or ["read"] for word in one.replace(",", " ").split()]
        reached = ["*"] if all_cubes else cube or []
        made = api.new_client(str(name), may=words, cubes=reached, at_most=at_most, ttl_days=ttl, dry_run=dry_run)
        _tell_new(out, made)


def _tell_new(out: Output, made: ClientInfo) -> None:
    """The key alone on stdout, so that a script can take it, and what it is good for beside it."""
    reach = ", ".join(made.cubes).replace("*", "every cube") or "no cube"
    out.one(made, [made.key] if made.key else [f"{made.name} would be made"], ids=[made.name])
    out.say(f"{made.name} may {', '.join(made.may)} and reaches {reach}{_until(made)}")
    if made.key:
        out.say("this key is not shown again; whoever has it is this client")
    if not made.cubes:
        out.say(f"it reaches nothing yet: memos clients revoke {made.name}, then new with --cube NAME or --all-cubes")


def _until(made: ClientInfo) -> str:
    return f", until {made.expires.date().isoformat()}" if made.expires else ""


def _end(one: ClientInfo) -> str:
    when = one.expires.date().isoformat() if one.expires else ""
    return f"{when} (over)" if one.expired else when
