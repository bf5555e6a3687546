"""Workers of Ray: actors that hold what their work needs, and a pool of them that gives results in order.

Ray does what an engine does: it places actors, starts one that died again, gives it its item again, and keeps a
count of accelerators. What is here is the house's side: how a cluster is started or reached, what a worker checks
before it begins, how many items are under way, and what is said when it ends badly.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

from memos_cli import __version__
from memos_cli.cube.digest import hash_file
from memos_cli.errors import MemosError, NotFound, StoreFailed
from memos_cli.infrastructure.engine import Notify, Setup, Where, Work, processors
from memos_cli.infrastructure.keeper import Keeper

# An item whose worker died is done again so often; a worker that died is started again as often as it takes.
TRIES_AGAIN = 3
# Items that a worker has at once, so that it need not wait for the next one; and those that may wait for an earlier.
DEPTH, WAITING = 2, 2
# Workers that are not there after so long are done without, when others are.
START_SECONDS = 60.0
# A cluster that takes no connection for so long is not there.
CONNECT_SECONDS = 10.0
# What passes between processes of one machine; what does not fit goes to disk, in a folder of ours.
STORE_BYTES = 512 << 20
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@dataclass(frozen=True, slots=True)
class Landmark:
    """A file that a worker must find as it is here: then it sees the same cube."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Landmark:
        """The file as it is now."""
        return cls(str(path), hash_file(path))

    def check(self) -> None:
        """Raises NotFound where it is not, or not the same."""
        try:
            same = hash_file(Path(self.path)) == self.sha256
        except OSError:
            same = False
        if not same:
            raise NotFound(
                f"a worker on {os.uname().nodename} does not see {self.path} as this machine does",
                hint="put the cube where every node mounts it under the same path, or use --engine ray on this machine",
            )


@dataclass(frozen=True, slots=True)
class Failed:
    """How an item ended badly, in a way that is not the worker's fault: another try would end the same."""

    error: MemosError | OSError


class Worker:
    """What runs in an actor: it holds what `setup` gave, from the first item on."""

    def __init__(self, work: Work, setup: Setup, release: str, landmark: Landmark | None) -> None:
        self._work, self._setup, self._release, self._landmark = work, setup, release, landmark
        self._held: list[Any] = []

    def prepare(self) -> None:
        """Sets itself up before there is an item. What cannot be set up is said with the first one."""
        with suppress(Exception):
            self._held.append(self._setup())

    def ready(self) -> Failed | None:
        """Whether it can begin: the same program, and the same files."""
        try:
            if self._release != __version__:
                raise MemosError(
                    f"a worker on {os.uname().nodename} has memos {__version__}, this machine {self._release}",
                    hint="install the same memos[ray] on every node",
                )
            if self._landmark:
                self._landmark.check()
        except MemosError as error:
            return Failed(error)
        return None

    def do(self, number: int, item: Any) -> tuple[int, Any]:
        """The result of one item, beside its number; a restarted worker sets itself up again."""
        try:
            if not self._held:
                self._held.append(self._setup())
            return number, self._work(self._held[0], item)
        except (MemosError, OSError) as error:
            return number, Failed(error)


