"""The process that first opens what came from elsewhere: `python -m memos_cli.infrastructure.inspection ...`.

It takes away from itself what it does not need (memory, time, the right to write), then opens and reads everything in
the version: metadata, every table with all of its rows and indexes, the catalogues, the headers of caches. It ends
with 0 when all is well; otherwise one line on stdout says what is not. Whatever a hostile file does to a reader
happens here.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

from memos_cli.errors import Damaged, MemosError

MEMORY_BYTES = 4 << 30
OPEN_FILES = 4096
# pyarrow brings them when they are there, a quarter of the time that this process takes; nothing here needs them.
UNUSED = ("numpy", "cloudpickle")
_PLAINTEXT = "plaintext"


def main(folder: Path, seconds: int) -> int:
    """Looks at the version in `folder`; the exit code."""
    restrict(seconds)
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, as if it were not installed
    try:
        look(folder)
    except MemosError as error:
        sys.stdout.write(f"{error.message}\n")
        return error.exit_code
    except (MemoryError, RecursionError) as error:
        sys.stdout.write(f"it takes more than {MEMORY_BYTES >> 30} GiB of memory to read ({type(error).__name__})\n")
        return Damaged.exit_code
    return 0


def restrict(seconds: int) -> None:
    """Takes away from this process what reading does not need, for good."""
    for kind, most in (
        (resource.RLIMIT_DATA, MEMORY_BYTES),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def look(folder: Path) -> None:
    """Opens and reads all of the version in `folder`. Raises Damaged."""
    from memos_cli.cube import activation, exchanges, extracted, metadata, parameter, probes, sources

    cube = metadata.load(folder)
    place = folder / _PLAINTEXT
    for table in sorted(place.glob("*.lance")):
        _read_table(place, table.stem, expected=cube.plaintext.memories if table.stem == "memories" else None)
    readers: tuple[Callable[[Path], object], ...] = (sources.read, exchanges.read, extracted.read)
    for read in readers:
        read(place)
    for probe, wrong in probes.faults(place):
        raise Damaged(f"the probe {probe[:40]} {wrong}")
    for file in activation.find(folder / activation.FOLDER):
        activation.read(file)
    for name in parameter.names(folder / parameter.FOLDER):
        parameter.read(folder / parameter.FOLDER, name)


def _read_table(place: Path, name: str, *, expected: int | None) -> None:
    """Every row of a table, and a search of every text index."""
    from memos_cli.cube import lance
    from memos_cli.cube.native import Words
    from memos_cli.cube.plaintext import Memories

    table = Memories.open(place).table if name == "memories" else lance.open_table(place, name)
    rows = 0
    try:
        for batch in table.search().to_batches(512):
            batch.validate(full=True)
            rows += batch.num_rows
        for index in table.list_indices():
            if str(index.index_type).upper() in ("FTS", "INVERTED"):
                table.search(Words("the", index.columns[0])).limit(3).select(["id"]).to_arrow()
    except (RuntimeError, ValueError, OSError) as error:
        raise Damaged(f"{name}.lance cannot be read: {error}") from error
    if expected is not None and rows != expected:
        raise Damaged(f"memcube.toml tells of {expected:,} memories, found {rows:,}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
