"""The process that serves: where it listens, what it serves, and how it ends."""

from __future__ import annotations

import importlib.util
import ipaddress
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.errors import MemosError, MissingExtra, Usage
from memos_cli.infrastructure import clients
from memos_cli.interface import frame
from memos_cli.interface.shared import ServerInfo
from memos_cli.interface.visiting import served

if TYPE_CHECKING:
    from memos_cli.interface.http.serving import Host

PACKAGES = ("starlette", "uvicorn", "pydantic", "limits", "prometheus_client")
# Requests that are being answered when the process is told to end have so long at most.
GRACE_SECONDS = 30


def serve(
    cubes: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 8008,
    allow_remote: bool = False,
    model: str = "nano",
    lazy: bool = False,
    rate: str = "1200/minute",
    body_bytes: int = 4 << 20,
    at_once: int = 16,
    timeout_seconds: float = 60.0,
    encode: Callable[[Any], str],
    ready: Callable[[ServerInfo], None],
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> None:
    """Serves the Memory API over HTTP until a signal ends the process; then finishes what was begun.

    `cubes` are paths or names, none for all that have names. `ready` hears the address; `encode` makes JSON of
    results. Raises MissingExtra, NotFound for a cube or the model, Usage for another host than this without
    `allow_remote`, MemosError for an address that is taken.
    """
    desk = frame.desk(home, notify)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f"memos serve needs {', '.join(missing)}, not installed", "pip install 'memos[serve]'")
    if not _is_here(host) and not allow_remote:
        raise Usage(
            f"{host} can be reached from other machines, and nothing is encrypted on its way",
            hint="--allow-remote, behind a proxy that speaks TLS",
        )
    from memos_cli.interface.http.gate import Bounds
    from memos_cli.interface.http.serving import Host
    from memos_cli.runtime.model import LocalModel

    bounds = Bounds(body_bytes, rate, at_once, timeout_seconds)
    bounds.item()
    LocalModel(model)  # a folder that holds none is told now
    within = served(desk.home, cubes)
    known = clients.load(desk.home)
    if not known:
        desk.notify("there is no client yet, so nobody is let in: memos clients new NAME --cube CUBE")
    if not _is_here(host):
        desk.notify(f"{host} is not of this machine alone: keys and memories are not encrypted on their way there")
    with closing(_listen(host, port)) as listener:
        port = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        names = sorted(within) if within is not None else [desk.name_of(root) for root in desk.cubes()]
        ready(ServerInfo(f"http://{shown}:{port}", host, port, tuple(names), model, len(known)))
        _run(Host(desk.home, within, model, encode, lazy, desk.notify), bounds, listener)


def _run(host: Host, bounds: Any, listener: socket.socket) -> None:
    import uvicorn

    from memos_cli.interface.http.serving import Application

    config = uvicorn.Config(
        Application(host, bounds).asgi(), log_config=None, access_log=False, lifespan="on", server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS, h11_max_incomplete_event_size=1 << 16,
    )  # fmt: skip
    # uvicorn ends by sending the signal that it took to who had it before: that all is well then is an end, not a death
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *taken: None)
    uvicorn.Server(config).run(sockets=[listener])


def _is_here(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    # of TCP by its number: to others asyncio does not give TCP_NODELAY, and each answer's body waits 40 ms for an ACK
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise MemosError(f"{host}:{port} cannot be listened to: {why}", hint="--port N") from error
    return listener
