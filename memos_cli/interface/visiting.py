"""How a running process calls the Memory API for a client: the same verbs, at the client's desk and at no other.

    visit = Visit.to(home, client, served={"work": Path("/srv/work.cube")})
    found = visit.do(api.query, "work", "who may roll back a release?")

What `do` calls, and every step of a result that comes piece by piece, runs in a context in which each desk is the
client's, whichever thread it is in. Only verbs that are meant for clients can be called so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from memos_cli.errors import NotAllowed, Usage
from memos_cli.infrastructure import vault
from memos_cli.infrastructure.clients import Client
from memos_cli.interface.desks import GUEST, Guest, desk
from memos_cli.interface.warming import Warm

# The verbs that clients may be given; whether one may use them is for governance, on each call.
OPEN = frozenset(
    {
        "access_log", "answer", "answer_many", "audit", "cubes", "diff", "forget", "ingest_text", "log", "memories",
        "memory_log", "query", "query_many", "remember", "show", "show_memory",
    }
)  # fmt: skip
# What of `audit` and the like would read or write files of this machine.
_FILES = frozenset({"against", "policy", "tests", "update_baseline", "report", "home", "stdin"})

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Visit:
    """A client at a home, from which it can do what its bounds allow."""

    guest: Guest

    @classmethod
    def to(
        cls, home: Path, client: Client, *, served: Mapping[str, Path] | None = None, warm: Warm | None = None
    ) -> Visit:
        """The visit of a client to a home; `served` are the cubes that it may name, None for all that have names.

        `warm` is what the process keeps ready for all its clients.
        """
        return cls(Guest(home, client, served, warm))

    @property
    def client(self) -> Client:
        """Who it is."""
        return self.guest.client

    def names(self) -> list[str]:
        """What the cubes are called that it reaches."""
        seat = desk(None, guest=self.guest)
        return [seat.name_of(root) for root in seat.cubes()]

    def do(self, verb: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the verb gives back when the client calls it. Raises what it raises, NotAllowed for one not meant."""
        name = getattr(verb, "__name__", "")
        if name not in OPEN or not verb.__module__.startswith(f"{__package__}.") or not _FILES.isdisjoint(kwargs):
            raise NotAllowed(f"{name!r} is not for clients", hint=f"they may {', '.join(sorted(OPEN))}")
        context = copy_context()
        context.run(GUEST.set, self.guest)
        result = context.run(verb, *args, **kwargs)
        return cast(R, _steps(context, result)) if isinstance(result, Iterator) else result


def served(home: Path, cubes: Iterable[str]) -> dict[str, Path] | None:
    """The cubes that a process was started with, by the names that clients use; None without any.

    A path goes by its last part without `.cube`. Raises NotFound for one that is not there, Usage when two have the
    same name.
    """
    found: dict[str, Path] = {}
    for cube in cubes:
        root = vault.locate(vault.Vault(home).path(cube)).absolute()
        name = root.name.removesuffix(vault.SUFFIX)
        if found.setdefault(name, root) != root:
            raise Usage(f"expected cubes of different names, found {found[name]} and {root}")
    return found or None


_OVER = object()


def _steps(context: Context, steps: Iterator[Any]) -> Iterator[Any]:
    """The same pieces, each made in the context."""
    try:
        while (one := context.run(next, steps, _OVER)) is not _OVER:
            yield one
    finally:
        if close := getattr(steps, "close", None):
            context.run(close)