class Cluster:
    """Ray, started or reached when there is something to do."""

    far: ClassVar[bool] = True

    def __init__(self, place: Where, *, workers: int | None, shared: Path | None, notify: Notify) -> None:
        self._place, self._workers, self._shared, self._notify = place, workers, shared, notify
        self._keeper: Keeper | None = None
        self._reached = False
        self._folder: Path | None = None
        self._hired: dict[Any, Any] = {}

    def map(self, work: Work, items: Iterable[Any], *, setup: Setup, gpu: bool = False) -> Generator[Any]:
        """The result of each item, in their order."""
        rest = iter(items)
        first = list(islice(rest, 1))
        if not first:
            return
        with self.crew(work, setup=setup, gpu=gpu) as crew:
            for item in chain(first, rest):
                yield from crew.put(item)
            yield from crew.rest()

    @contextmanager
    def crew(self, work: Work, *, setup: Setup, gpu: bool = False) -> Iterator[Crew]:
        """Workers for one kind of work, until the block ends; what is under way then is given up.

        Raises StoreFailed when the cluster cannot be reached, NotFound when a worker does not see the same files.
        """
        self._open()
        import ray

        asked = self._hired or self._hire(work, setup, gpu)
        self._hired = {}
        try:
            with _in_words():
                ready = self._muster(asked)
            yield Crew(ready)
        finally:
            for one in asked.values():
                # whoever is gone already need not be stopped
                with suppress(ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError):
                    ray.kill(one)

    def _hire(self, work: Work, setup: Setup, gpu: bool) -> dict[Any, Any]:
        """New workers, which set themselves up as soon as they have a place; by the answer of each that it is there."""
        import ray

        options, count = self._shares(gpu)
        landmark = Landmark.of(self._shared) if self._shared else None
        actor = ray.remote(Worker).options(max_restarts=-1, max_task_retries=TRIES_AGAIN, **options)
        workers = [actor.remote(work, setup, __version__, landmark) for _ in range(count)]
        asked = {one.ready.remote(): one for one in workers}
        for one in workers:
            one.prepare.remote()
        return asked

    def _shares(self, gpu: bool) -> tuple[dict[str, Any], int]:
        """What of a node each worker takes, and how many of them there can be."""
        import ray

        have = ray.cluster_resources()
        kind = "GPU" if gpu and have.get("GPU", 0) >= 1 else "CPU"
        most = max(1, int(have.get(kind, 1)))
        shares = {"num_cpus": 1, "num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        if self._workers and self._workers > most:
            self._notify(f"the cluster has room for {most} workers, not {self._workers}")
        return shares, min(self._workers or most, most)

    def _muster(self, asked: dict[Any, Any]) -> list[Any]:
        """The workers that are there, all of them where that takes no longer than START_SECONDS."""
        import ray

        here, _ = ray.wait(list(asked), num_returns=len(asked), timeout=START_SECONDS)
        if not here:
            self._notify("no worker has room yet; waiting for the cluster")
            here, _ = ray.wait(list(asked), num_returns=1)
        for failed in filter(None, ray.get(here)):
            raise failed.error
        return [asked[one] for one in here]

    def soon(self, work: Work | None = None, *, setup: Setup = int, gpu: bool = False) -> None:
        """Says that there will be something to do: Ray starts on this machine meanwhile.

        Where the next `work` is known, and how it will be called for, workers set themselves up too.
        """
        if self._keeper and self._keeper.released:
            self.close()
        if self._keeper or self._place.address:
            return
        self._told()
        import ray

        if not ray.is_initialized():
            self._notify("starting Ray")
            self._keeper = Keeper(partial(self._begin_here, work, setup, gpu), self._end_here)

    def let_go(self) -> None:
        """Says that there is nothing more to do: what was started here ends meanwhile."""
        if self._keeper:
            self._keeper.release()

    def _told(self) -> None:
        """What Ray reads of the environment when it is imported."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        if self._place.address:
            show_token()
        else:
            # whoever reaches a port of Ray runs code as this user, and Ray listens on every address: it asks for a
            # token, which is this process's own and in no file
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

    def _open(self) -> None:
        """Starts Ray on this machine, or reaches the cluster. Raises StoreFailed."""
        try:
            if self._place.address:
                self._reach()
                return
            self.soon()
            if self._keeper:
                self._keeper.wait()
        except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
            raise self._unreached(error) from error

    def _reach(self) -> None:
        self._told()
        import ray

        if ray.is_initialized():
            return
        self._reached = True  # what fails on its way has begun something too
        self._notify(f"reaching {self._place.host}")
        # Ray itself tries for half a minute
        socket.create_connection(self._place.socket, timeout=CONNECT_SECONDS).close()
        knock(self._place)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Ray Client", UserWarning)
            ray.init(self._place.address, **QUIET)

    def _begin_here(self, work: Work | None, setup: Setup, gpu: bool) -> None:
        self._init_here()
        if work:
            self._hired = self._hire(work, setup, gpu)

    def _init_here(self) -> None:
        import ray

        # a folder that only this user can enter: Ray lets anybody into those it makes
        self._folder = Path(tempfile.mkdtemp(prefix="memos-ray-", dir="/tmp" if Path("/tmp").is_dir() else None))
        with _TimedOut(), warnings.catch_warnings():
            # what Ray forks begins a program of its own at once, and touches no table
            warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
            warnings.filterwarnings("ignore", "lance is not fork-safe", UserWarning)
            ray.init(
                "local", num_cpus=self._workers or processors(), include_dashboard=False,
                object_store_memory=STORE_BYTES, _node_ip_address="127.0.0.1", _temp_dir=str(self._folder / "r"),
                **QUIET,
            )  # fmt: skip

    def _end_here(self) -> None:
        import ray

        ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _unreached(self, error: Exception) -> MemosError:
        told = _shortly(error) or type(error).__name__
        if self._place.address:
            return StoreFailed(
                f"expected a Ray cluster at {self._place.address}: {told}",
                hint="ray status tells on its head node; one with TLS needs RAY_USE_TLS=1 and certificates here too; "
                "--engine ray needs no cluster",
            )
        return MemosError(f"Ray did not start on this machine: {told}", hint="--engine local needs no Ray")

    def close(self) -> None:
        """Lets go of what was started or reached here."""
        if self._keeper:
            self._keeper.close()
            self._keeper = None
        if self._reached:
            import ray

            ray.shutdown()
            self._reached = False


def show_token() -> None:
    """Has Ray's client show the token of this user, which by itself it does only when RAY_AUTH_MODE says so."""
    kept = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))
    if os.environ.get("RAY_AUTH_TOKEN") or kept.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def knock(place: Where) -> None:
    """Asks a cluster whether it takes the token that is shown: Ray's client takes a no for silence, and asks on for
    half a minute. What else is in the way, Ray itself says. Shows what Ray's client would: the token and, with
    RAY_USE_TLS, the certificate. Raises StoreFailed where it says no."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    ping = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
    with init_grpc_channel(place.host) as channel:
        try:
            ray_client_pb2_grpc.RayletDriverStub(channel).ClusterInfo(ping, timeout=CONNECT_SECONDS)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                return
            shown = os.environ.get("RAY_AUTH_MODE") == "token"
            raise StoreFailed(
                f"the Ray cluster at {place.address} "
                + ("takes another token than the one shown" if shown else "asks for a token, and none is shown"),
                hint="export RAY_AUTH_TOKEN=..., what ray get-auth-token prints on its head node",
            ) from error


class _TimedOut:
    """Ray gives itself half a minute to start, and says that it took longer by an exception of no class of its own."""

    def __enter__(self) -> None:
        """Nothing to begin with."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is Exception:
            raise TimeoutError("not ready within half a minute; the machine is busy") from error


