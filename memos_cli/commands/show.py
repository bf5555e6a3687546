"""memos show: what a cube says of itself, or one memory in full."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memos_cli.commands.options import Cube, Json, Quiet, Version


def run(
    cube: Cube,
    memory: Annotated[str | None, typer.Argument(metavar="[ID]", help="A memory's id, or its first digits.")] = None,
    version: Version = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a cube, or one memory of it, in full."""
    from memos_cli.console import Output, cell, plain
    from memos_cli.interface import api

    out = Output(json=json, quiet=quiet)
    found = (
        api.show_memory(cube, memory, version=version, to=out.destination, notify=out.say)
        if memory
        else api.show(cube, version=version)
    )
    values = plain(found)
    lines = [
        f"{name.replace('_', ' ')}\t{cell(_flat(value))}"
        for name, value in values.items()
        if value not in (None, "", [], {}) and name not in ("adapters", "stands_for", "links")
    ]
    lines += [f"stands for\t{cell(' '.join(one.values()))}" for one in values.get("stands_for", ())]
    lines += [f"link\t{cell(_linked(one))}" for one in values.get("links", ())]
    lines += [f"adapter {one['name']}\t{cell(_told(one))}" for one in values.get("adapters", ())]
    out.one(found, lines, ids=[values["id"]])


_FROM = {
    "mentions": "mentioned by", "follows": "followed by", "supersedes": "superseded by", "derived-from": "basis of",
}  # fmt: skip


def _linked(one: dict[str, Any]) -> str:
    """A link on one line: what it is, seen from the memory that is shown, and the other memory."""
    kind = one["kind"] if one["way"] == "to" else _FROM.get(one["kind"], one["kind"])
    why = f" ({one['why']})" if one["why"] else ""
    return f"{kind} {one['id'][:8]}  {one['place']}  {one['text']}{why}"


def _flat(value: object) -> object:
    from memos_cli.console import to_json

    if not isinstance(value, dict):
        return value
    nested = any(isinstance(item, dict | list) for item in value.values())
    return to_json(value) if nested else ", ".join(f"{key} -> {item}" for key, item in value.items())


def _told(one: dict[str, Any]) -> str:
    """An adapter on one line: its state first, for that says whether it is used."""
    if one["state"] == "damaged":
        return f"damaged: {one['reason']}"
    state = one["state"] if one["gated"] or one["kind"] != "facts" else f"{one['state']}, not through its gates"
    of = f"{one['memories']} memories" if one["kind"] == "facts" else one["kind"]
    beneath = f", on {', '.join(one['requires'])}" if one["requires"] else ""
    why = f": {one['reason']}" if one["reason"] else ""
    return f"{state}{why}; {of} for {one['model']}, rank {one['rank']}, {one['bytes'] / 1e6:.2f} MB{beneath}"
