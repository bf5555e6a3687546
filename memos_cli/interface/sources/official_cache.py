"""The pickled activation memory of an official MemOS cube, as a source: told, and not remembered.

It gives no pieces: a cache says neither its model nor its tokens, so it is taken in by `memos convert --from`, which
measures it. Here it is read through, so that a hostile one is refused, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from memos_cli.cube import official_cache, pickled
from memos_cli.cube.piece import Piece
from memos_cli.interface.sources.opened import Opened

_HOW = "no proof of its model: memos convert CUBE --ids ID --from FILE --model MODEL measures it, and takes it in"


def read(opened: Opened) -> Iterator[Piece]:
    """Nothing; the caches are counted as losses. Raises Damaged for any other pickle."""
    data = opened.stream.read(pickled.MOST_BYTES + 1)
    for kept in official_cache.decode(data, place=opened.name):
        why = _HOW if kept.layers else "no keys and values: a prompt alone is kept"
        opened.losses.add("KV cache", f"{kept.id[:40]} ({kept.label})", why)
    yield from ()
