"""How much memory Lance takes while it rewrites or indexes a large table: bounded, and given back.

Left alone, it reads up to 2 GB ahead of what it works on, a text index gathers up to 2 GB for each worker before any of
it is written, and glibc keeps what was freed for later. `bound()` lowers the first two for the whole process, through
the environment that Lance reads once: call it before a table is opened; what the user has set stays. Within
`returning()` large blocks go back to the system when they are freed. Elsewhere than on glibc that one does nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of a text index, before a part of it is written. Scores count over all parts, so more parts rank the same.
PART_MB = 32
MOST_WORKERS = 4
READ_AHEAD_BYTES = 32 << 20

# <malloc.h>
_M_MMAP_THRESHOLD = -3
_ALWAYS_MAPPED_BYTES = 1 << 20
# As high as glibc's own, which moves as blocks are freed and stands still once it is set.
_SELDOM_MAPPED_BYTES = 32 << 20


def bound() -> None:
    """Sets Lance's limits for this process, but for those that are set already."""
    os.environ.setdefault("LANCE_FTS_PARTITION_SIZE", str(PART_MB))
    os.environ.setdefault("LANCE_FTS_NUM_SHARDS", str(min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // 2))))
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(READ_AHEAD_BYTES))


@contextmanager
def returning() -> Iterator[None]:
    """Work during which freed blocks of a megabyte and more go back to the system, and after which all others do."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.malloc_trim(0)
    libc.mallopt(_M_MMAP_THRESHOLD, _ALWAYS_MAPPED_BYTES)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _SELDOM_MAPPED_BYTES)
        libc.malloc_trim(0)


def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
