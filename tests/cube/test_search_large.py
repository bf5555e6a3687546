"""Large tables: text indexes in parts, and what Lance is asked to hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memos_cli.cube import heap, search
from memos_cli.cube.plaintext import Memories, table_of
from tests.cube.rows import turn

PROGRAM = """
import json, random, sys
from pathlib import Path
from memos_cli.cube import search
from memos_cli.cube.plaintext import table_of
from tests.cube.rows import make_table, turn
chance = random.Random(1)
rows = []
for i in range(12_000):
    rows.append(turn(i, "Ann", " ".join(f"w{int(chance.paretovariate(0.4)) % 50_000}" for _ in range(40 + i % 9))))
search.LARGE_ROWS = 1_000
table = make_table(Path(sys.argv[1]), rows).table
found = {}
for words in ("w3 w7", "w1999", "w12 w512 w4 w33", "w1", "w250 w9"):
    scores = search.text_list(table, words, column="text", limit=10)
    best = scores["_score"].to_pylist()
    pairs = zip((-score for score in best), scores["_rowid"].to_pylist(), strict=True)
    surely = sorted(pair for pair in pairs if -pair[0] > best[-1])  # of equals, any may come first
    found[words] = [best, surely]
print(json.dumps(found))
"""


def _built(folder: Path, **settings: str) -> tuple[dict[str, object], int]:
    """The best rows of some questions, and in how many parts the index of texts is."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LANCE_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder)],
        capture_output=True, text=True, check=True, env={**environment, **settings},
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found, len(list(folder.rglob("*_tokens.lance")))


@pytest.mark.long
def test_an_index_in_many_parts_ranks_as_one_of_a_single_part(tmp_path: Path) -> None:
    whole, few = _built(tmp_path / "whole")
    parts, many = _built(tmp_path / "parts", LANCE_FTS_PARTITION_SIZE="1")
    assert few == len(search.TEXT_COLUMNS) < many
    assert whole == parts


def test_what_the_user_has_set_for_lance_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANCE_FTS_PARTITION_SIZE", "LANCE_FTS_NUM_SHARDS", "LANCE_DEFAULT_IO_BUFFER_SIZE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("LANCE_FTS_PARTITION_SIZE", "7")
    heap.bound()
    assert os.environ["LANCE_FTS_PARTITION_SIZE"] == "7"
    assert int(os.environ["LANCE_DEFAULT_IO_BUFFER_SIZE"]) == heap.READ_AHEAD_BYTES
    assert 1 <= int(os.environ["LANCE_FTS_NUM_SHARDS"]) <= heap.MOST_WORKERS


# In a process of its own: what other threads of this one take in the meantime is not what is asked.
FREED = """
from pathlib import Path
from memos_cli.cube import heap

def anonymous_kb():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])

with heap.returning():
    before = anonymous_kb()
    blocks = [bytearray(b"x" * (2 << 20)) for _ in range(20)]
    held = anonymous_kb() - before
    del blocks
    print(held, anonymous_kb() - before)
"""


@pytest.mark.skipif(heap._glibc() is None, reason="another allocator")
def test_what_was_freed_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    held, left = map(int, done.stdout.split())
    assert held > 30 << 10
    assert left < 10 << 10


def test_an_error_passes_through() -> None:
    with pytest.raises(KeyError), heap.returning():
        raise KeyError


def test_fragments_that_are_large_already_are_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FRAGMENT_ROWS", 4)
    memories = Memories.create(tmp_path, embedder=None)
    at = 0
    for size, merged in ((5, False), (1, True)):
        for _ in range(search.MOST_FRAGMENTS + 4):
            memories.append(table_of([turn(at + i, "Ann", f"word{at + i}") for i in range(size)], embedder=None))
            at += size
        assert search.compact(memories.table) is merged
        assert len(list((tmp_path / "memories.lance" / "_versions").glob("*.manifest"))) == 1
    assert memories.count() == at
