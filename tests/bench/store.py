"""Push beside skopeo: the same packed file into the same registry, in turns, and what stops and memory cost.

    python -m tests.bench.store [--mb 200] [--runs 5]

Needs Debian's docker-registry and skopeo. Each push goes to a registry of its own with nothing in it, so neither gains
from what the other brought. A push is a whole process, from its start to its end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from memos_cli.cube import archive, bundle, metadata
from memos_cli.cube.digest import MANIFEST_NAME, Entry, build, hash_file
from tests.bench.timing import Bar, Run, Spread, compile_program, finish, light, measure, run, say, table
from tests.infrastructure.store.conftest import debian_registry
from tests.infrastructure.store.fake import registry as fake_registry

MEMOS = (sys.executable, "-m", "memos_cli")


def make_package(folder: Path, megabytes: int) -> Path:
    """A packed file of so many MB: four large files and some small ones, of bytes that nothing compresses."""
    tree = folder / "tree"
    sizes = {f"activation/m{n}.0123456789ab.kv.safetensors": (megabytes << 20) // 4 for n in range(4)}
    sizes |= {f"plaintext/memories.lance/data/{n:04d}.lance": 20_000 for n in range(50)}
    for path, size in sizes.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        with open(tree / path, "wb") as stream:
            for start in range(0, size, 1 << 20):
                stream.write(os.urandom(min(1 << 20, size - start)))
    cube = metadata.new("bench", governance=metadata.Governance(owner="ed25519:" + "a" * 32, share_scope="anyone"))
    (tree / metadata.FILE).write_bytes(metadata.dumps(replace(cube, version="1.0.0")))
    entries = [Entry(path, (tree / path).stat().st_size, hash_file(tree / path)) for path in [*sizes, metadata.FILE]]
    manifest = build(entries, cube_id=cube.id, version=1, parent=None, operation="init",
                     actor={"key": "k", "user": "u"}, time="2026-01-31T12:00:00Z")  # fmt: skip
    (tree / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    packed = folder / "bench-1.0.0.memcube"
    with open(packed, "wb") as stream:
        archive.write(bundle.layout(tree), stream)
    shutil.rmtree(tree)
    return packed


@contextmanager
def empty_registry(folder: Path) -> Iterator[str]:
    """The host of a registry with nothing in it."""
    place = Path(tempfile.mkdtemp(dir=folder))
    process = debian_registry(place)
    if process is None or shutil.which("skopeo") is None:
        sys.exit("needs docker-registry and skopeo: apt-get install docker-registry skopeo")
    try:
        yield process.host  # type: ignore[attr-defined]
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(place)


def push(packed: Path, host: str, home: Path) -> Run:
    done = run([*MEMOS, "push", str(packed), f"oci://{host}/team"], env=light(MEMOS_HOME=str(home)))
    assert done.code == 0, done.out
    return done


def copy(packed: Path, host: str) -> Run:
    command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci-archive:{packed}",
               f"docker://{host}/team/bench:1.0.0"]  # fmt: skip
    done = run(command)
    assert done.code == 0, done.out
    return done


def measure_pushes(packed: Path, folder: Path, runs: int) -> tuple[list[Run], list[Run], list[Run]]:
    """Pushes, copies, and second pushes to where all is there; the first pair is not counted."""
    pushes, copies, again = [], [], []
    for number in range(runs + 1):
        for ours in (True, False) if number % 2 else (False, True):
            with empty_registry(folder) as host:
                if ours:
                    pushes.append(push(packed, host, folder / "home"))
                    again.append(push(packed, host, folder / "home"))
                else:
                    copies.append(copy(packed, host))
        say(f"run {number}: push {pushes[-1].wall_s:.2f} s, skopeo {copies[-1].wall_s:.2f} s, "
            f"again {again[-1].wall_s:.2f} s, {pushes[-1].rss_mb:.0f} MB")  # fmt: skip
    return pushes[1:], copies[1:], again[1:]


def measure_resume(packed: Path, folder: Path) -> tuple[int, int]:
    """A push that is killed half-way and run again: the bytes that went twice, and the largest chunk."""
    home = folder / "resumed"
    with fake_registry() as served:
        command = [*MEMOS, "push", str(packed), f"oci://{served.host}/team"]
        process = subprocess.Popen(command, env=light(MEMOS_HOME=str(home)), stdout=subprocess.DEVNULL)
        while sum(served.state.received.values()) < packed.stat().st_size // 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        push(packed, served.host, home)
        sizes = {digest: len(data) for (_, digest), data in served.state.blobs.items()}
        lengths = [int(headers["Content-Length"]) for method, _, headers in served.state.asked if method == "PATCH"]
        return sum(served.state.received.values()) - sum(sizes.values()), max(lengths)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    compile_program()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed = make_package(folder, asked.mb)
        pushes, copies, again = measure_pushes(packed, folder, asked.runs)
        twice, chunk = measure_resume(packed, folder)
        ratios = [theirs.wall_s / ours.wall_s for ours, theirs in zip(pushes, copies, strict=True)]
        start = Spread.of(measure(lambda: run([*MEMOS, "--version"]), times=5))
    rows = [
        {"what": "push", "wall s": Spread.of([one.wall_s for one in pushes]),
         "cpu s": Spread.of([one.cpu_s for one in pushes]), "MB held": Spread.of([one.rss_mb for one in pushes])},
        {"what": "skopeo copy", "wall s": Spread.of([one.wall_s for one in copies]),
         "cpu s": Spread.of([one.cpu_s for one in copies]), "MB held": Spread.of([one.rss_mb for one in copies])},
        {"what": "push again", "wall s": Spread.of([one.wall_s for one in again]),
         "cpu s": Spread.of([one.cpu_s for one in again]), "MB held": Spread.of([one.rss_mb for one in again])},
        {"what": "memos --version", "wall s": start},
    ]  # fmt: skip
    table(rows)
    bars = [
        Bar("speed of a push, in parts of skopeo's", Spread.of(ratios).median, 0.7, least=True),
        Bar("seconds of a push of what is there", Spread.of([one.wall_s for one in again]).median, 0.5),
        Bar("MB held by a push", max(one.rss_mb for one in pushes), 64),
        Bar("bytes sent twice after a kill, in chunks", round(twice / chunk, 3), 1),
    ]
    finish("store", {"mb": asked.mb, "rows": rows, "ratios": [round(one, 3) for one in ratios],
                     "sent_twice_bytes": twice, "chunk_bytes": chunk}, bars=bars)  # fmt: skip


if __name__ == "__main__":
    main()
