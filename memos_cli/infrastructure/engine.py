"""Where the work of a verb is done: in this process, or by workers of Ray.

Both take the same functions of plain values: `setup()` gives what a worker holds (an embedder, a model), once for each
worker, and `work(held, item)` does one piece. Results come in the order of the items, and only so many are under way
at a time. `local` is the default and imports nothing of Ray, which `cluster.py` knows alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit

from memos_cli.errors import MissingExtra, Usage

LOCAL, RAY = "local", "ray"
SCHEME = "ray://"
PORT = 10001  # where the servers of Ray's clients listen when nobody says otherwise

Setup = Callable[[], Any]
Work = Callable[[Any, Any], Any]
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Where:
    """Which engine was asked for. `address` is that of a cluster, "" for what runs on this machine alone."""

    name: str
    address: str = ""
    host: str = ""

    @property
    def far(self) -> bool:
        """Whether work leaves this process."""
        return self.name != LOCAL

    @property
    def socket(self) -> tuple[str, int]:
        """The address as a socket takes it."""
        host, _, port = self.host.rpartition(":")
        return host.strip("[]"), int(port)


class Engine(Protocol):
    """What verbs ask of an engine."""

    @property
    def far(self) -> bool: ...
    def map(self, work: Work, items: Iterable[Any], *, setup: Setup, gpu: bool = False) -> Generator[Any]: ...
    def soon(self, work: Work | None = None, *, setup: Setup = int, gpu: bool = False) -> None: ...
    def let_go(self) -> None: ...


class Local:
    """The work, done here as its results are asked for."""

    far: ClassVar[bool] = False

    def map(self, work: Work, items: Iterable[Any], *, setup: Setup, gpu: bool = False) -> Generator[Any]:
        """The result of each item, in their order."""
        held = setup()
        for item in items:
            yield work(held, item)

    def soon(self, work: Work | None = None, *, setup: Setup = int, gpu: bool = False) -> None:
        """Nothing has to be started."""

    def let_go(self) -> None:
        """Nothing is held."""


def where(name: str) -> Where:
    """What `local`, `ray` or `ray://HOST:PORT` means. Raises Usage."""
    if name in (LOCAL, RAY):
        return Where(name)
    hint = f"--engine {RAY} (workers on this machine) or --engine {SCHEME}HOST:{PORT}"
    try:
        parts = urlsplit(name.strip())
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError as error:
        raise Usage(f"expected an engine such as {SCHEME}HOST:{PORT}: {error}", hint=hint) from error
    odd = not (name.strip().isascii() and name.strip().isprintable()) or " " in name.strip()
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != RAY or not host or odd or more:
        raise Usage(f"expected the engine local, ray or {SCHEME}HOST:PORT, found {name[:200]!r}", hint=hint)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Where(RAY, f"{SCHEME}{place}", place)


@contextmanager
def opened(
    name: str, *, workers: int | None = None, shared: Path | None = None, notify: Notify = lambda text: None
) -> Iterator[Engine]:
    """The engine that a name means, until the block ends; Ray is started or reached when there is something to do.

    `workers` is how many at most (default: one for each processor or accelerator). `shared` is a file that every
    worker must see as it is here. Raises Usage, MissingExtra.
    """
    place = where(name)
    if not place.far:
        yield Local()
        return
    if workers is not None and workers < 1:
        raise Usage(f"expected at least one worker, found {workers}")
    for package, extra in (("ray", "Ray itself"), ("lance", "what workers write tables with")):
        if find_spec(package) is None:
            raise MissingExtra(f"the engine {RAY} needs {package} ({extra})", hint="pip install 'memos[ray]'")
    from memos_cli.infrastructure.cluster import Cluster
    from memos_cli.infrastructure.keeper import leaving_on_terminate

    cluster = Cluster(place, workers=workers, shared=shared, notify=notify)
    with leaving_on_terminate(), closing(cluster):
        yield cluster


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
