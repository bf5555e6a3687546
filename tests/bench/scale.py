"""What grows with a cube, and how fast: the slopes that docs/explanation/scale.md computes with.

Made-up records of about 25 words, ingested by words only into cubes of several sizes: bytes on the disk, CPU seconds of
an ingest, of one memory more, of an audit and of a question in a process that stays. Then a cube whose table lies in a
real S3 server (moto's, `make .servers`): how many requests each of these makes, and how many bytes it fetches. And a
cube with vectors, made without an embedder's time: bytes of vectors and their index. `--rows 10000 100000 1000000` is
what is aimed at and takes half an hour and 4 GB; the default takes minutes. The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests import buckets
from tests.bench import timing
from tests.bench.stream import WORDS

COUNT = 25
BLOCK = 3_000
QUESTIONS = 9
_ASKED = re.compile(r'"([A-Z]+) (\S+) HTTP')


def write(path: Path, rows: int, *, seed: int = 1) -> None:
    """A file of so many records, no two alike."""
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(WORDS, k=COUNT)) for _ in range(BLOCK)]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(f'{{"text": "{texts[number % BLOCK]} n{seed}x{number}"}}\n')


class Program:
    """memos in a home of its own, as a process each time."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = {}) -> None:  # noqa: B006  never changed
        self.folder = folder
        self.environment = timing.light(MEMOS_HOME=str(folder / "home"), **environment)

    def run(self, *words: object) -> timing.Run:
        done = timing.run([sys.executable, "-m", "memos_cli", *map(str, words)], env=self.environment)
        if done.code:
            raise SystemExit(f"{words}: {done.out}")
        return done


def measure_local(rows: int, folder: Path) -> dict[str, Any]:
    """What a cube of so many memories takes and costs."""
    from memos_cli.interface import api

    program, cube = Program(folder), folder / "a.cube"
    write(folder / "all.jsonl", rows)
    write(folder / "one.jsonl", 1, seed=2)
    made = program.run("ingest", cube, folder / "all.jsonl", "--embedder", "none")
    sizes = measure_files(cube / "current")
    more = program.run("ingest", cube, folder / "one.jsonl")
    shallow, deep = program.run("audit", cube), program.run("audit", cube, "--deep")
    home = folder / "home"
    said = [" ".join(random.Random(number).choices(WORDS, k=4)) for number in range(QUESTIONS + 1)]
    asked = iter(said)
    seconds = timing.measure(lambda: api.query(cube, next(asked), home=home), times=QUESTIONS)
    return {
        "rows": rows, "ingest_cpu_s": made.cpu_s, "ingest_rss_mb": round(made.rss_mb), **sizes,
        "one_more_cpu_s": more.cpu_s, "one_more_bytes": new_bytes(cube),
        "query_ms": timing.Spread.of(seconds, scale=1000, digits=1).median,
        "audit_cpu_s": shallow.cpu_s, "audit_deep_cpu_s": deep.cpu_s,
    }  # fmt: skip


def measure_files(version: Path) -> dict[str, int]:
    """Bytes of a version by what they are."""
    table = version / "plaintext" / "memories.lance"
    return {
        "data_bytes": total(table / "data"), "index_bytes": total(table / "_indices"),
        "lance_manifest_bytes": total(table / "_versions"),
        "manifest_bytes": (version / "MANIFEST.json").stat().st_size,
        "files": sum(1 for path in version.resolve().rglob("*") if path.is_file()),
    }  # fmt: skip


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def new_bytes(cube: Path) -> int:
    """Bytes that the newest version does not share with the one before it."""
    old, new = sorted((cube / "versions").iterdir())[-2:]
    known = {path.stat().st_ino for path in old.rglob("*") if path.is_file()}
    return sum(path.stat().st_size for path in new.rglob("*") if path.is_file() and path.stat().st_ino not in known)


def measure_vectors(rows: int, folder: Path) -> dict[str, Any]:
    """Bytes of a cube with two vectors a memory, made of random ones."""
    from memos_cli.cube.metadata import EmbedderIdentity
    from tests.bench import synthetic

    identity = EmbedderIdentity("random", f"sha256:{'0' * 64}", synthetic.DIM, 256, "none")
    synthetic.make_cube(folder / "v.cube", rows=rows, home=folder / "home", embedder=identity)
    return {"rows": rows, **measure_files(folder / "v.cube" / "current")}


