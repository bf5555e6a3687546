"""Talks with the server by the protocol's own client: in this process, over pipes, and over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from memos_cli.console import plain
from memos_cli.infrastructure import clients
from memos_cli.interface.mcp.server import Host, build
from memos_cli.interface.visiting import served

Step = Callable[[Client], Awaitable[Any]]


def inside(
    home: Path,
    client: clients.Client,
    *steps: Step,
    cubes: tuple[str, ...] = (),
    model: str = "nano",
    accepted: bool = False,
) -> list[Any]:
    """What each step gives, one after another, of a server in this process."""
    host = Host(home, served(home, cubes), model, plain, lambda ctx: client, accepted=accepted)
    return _talk(build(host, client=client), steps)


def over_pipes(home: Path, *steps: Step, words: tuple[str, ...] = ()) -> list[Any]:
    """The same of `memos mcp WORDS` in a process of its own."""
    return _talk(started(home, *words), steps)


def started(home: Path, *words: str) -> StdioServerParameters:
    """How the protocol's client starts `memos mcp WORDS`."""
    return StdioServerParameters(command=sys.executable, args=["-m", "memos_cli", "mcp", *words], env=environment(home))


def over_http(url: str, key: str, *steps: Step, **headers: str) -> list[Any]:
    """The same of a server at an address, with the key of a client."""

    async def run() -> list[Any]:
        sent = {"Authorization": f"Bearer {key}", **headers}
        async with httpx2.AsyncClient(headers=sent, timeout=60) as http:
            return await _steps(streamable_http_client(url, http_client=http), steps)

    return anyio.run(run)


@contextmanager
def serving(home: Path, *words: str) -> Iterator[str]:
    """`memos mcp --http WORDS` in a process of its own; the address at which it can be reached."""
    command = [sys.executable, "-m", "memos_cli", "mcp", "--http", "--port", "0", *words]
    process = subprocess.Popen(command, env=environment(home), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = next(line for line in process.stderr if "serving at" in line)
        yield line.split("serving at ")[1].split(";")[0]
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


def environment(home: Path) -> dict[str, str]:
    """What a process needs to know: this checkout, and a home."""
    here = str(Path(__file__).parents[3])
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    return {**kept, "PYTHONPATH": here, "MEMOS_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def tool(name: str, **arguments: Any) -> Step:
    """A call of a tool."""
    return lambda client: client.call_tool(name, arguments)


def words(result: CallToolResult) -> str:
    """What a call gave, in words."""
    (block,) = result.content
    return block.text


def _talk(server: Any, steps: tuple[Step, ...]) -> list[Any]:
    return anyio.run(_steps, server, steps)


async def _steps(server: Any, steps: tuple[Step, ...]) -> list[Any]:
    async with Client(server) as client:
        return [await step(client) for step in steps]
