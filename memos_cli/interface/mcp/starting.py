"""Starting a server: whom it is for and what it serves, checked before the first message."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from memos_cli.errors import MissingExtra, NotAllowed, NotFound, Usage
from memos_cli.infrastructure import clients
from memos_cli.infrastructure.clients import Client
from memos_cli.interface import frame
from memos_cli.interface.desks import Notify
from memos_cli.interface.mcp.reach import told
from memos_cli.interface.visiting import served

Encode = Callable[[Any], Any]


def serve_stdio(
    cubes: Sequence[str],
    *,
    write: bool = False,
    accept: bool = False,
    client: str | None = None,
    model: str = "nano",
    encode: Encode,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> None:
    """Serves the program at the other end of stdin and stdout until it goes: as the client named, or as one that reads.

    `cubes` are paths or names, none for all that have names; with `accept` what it remembers counts at once, else it
    waits for `edit`; `encode` makes JSON values of results. Raises
    MissingExtra, NotFound for a cube or a client, NotAllowed for a client whose time is over, Usage.
    """
    desk = _checked(home, notify, model)
    from memos_cli.interface.mcp import stdio
    from memos_cli.interface.mcp.server import Host

    who = _named(desk.home, client) if client else clients.local(may=("read", "write") if write else ("read",))
    host = Host(desk.home, served(desk.home, cubes), model, encode, lambda ctx: who, accepted=accept)
    reached = host.visit(who).names()
    if not reached:
        desk.notify(f"client {who.name!r} reaches no cube yet: memos ingest NAME SOURCE makes one with a name")
    desk.notify(f"serving {told(reached)} to client {who.name!r}, which may {', '.join(who.may)}, over stdin")
    stdio.run(host)


def serve_http(
    cubes: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8011,
    names: Sequence[str] = (),
    accept: bool = False,
    model: str = "nano",
    encode: Encode,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> None:
    """Serves clients with keys over HTTP until a signal ends the process. Raises as `serve_stdio`.

    `names` are those by which clients call this machine, besides `host` and those of loopback.
    """
    desk = _checked(home, notify, model)
    from memos_cli.interface.mcp import streaming
    from memos_cli.interface.mcp.server import Host

    address = streaming.Address(host, port, tuple(names))
    if not clients.load(desk.home):
        desk.notify("there is no client yet, so nobody is let in: memos clients new NAME --cube CUBE")
    if host not in streaming.LOOPBACK:
        if not names:
            raise Usage(
                f"{host} can be reached from other machines, and nothing is encrypted on its way",
                hint="--allow-host NAME, the name by which they call this one; behind a proxy that speaks TLS",
            )
        desk.notify(f"{host} is not of this machine alone: keys and memories are not encrypted on their way there")
    streaming.run(
        Host(desk.home, served(desk.home, cubes), model, encode, streaming.caller, accepted=accept), address,
        ready=lambda url: desk.notify(f"serving at {url}; Ctrl-C ends it"),
    )  # fmt: skip


def _checked(home: Path | None, notify: Notify | None, model: str) -> frame.Desk:
    """The desk of the home's owner. Raises MissingExtra without the protocol's package, NotFound for the model."""
    from memos_cli.runtime.model import LocalModel

    if importlib.util.find_spec("mcp") is None:
        raise MissingExtra("memos mcp needs the package mcp, which is not installed", "pip install 'memos[mcp]'")
    LocalModel(model)  # a folder that holds none is told now
    return frame.desk(home, notify)


def _named(home: Path, name: str) -> Client:
    found = next((one for one in clients.load(home) if one.name == name), None)
    if found is None:
        raise NotFound(f"no client {name[:80]!r}", hint=f"memos clients new {name[:80]} --cube CUBE")
    if found.is_over(datetime.now(UTC)):
        raise NotAllowed(f"the time of client {name!r} is over", hint=f"memos clients revoke {name}, then new")
    return found