class Relay:
    """Stands before a server and counts the bytes that come from it."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        self.behind, self.fetched = (host, int(port)), 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._open, daemon=True).start()

    def _open(self) -> None:
        while True:
            near, _ = self._door.accept()
            far = socket.create_connection(self.behind)
            threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                self.fetched += len(piece) if counted else 0
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def measure_requests(rows: int, folder: Path, server: buckets.Bucket, log: Path) -> list[dict[str, Any]]:
    """How many requests the store gets, by command and kind, and how many bytes it sends."""
    relay = Relay(server.address)
    bucket = replace(server.fresh(), address=relay.address)
    program, cube = Program(folder, bucket.environment), folder / "r.cube"
    write(folder / "all.jsonl", rows)
    write(folder / "one.jsonl", 1, seed=2)
    program.run("init", cube, "--table", bucket.url, "--embedder", "none")
    steps: list[tuple[str, Sequence[object]]] = [
        ("ingest", ("ingest", cube, folder / "all.jsonl")), ("one more", ("ingest", cube, folder / "one.jsonl")),
        ("query", ("query", cube, "w1 w2 w3")), ("show", ("show", cube)),
        ("audit", ("audit", cube)), ("audit --deep", ("audit", cube, "--deep")),
    ]  # fmt: skip
    told = []
    for name, words in steps:
        before, fetched = log.stat().st_size, relay.fetched
        done = program.run(*words)
        asked = {**count(log, before), "fetched_bytes": relay.fetched - fetched}
        told.append({"rows": rows, "command": name, **asked, "cpu_s": done.cpu_s})
    stored = [meta["size"] for page in _store(bucket).list() for meta in page]
    told.append({"rows": rows, "command": "(stored)", "objects": len(stored), "bytes": sum(stored)})
    return told


def _store(bucket: buckets.Bucket) -> Any:
    os.environ.update(bucket.environment)
    return bucket.store()


def count(log: Path, before: int) -> dict[str, int]:
    """The requests in a server's log since it was so long, by kind."""
    kinds: Counter[str] = Counter()
    with open(log, "rb") as file:
        file.seek(before)
        for method, path in _ASKED.findall(file.read().decode("utf-8", "replace")):
            kinds["LIST" if "list-type=" in path else method] += 1
    return {kind: kinds[kind] for kind in ("GET", "HEAD", "LIST", "PUT", "POST", "DELETE")}


def slopes(told: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How much each figure grows with a memory, from the smallest size to the largest."""
    first, last = told[0], told[-1]
    step = last["rows"] - first["rows"]
    return {name: (last[name] - first[name]) / step for name in first if name != "rows"} if step else {}


def main() -> None:
    """Prints the tables and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--bucket-rows", type=int, nargs="*", default=[10_000, 50_000])
    parser.add_argument("--vector-rows", type=int, nargs="*", default=[10_000])
    given = parser.parse_args()
    timing.compile_program()
    local, vectors, requests = [], [], []
    for rows in sorted(given.rows):
        with tempfile.TemporaryDirectory() as folder:
            local.append(measure_local(rows, Path(folder)))
        timing.say(f"{rows:,} memories measured")
    for rows in given.vector_rows:
        with tempfile.TemporaryDirectory() as folder:
            vectors.append(measure_vectors(rows, Path(folder)))
    if given.bucket_rows and buckets.program() is not None:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            for server in buckets.serve(log):
                for rows in given.bucket_rows:
                    place = Path(folder, str(rows))
                    place.mkdir()
                    requests += measure_requests(rows, place, server, log)
    for rows in (local, vectors, requests):
        timing.table(rows)
    grows = slopes(local)
    timing.table([{"figure": name, "a memory": f"{value:.3g}"} for name, value in grows.items()])
    timing.finish("scale", {"local": local, "vectors": vectors, "requests": requests, "slopes": grows})


if __name__ == "__main__":
    main()
