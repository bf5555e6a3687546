"""What the protocol costs: a recall through `memos mcp`, beside the same prompt through the Python API.

Both are warm: `api.query_many` in this process, whose cube and embedder stay open, and servers in processes of their
own, over pipes and over HTTP, spoken to by the protocol's own client. Each prompt goes to all three in turns, so that
what slows the machine slows all, and the difference is taken prompt by prompt. The bar is 10 ms more at the median.
What of that is the protocol alone is told by `list_prompts`, which opens no cube. CPU milliseconds of all processes
together are told beside it: on a machine with other work they are what the wait would be without. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from memos_cli.infrastructure import clients
from memos_cli.interface import api
from tests.bench import timing
from tests.bench.timing import Bar, Spread
from tests.interface.mcp.talking import serving, started

CORPUS = Path(__file__).parents[2] / "bundles" / "corpus" / "handbook"
CUBE, K = "handbook", 5
QUESTIONS = (
    "who may roll back a release?", "what is the travel budget?", "how long are logs kept?", "when is the office open?",
    "who is on call at night?", "how do I ask for leave?", "what is an incident of the first severity?",
)  # fmt: skip


def cpu_seconds() -> float:
    """CPU seconds of this process and those it started, of all their threads."""
    started = Path("/proc/self/task").glob("*/children")
    children = {number for each in started for number in each.read_text().split()}
    tasks = [task for number in children for task in Path(f"/proc/{number}/task").glob("*/schedstat")]
    return time.process_time() + sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


async def measure(home: Path, url: str, key: str, *, prompts: int, warm: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and CPU seconds of each prompt by way: the Python API, pipes, HTTP, and a call that opens nothing."""
    asked: list[str] = []
    answers = api.query_many([CUBE], iter(asked.pop, None), k=K, home=home)
    sent = {"Authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=sent, timeout=60) as http,
        Client(started(home, CUBE)) as piped,
        Client(streamable_http_client(url, http_client=http)) as remote,
    ):

        async def python(prompt: str) -> None:
            asked.append(prompt)
            next(answers)

        async def recall(client: Client, prompt: str) -> None:
            found = await client.call_tool("recall", {"query": prompt, "k": K})
            assert found.structured_content["hits"], found

        async def bare(client: Client) -> None:
            await client.list_prompts(cache_mode="bypass")

        ways: dict[str, Callable[[str], Awaitable[None]]] = {
            "python": python,
            "pipes": lambda prompt: recall(piped, prompt),
            "http": lambda prompt: recall(remote, prompt),
            "pipes, no cube": lambda prompt: bare(piped),
            "http, no cube": lambda prompt: bare(remote),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for number in range(prompts + warm):
            prompt = f"{QUESTIONS[number % len(QUESTIONS)]} ({number})"
            for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
                spent, begin = cpu_seconds(), time.perf_counter()
                await way(prompt)
                taken[name].append((time.perf_counter() - begin, cpu_seconds() - spent))
    return {name: seconds[warm:] for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--warm", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        api.ingest(CUBE, [str(CORPUS)], home=home)
        _, key = clients.add(home, clients.bounded("bench", cubes=[CUBE]))
        with serving(home) as url:
            taken = anyio.run(lambda: measure(home, url, key, prompts=given.prompts, warm=given.warm))
    rows = [{"way": way, **_told(taken, way)} for way in taken]
    timing.say(f"{given.prompts} prompts, ms: median (least..9 of 10)")
    timing.table(rows)
    bars = [
        Bar(f"recall over {row['way']}, {kind} more than the Python API", row[f"more {kind}"].median, 10.0)
        for row in rows
        if row["way"] in ("pipes", "http")
        for kind in ("ms", "cpu ms")
    ]
    timing.finish("mcp", {"ways": rows}, bars=bars)


def _told(taken: dict[str, list[tuple[float, float]]], way: str) -> dict[str, Spread]:
    """What a way took, and how much more than the Python API prompt by prompt, in wall and CPU milliseconds."""
    told: dict[str, Spread] = {}
    for place, kind in enumerate(("ms", "cpu ms")):
        own = [each[place] for each in taken[way]]
        told[kind] = Spread.of(own, scale=1e3)
        if way in ("pipes", "http"):
            base = [each[place] for each in taken["python"]]
            told[f"more {kind}"] = Spread.of([a - b for a, b in zip(own, base, strict=True)], scale=1e3)
    return told


if __name__ == "__main__":
    main()