class Crew:
    """Workers that take items and give their results in order; only so many items are out at a time."""

    def __init__(self, workers: list[Any]) -> None:
        from ray.util import ActorPool

        # each stands in the pool as often as it may have items at once
        self._pool = ActorPool(workers * DEPTH)
        self._most = len(workers) * (DEPTH + WAITING)
        self._done: dict[int, Any] = {}
        self._taken = self._given = 0

    def put(self, item: Any) -> Iterator[Any]:
        """Hands an item to whoever is free, waiting for that; gives the results whose turn it is."""
        while not self._pool.has_free() or self._taken - self._given >= self._most:
            self._collect()
            yield from self._in_turn()
        self._pool.submit(lambda worker, value: worker.do.remote(*value), (self._taken, item))
        self._taken += 1

    def rest(self) -> Iterator[Any]:
        """The results that are still to come."""
        while self._given < self._taken:
            self._collect()
            yield from self._in_turn()

    def _collect(self) -> None:
        with _in_words():
            number, result = self._pool.get_next_unordered()
        if isinstance(result, Failed):
            raise result.error
        self._done[number] = result

    def _in_turn(self) -> Iterator[Any]:
        while self._given in self._done:
            self._given += 1
            yield self._done.pop(self._given - 1)


@contextmanager
def _in_words() -> Iterator[None]:
    """What Ray says of a worker that is gone, in the house's words; a mistake in the work itself passes as it is."""
    from ray import exceptions

    try:
        yield
    except exceptions.RayTaskError:
        raise
    except exceptions.RayError as error:
        raise MemosError(
            f"a worker of Ray was lost, and {TRIES_AGAIN} tries more did not help: {_shortly(error)}",
            hint="nothing was changed; look at memory and disk of the nodes, or use fewer --workers",
        ) from error


def _shortly(error: Exception) -> str:
    """What Ray says at the beginning and at the end, without the traces between them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:1] + lines[-1:] if len(lines) > 1 else lines)[:400]
