"""The protocol over HTTP (streamable HTTP, at /mcp), for clients with keys.

Every request carries the key of a client as `Authorization: Bearer KEY`, and what it asks is done as that client. A
request without one, with a wrong one, or for another host than this is refused, and stands in the log of the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_cli.errors import MemosError, NotAllowed
from memos_cli.infrastructure import clients, door
from memos_cli.infrastructure.clients import Client
from memos_cli.interface.mcp.server import Host, build

if TYPE_CHECKING:
    from mcp.server.auth.provider import AccessToken
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"
BODY_BYTES, SESSIONS, CONNECTIONS = 4 << 20, 256, 128
# Requests that are being answered when the process is told to end have so long.
GRACE_SECONDS = 5
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def caller(ctx: Any) -> Client:
    """The client whose key a request carries. Raises NotAllowed for one that has been turned away since."""
    token = ctx.request.user.access_token
    found: Client | None = token.claims["client"]
    if found is None:
        raise NotAllowed("expected the key of a client, found none")
    return found


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests come in; `port` 0 takes a free one. `names` are those by which others call this machine."""

    host: str = "127.0.0.1"
    port: int = 8011
    names: tuple[str, ...] = ()

    def security(self, port: int) -> TransportSecuritySettings:
        """Requests must name this host, so that a page of another site cannot have a browser ask here."""
        from mcp.server.transport_security import TransportSecuritySettings

        here = [f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in {*LOOPBACK, self.host}]
        # a proxy before this process has a port of its own, or the usual one, which nobody says
        there = [said for name in self.names for said in (name, f"{name}:*")]
        origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in (*here, *there)]
        return TransportSecuritySettings(
            enable_dns_rebinding_protection=True, allowed_hosts=[*here, *there], allowed_origins=origins
        )


def run(host: Host, address: Address, *, ready: Callable[[str], None]) -> None:
    """Serves clients until a signal ends the process; `ready` hears the address. Raises MemosError when it is taken."""
    listener = _listen(address)
    shown = f"[{address.host}]" if ":" in address.host else address.host
    port = listener.getsockname()[1]
    with contextlib.closing(listener):
        asyncio.run(_serve(host, address, listener, port, lambda: ready(f"http://{shown}:{port}{PATH}")))


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # of TCP by its number: to others asyncio does not give TCP_NODELAY, and each answer's body waits 40 ms for an ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(128)  # now, or a second server could take the same port before this one listens
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise MemosError(f"{address.host}:{address.port} cannot be listened to: {why}", hint="--port N") from error
    return listener


async def _serve(host: Host, address: Address, listener: socket.socket, port: int, ready: Callable[[], None]) -> None:
    import uvicorn

    app = application(host, address, port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", server_header=False, limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS, h11_max_incomplete_event_size=1 << 16,
    )  # fmt: skip
    server = uvicorn.Server(config)
    # signals are ours: uvicorn would end the process by the signal, when all is well
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.01)
    if not serving.done():
        ready()
    await serving


def application(host: Host, address: Address, port: int) -> ASGIApp:
    """The ASGI application: the door, and behind it the protocol."""
    from mcp.server.auth.settings import AuthSettings

    own = f"http://{address.host}:{port}"
    app = build(host).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        max_request_body_size=BODY_BYTES,
        max_sessions=SESSIONS,
        transport_security=address.security(port),
        auth=AuthSettings(issuer_url=own, resource_server_url=None, validate_token_resource=False),  # type: ignore[arg-type]
        token_verifier=Keys(host.home),
    )
    return Door(app, host.home)


@dataclass(frozen=True, slots=True)
class Keys:
    """Knows clients by their keys."""

    home: Path

    async def verify_token(self, token: str) -> AccessToken | None:
        """The client of a key, for the protocol's own bookkeeping; None for nobody."""
        from mcp.server.auth.provider import AccessToken

        client = clients.find(self.home, token)
        if client is None:
            return None
        # the key itself is not needed any more, and is kept nowhere
        return AccessToken(token="", client_id=client.name, scopes=list(client.may), claims={"client": client})


@dataclass(frozen=True, slots=True)
class Door:
    """Notes who is turned away."""

    app: ASGIApp
    home: Path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] in (401, 403, 421):
                peer = (scope.get("client") or ("",))[0]
                facts = {"by": "mcp", "from": peer, "status": message["status"]}
                door.note(self.home, actor={"client": "", "user": "", "key": ""}, verb="enter", facts=facts)
            await send(message)

        await self.app(scope, receive, watch if scope["type"] == "http" else send)
