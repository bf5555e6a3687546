"""Whether ingest holds as much memory for a large file as for a small one.

Generated JSONL of several sizes (of 1 KB a record, random words), each ingested by words only in a process of its own;
told are the most memory that process held, and records a second. The bar: the largest file takes at most 1.25 times the
memory of the one before it. `--mb 40 160 2048` is the size that is aimed at; the default takes minutes less. The files
are removed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.bench import timing
from tests.bench.timing import Bar

WORDS = [f"w{i}" for i in range(5_000)]
BLOCK = 3_000


def write(path: Path, megabytes: int) -> int:
    """A file of about so many MB; returns its records. No two of them are alike."""
    chance = random.Random(1)
    texts = [" ".join(chance.choices(WORDS, k=170)) for _ in range(BLOCK)]
    size = records = 0
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes * 1_000_000:
            size += file.write(json.dumps({"text": f"{texts[records % BLOCK]} n{records}"}) + "\n")
            records += 1
    return records


def main() -> None:
    """Prints the table and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, nargs="+", default=[20, 40, 80])
    given = parser.parse_args()
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in given.mb:
            source = Path(folder, f"{megabytes}.jsonl")
            records = write(source, megabytes)
            command = [sys.executable, "-m", "memos_cli", "ingest", str(source.with_suffix(".cube")), str(source)]
            done = timing.run([*command, "--embedder", "none"], env=timing.light(MEMOS_HOME=f"{folder}/home"))
            if done.code:
                raise SystemExit(done.out)
            source.unlink()
            rows.append({"mb": megabytes, "records": records, "records/s": round(records / done.wall_s),
                         "rss_mb": round(done.rss_mb)})  # fmt: skip
    timing.table(rows)
    held = [row["rss_mb"] for row in rows]
    bars = [Bar("memory for the largest over the one before", round(held[-1] / held[-2], 2), 1.25)] if held[1:] else []
    timing.finish("stream", {"rows": rows}, bars=bars)


if __name__ == "__main__":
    main()
