"""How fast a cube is packed, beside `cat` of the same files to the same disk, and how much memory that takes.

A cube with ten large files of random bytes is packed whole (governance, hashing of every byte, the access log) and its
files are put together by `cat`, in turns, each onto a file that is new and synced at the end. The bar: at least 0.8 of
what `cat` writes a second. Then one `memos pack` and one of a cube a tenth as large, as processes of their own: memory
must not grow with the cube. The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from memos_cli.infrastructure import vault
from memos_cli.interface import api
from tests.bench import timing
from tests.bench.timing import Bar, Spread

FILES = 10
BLOCK = 4 << 20


def make(place: Path, megabytes: int) -> Path:
    """A cube with so many MB in ten files."""
    root = place / f"{megabytes}.cube"
    (place / "notes.md").write_text("- The train leaves at nine.\n")
    api.ingest(root, [place / "notes.md"], embedder="none", home=place / "home")
    stamp = vault.Stamp("convert", {"key": "bench", "user": "bench"}, "2026-01-31T12:00:00Z")
    with vault.draft(root, stamp=stamp) as draft:
        (draft.path / "activation").mkdir()
        for number in range(FILES):
            fill(draft.path / "activation" / f"m{number}.{number:012x}.kv.safetensors", megabytes * 1_000_000 // FILES)
        draft.commit({})
    return root


def fill(path: Path, size: int) -> None:
    """A file of random bytes."""
    with open(path, "xb") as stream:
        for start in range(0, size, BLOCK):
            stream.write(os.urandom(min(BLOCK, size - start)))


def cat(root: Path, target: Path) -> None:
    """The files of the current version, one after another in one synced file."""
    version = vault.current_version(root)
    with open(target, "wb") as stream:
        names = [str(version.path / entry.path) for entry in version.manifest.files]
        subprocess.run(["cat", *names], stdout=stream, check=True)
        os.fsync(stream.fileno())
    target.unlink()


def pack(root: Path, target: Path, home: Path) -> None:
    """The same as a package."""
    api.pack(root, target, home=home)
    target.unlink()


def held_mb(root: Path, home: Path) -> float:
    """The most memory that `memos pack` of this cube holds."""
    target = root.with_suffix(".memcube")
    command = [sys.executable, "-m", "memos_cli", "pack", str(root), "-o", str(target)]
    done = timing.run(command, env=timing.light(MEMOS_HOME=str(home)))
    if done.code:
        raise SystemExit(done.out)
    target.unlink()
    return done.rss_mb


def main() -> None:
    """Prints the table and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        place = Path(folder)
        if shutil.disk_usage(place).free < 4_000_000 * given.mb:
            raise SystemExit(f"expected {4 * given.mb} MB of room on this disk")
        home = place / "home"
        root, small = make(place, given.mb), make(place, given.mb // FILES)
        target = place / "out"
        pairs = timing.measure_pairs(
            lambda: cat(root, target), lambda: pack(root, target, home), times=given.runs, warm=1
        )
        speeds = [Spread.of([given.mb / pair[side] for pair in pairs], digits=0) for side in (0, 1)]
        ratio = Spread.of(timing.ratios(pairs))
        memory = [held_mb(one, home) for one in (small, root)]
    timing.table(
        [{"what": "cat", "MB/s": speeds[0]}, {"what": "memos pack", "MB/s": speeds[1], "of cat": ratio,
                                              "rss_mb": round(memory[1]), "rss_mb of a tenth": round(memory[0])}]
    )  # fmt: skip
    bars = [
        Bar("pack, of the speed of cat", ratio.median, 0.8, least=True),
        Bar("memory of ten times as much", round(memory[1] / memory[0], 2), 1.1),
    ]
    timing.finish("pack", {"mb": given.mb, "cat": speeds[0], "pack": speeds[1], "ratio": ratio,
                           "rss_mb": memory}, bars=bars)  # fmt: skip


if __name__ == "__main__":
    main()
