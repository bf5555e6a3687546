"""The protocol over the streams of a process: stdin and stdout are its wire, and nothing else is written there."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from typing import Any, cast

from memos_cli.interface.mcp.server import Host, build

READ_BYTES = 1 << 16
# A message is a line; a longer one than this is passed over.
LINE_BYTES = 4 << 20


def run(host: Host) -> None:
    """Serves the one client at the other end of the pipes until it closes them, or a signal ends the process."""
    import anyio

    anyio.run(_serve, host)


async def _serve(host: Host) -> None:
    import anyio
    from mcp.server.stdio import stdio_server

    server = build(host, client=host.who(None))
    wire = os.dup(0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_end_on_signal, tasks.cancel_scope)
        # stdin is read here, since a thread that waits for a line cannot be told to stop
        async with stdio_server(stdin=cast(Any, Lines(wire))) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _end_on_signal(scope: Any) -> None:
    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


class Lines:
    """The lines of a descriptor as they come; waiting for the next can be cancelled."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = bytearray()

    async def __aiter__(self) -> AsyncIterator[str]:
        skipping = False
        while data := await self._read():
            self._held += data
            *lines, rest = self._held.split(b"\n")
            self._held = rest
            for line in lines:
                if not skipping and len(line) <= LINE_BYTES:
                    yield line.decode("utf-8", "replace")
                skipping = False
            if len(self._held) > LINE_BYTES:
                self._held.clear()
                skipping = True

    async def _read(self) -> bytes:
        import anyio

        try:
            await anyio.wait_readable(self._descriptor)
        except PermissionError:  # a file is always there to be read, and cannot be waited for
            await anyio.sleep(0)
        return os.read(self._descriptor, READ_BYTES)
