"""What a query over HTTP costs beside the same query by the Python API, and eight clients at once for a while.

One process serves a cube of 1,000 turns. The same questions are asked in turns over a connection that stays open and
in this process with the same things kept ready (`Warm`), so both do the same work and the difference is HTTP, JSON, the
key, and crossing into a thread. The bar: 10 ms at the median. Then eight clients, each with a key and a connection of
its own, ask as fast as they are answered; the bar: no error. The last line is JSON.

    python -m tests.bench.serve --seconds 60
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from memos_cli.infrastructure import clients
from memos_cli.interface import api
from memos_cli.interface.visiting import Visit
from memos_cli.interface.warming import Warm
from tests.bench import timing
from tests.bench.timing import Bar, Spread
from tests.bench.turns import ROOT, turns

MEMORIES, CLIENTS, BAR_MS = 1000, 8, 10.0
QUESTIONS = (
    "what did they say about the painting of the sunrise?", "where did they go on holiday?", "who has a dog?",
    "when did they meet for coffee?", "which book was recommended?", "what is planned for the summer?",
)  # fmt: skip
MEMOS = [sys.executable, "-m", "memos_cli"]


@dataclass(slots=True)
class Line:
    """One client's connection."""

    url: str
    key: str
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        place = urlsplit(self.url)
        self._http = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)

    _http: Any = field(init=False, repr=False)

    def ask(self, text: str) -> None:
        """One question, timed; what is no answer is an error."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        start = time.perf_counter()
        try:
            self._http.request("POST", "/v1/cubes/talk/query", json.dumps({"text": text}), headers)
            got = self._http.getresponse()
            body = got.read()
            if got.status != 200 or not json.loads(body)["hits"]:
                self.errors.append(f"{got.status} {body[:200]!r}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.errors.append(repr(error))
            self._http.close()
        self.seconds.append(time.perf_counter() - start)


def main() -> int:
    """Measures; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long eight clients ask")
    parser.add_argument("--runs", type=int, default=60, help="questions that are asked both ways")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder), seconds=wanted.seconds, runs=wanted.runs)


def _measure(folder: Path, *, seconds: float, runs: int) -> int:
    home = folder / "home"
    (folder / "talk.jsonl").write_text("".join(turn.line() for turn in turns(MEMORIES)), encoding="utf-8")
    env = timing.light(MEMOS_HOME=str(home), PYTHONPATH=str(ROOT))
    made = timing.run([*MEMOS, "ingest", "talk", str(folder / "talk.jsonl")], env=env)
    if made.code:
        raise SystemExit(made.out)
    os.environ["MEMOS_HOME"] = str(home)
    keys = [clients.add(home, clients.bounded(f"client-{n}", cubes=["talk"]))[1] for n in range(CLIENTS)]
    command = [*MEMOS, "serve", "--port", "0", "--lazy", "--json", "--rate", "1000000/minute"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = json.loads(process.stdout.readline())["url"]
        overhead = _overhead(home, Line(url, keys[0]), runs, process.pid)
        crowd = _crowd([Line(url, key) for key in keys], seconds)
    finally:
        process.terminate()
        code = process.wait(60)
    return _tell(overhead, crowd, code)


def _overhead(home: Path, line: Line, runs: int, pid: int) -> dict[str, Any]:
    """Milliseconds of both ways, asked in turns: by the clock, and of CPU (the server's and this process's)."""
    visit = Visit.to(home, clients.Client("bench", cubes=("talk",)), warm=Warm())
    numbers = iter(range(10 * runs + 100))

    def asked() -> str:
        return QUESTIONS[next(numbers) % len(QUESTIONS)]

    def over() -> None:
        line.ask(asked())

    def plain() -> None:
        visit.do(api.query, "talk", asked())

    pairs = timing.measure_pairs(over, plain, times=runs, warm=2 * len(QUESTIONS))
    if line.errors:
        raise SystemExit(line.errors[0])
    spent = _cpu_seconds(pid), time.process_time()
    for _ in range(runs):
        over()
    over_cpu = _cpu_seconds(pid) - spent[0] + time.process_time() - spent[1]
    start = time.process_time()
    for _ in range(runs):
        plain()
    plain_cpu = time.process_time() - start
    return {
        "http": Spread.of([one for one, _ in pairs], scale=1000),
        "api": Spread.of([one for _, one in pairs], scale=1000),
        "difference": Spread.of([one - other for one, other in pairs], scale=1000),
        "http_cpu_ms": round(1000 * over_cpu / runs, 2), "api_cpu_ms": round(1000 * plain_cpu / runs, 2),
    }  # fmt: skip


def _cpu_seconds(pid: int) -> float:
    """What a process has used so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _crowd(lines: list[Line], seconds: float) -> dict[str, Any]:
    until = time.monotonic() + seconds

    def keep_asking(line: Line, first: int) -> None:
        number = first
        while time.monotonic() < until:
            line.ask(QUESTIONS[number % len(QUESTIONS)])
            number += 1

    threads = [threading.Thread(target=keep_asking, args=(line, n)) for n, line in enumerate(lines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = [one for line in lines for one in line.seconds]
    return {
        "seconds": seconds, "clients": len(lines), "requests": len(spent),
        "errors": [error for line in lines for error in line.errors], "took": Spread.of(spent, scale=1000),
        "per_second": round(len(spent) / seconds, 1),
    }  # fmt: skip


def _tell(overhead: dict[str, Any], crowd: dict[str, Any], code: int) -> int:
    timing.table(
        [
            {"a warm query, ms": name, "p50": each.median, "least": each.least, "p90": each.p90, "CPU": cpu}
            for name, each, cpu in (
                ("Python API", overhead["api"], overhead["api_cpu_ms"]),
                ("over HTTP", overhead["http"], overhead["http_cpu_ms"]),
                ("difference, in pairs", overhead["difference"],
                 round(overhead["http_cpu_ms"] - overhead["api_cpu_ms"], 2)),
            )
        ]
    )  # fmt: skip
    took, errors = crowd["took"], crowd["errors"]
    timing.say(
        f"{crowd['clients']} clients for {crowd['seconds']:g} s: {crowd['requests']} requests, {len(errors)} errors, "
        f"p50 {took.median:.1f} ms, p90 {took.p90:.1f} ms, {crowd['per_second']} a second; it ended with {code}"
    )
    bars = [Bar("overhead at the median, ms", overhead["difference"].median, BAR_MS),
            Bar("errors of a crowd", len(errors), 0), Bar("exit code", code, 0)]  # fmt: skip
    timing.finish("serve", {"overhead": overhead, "crowd": crowd | {"errors": errors[:5]}}, bars=bars)
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
